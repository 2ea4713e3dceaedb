"""The task caption: its batches, loss, scores, networks, and the sentences that it writes."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import whatwhere as ww
from whatwhere.data import CaptionDataConfig
from whatwhere.errors import WhatwhereError
from whatwhere.networks import ModelConfig
from whatwhere.networks.captioning.attention import KINDS
from whatwhere.tasks import CannotNarrow, create
from whatwhere.tasks.caption import Caption
from whatwhere.tasks.captioning.config import PAPER, CaptionConfig
from whatwhere.training import Recipe, load_run, train

DATA = CaptionDataConfig("scenes:train=24:test=12")
TINY = CaptionConfig(DATA, hidden=32)
CPU = torch.device("cpu")
SENTENCES = ["a red square on white", "a blue square on white", "a green square on grey", "a square in the middle"]


@pytest.fixture(scope="module")
def task():
    return Caption(TINY)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("caption") / "run"
    task = create("caption", {"data": {"data": "scenes:train=120:test=16"}, "hidden": 32, "layers": 2})
    return task, folder, train(task, Recipe(epochs=2, batch_size=12), folder, progress=False)


@pytest.fixture
def images(tmp_path):
    """A folder with a table of sentences, and weights of a network to start from."""
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = []
    for number in range(12):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        lines += [f"{number}.png,{SENTENCES[number % 4]}", f'{number}.png,"{SENTENCES[number % 3]}, said again"']
    (tmp_path / "captions.csv").write_text("image,caption\n" + "\n".join(lines) + "\n")
    (tmp_path / "train.txt").write_text("\n".join(f"{n}.png" for n in range(8)) + "\n")
    (tmp_path / "val.txt").write_text("\n".join(f"{n}.png" for n in range(8, 12)) + "\n")
    torch.manual_seed(0)
    network = ww.build(ww.ModelConfig("small-resnet"))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics of its own
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    return tmp_path


def of_folder(folder, **options):
    data = CaptionDataConfig(str(folder), size=32, min_count=1)
    model = ModelConfig(weights=str(folder / "weights.pth"))
    return CaptionConfig(data, model, hidden=32, **options)


def test_config_is_json_and_gives_the_same_task_without_opening_the_data(task, monkeypatch):
    config = json.loads(json.dumps(task.config))
    assert config["resolved"]["size"] == 56
    assert config["resolved"]["words"] == list(task.vocabulary.words)

    def refuse(*_, **__):
        raise AssertionError("the data was opened")

    monkeypatch.setattr("whatwhere.tasks.caption.open_captions", refuse)
    again = create("caption", config)
    assert again.config == task.config
    assert again.headline == task.headline
    one, two = task.build(3).state_dict(), again.build(3).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_the_same_seed_gives_all_kinds_the_same_weights_where_they_have_the_same():
    states = [Caption(replace(TINY, attention=kind)).build(5).state_dict() for kind in KINDS]
    shared = [key for key in states[0] if all(key in state for state in states)]
    assert {"words.weight", "lstm.weight_hh", "output.weight", "first_h.weight"} <= set(shared)
    assert any(key.startswith("encoder.") for key in shared)
    assert all(torch.equal(states[0][key], state[key]) for state in states for key in shared)


def test_the_loss_is_cross_entropy_over_the_words_and_the_end(task):
    model = task.build(0).eval()
    batch = task.prepare(task.train_set.__getitems__([0, 5, 9]), CPU)
    logits = model(batch["inputs"], batch["words"]).log_softmax(-1)
    losses = []
    for row, words, length in zip(logits, batch["words"], batch["lengths"].tolist(), strict=True):
        losses += [-row[i, words[i]].item() for i in range(length)]
    plain = Caption(replace(TINY, label_smoothing=0.0))
    assert plain.loss(model, batch)[0].item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    summed = Caption(replace(TINY, label_smoothing=0.0, loss="sentence"))
    assert summed.loss(model, batch)[0].item() == pytest.approx(sum(losses) / 3, rel=1e-5)
    smoothed = Caption(replace(TINY, label_smoothing=0.1))
    uniform = -(logits * (torch.arange(logits.shape[1]) < batch["lengths"][:, None])[..., None]).sum() / len(losses)
    mixed = 0.9 * sum(losses) / len(losses) + 0.1 * uniform.item() / logits.shape[2]
    assert smoothed.loss(model, batch)[0].item() == pytest.approx(mixed, rel=1e-5)
    assert task.loss(model, batch)[0].item() == plain.loss(model, batch)[0].item()  # none on scenes by itself


def test_padding_changes_nothing(task):
    model = task.build(0).eval()
    batch = task.prepare(task.train_set.__getitems__([0, 5]), CPU)
    longer = {**batch, "words": torch.nn.functional.pad(batch["words"], (0, 3))}
    assert task.loss(model, batch)[0].item() == pytest.approx(task.loss(model, longer)[0].item(), rel=1e-5)


def test_training_measures_the_sentences_that_the_network_writes(run):
    task, folder, result = run
    rows = result.rows
    keys = {"bleu1", "bleu4", "rouge_l", "cider_d", "digits", "colours", "relation", "all", "unseen"}
    assert {f"test_{key}" for key in keys} <= rows[-1].keys()
    assert result.metric == "all"
    kept = json.loads((folder / "captions.json").read_text())
    assert len(kept["images"]) == 16
    loaded = load_run(folder)
    batch = task.prepare(task.test_set.__getitems__([0, 1, 2]), CPU)
    written = [task.vocabulary.decode(best[0].words) for best in loaded.task.predict(loaded.model, batch)]
    assert written == [one["caption"] for one in kept["images"][:3]]


def test_a_run_describes_an_image_and_shows_what_it_attended_to(run, tmp_path):
    _, folder, _ = run
    loaded = load_run(folder)
    pixels = loaded.task.test_set.pixels[2]
    before = {key: value.clone() for key, value in loaded.model.state_dict().items()}
    sentences = loaded.task.describe(loaded.model, pixels, beam=4)
    assert 1 <= len(sentences) <= 4
    assert all(a.log_probability >= b.log_probability for a, b in itertools.pairwise(sentences))
    seen = loaded.task.view(loaded.model, pixels, target="a red seven left of a blue one")
    assert seen.caption == "a red seven left of a blue one"
    assert seen.words[-1].word == "<end>"
    assert [gate.shape for gate in seen.words[0].spatial] == [(7, 7), (7, 7)]
    assert all(gate.mean().item() == pytest.approx(1, abs=1e-4) for word in seen.words for gate in word.spatial)
    drawing = loaded.task.look(loaded.model, 2)
    for suffix in ("png", "html", "gif"):
        assert drawing.save(tmp_path / f"look.{suffix}").stat().st_size > 1000
    assert all(torch.equal(before[key], value) for key, value in loaded.model.state_dict().items())
    with pytest.raises(WhatwhereError, match="has no words"):
        loaded.task.view(loaded.model, pixels, target="?!".strip("!?") + ".")


def test_values_of_a_frozen_encoder_are_kept_and_give_what_the_images_give(images):
    frozen = Caption(of_folder(images, augment="none"))
    batch = frozen.train_set.__getitems__([0, 3])
    assert "images" not in batch
    assert "mirrored" not in batch
    model = frozen.build(0).eval()
    kept = model(frozen.prepare(batch, CPU)["inputs"], batch["words"])
    pixels = torch.stack([frozen.splits.train.fetch(frozen.splits.train.image_of(i)) for i in (0, 3)])
    direct = model(frozen.preprocessing.normalise(pixels), batch["words"])
    assert torch.allclose(kept, direct, atol=2e-3)
    assert not torch.equal(kept, direct)  # half precision
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())


def test_costs_are_measured_on_images_which_all_kinds_take(images):
    task = Caption(of_folder(images))
    batch = task.example(2, CPU)
    assert batch["images"].shape == (2, 3, 32, 32)
    for kind in ("none", "c-s:layers=2"):
        model = create("caption", task.attended(kind)).build(0)
        assert torch.isfinite(task.loss(model, batch)[0])


def test_mirrored_values_come_at_random_in_training_only(images):
    task = Caption(of_folder(images))
    batch = task.train_set.__getitems__(list(range(8)))
    (name,) = batch["values"]
    plain, mirrored = batch["values"][name], batch["mirrored"][name]
    assert torch.equal(task.prepare(batch, CPU)["inputs"][name], plain)
    drawn = task.prepare(batch, CPU, torch.Generator().manual_seed(1))["inputs"][name]
    flipped = [torch.equal(row, other) for row, other in zip(drawn, mirrored, strict=True)]
    assert 0 < sum(flipped) < 8
    assert all(torch.equal(row, a) for row, a, flip in zip(drawn, plain, flipped, strict=True) if not flip)
    assert "mirrored" not in task.test_set.__getitems__([0])


def test_the_last_stages_learn_and_only_they(images):
    task = Caption(of_folder(images, trained_stages=1))
    model = task.build(0)
    learns = {name for name, parameter in model.encoder.named_parameters() if parameter.requires_grad}
    assert learns
    assert all(name.startswith("stages.2") for name in learns)
    batch = task.prepare(task.train_set.__getitems__([0, 1]), CPU)
    task.loss(model.train(), batch)[0].backward()
    assert all(model.encoder.get_parameter(name).grad.abs().sum() > 0 for name in learns)


def test_a_broken_image_is_left_out_and_reported(images, tmp_path):
    (images / "images" / "3.png").write_bytes(b"no image")
    task = Caption(of_folder(images))
    with pytest.warns(RuntimeWarning, match=r"3\.png"):
        result = train(task, Recipe(epochs=1, batch_size=4), tmp_path / "run", progress=False)
    assert len(result.broken) == 1
    assert "3.png" in result.broken[0]


def test_unknown_words_are_never_written(images):
    data = CaptionDataConfig(str(images), size=32, min_count=8)  # few words are known
    task = Caption(replace(of_folder(images), data=data))
    assert 1 in {int(n) for n in task.train_set.__getitems__(list(range(8)))["words"].flatten()}
    model = task.build(0).eval()
    with torch.no_grad():
        model.output.bias[1] = 50.0  # the unknown word is by far the likeliest
    for best in task.predict(model, task.prepare(task.test_set.__getitems__([0, 1]), CPU)):
        assert all(1 not in sentence.words for sentence in best)


def test_the_control_has_at_least_the_parameters_asked_for(task):
    def count(config):
        return sum(parameter.numel() for parameter in create("caption", config).build(0).parameters())

    plain = count(task.attended("none"))
    wider = task.widened(20_000)
    assert wider["attention"] == "none"
    assert plain + 20_000 <= count(wider) < plain + 60_000
    with pytest.raises(CannotNarrow):
        task.narrowed(10)


def test_kinds_of_a_study(task):
    assert task.attended("c-s:layers=2")["layers"] == 2
    assert Caption.describe_attention("soft") == KINDS["soft"].title
    with pytest.raises(WhatwhereError, match="did you mean"):
        task.attended("sof")
    with pytest.raises(WhatwhereError, match="one map"):
        task.attended("soft:layers=2")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"attention": "cbam"}, "must be one of none, soft"),
        ({"hidden": 0}, "hidden=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"layers": 0}, "layers=0"),
        ({"layers": 2, "attention": "soft"}, "one map, not at several"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"length_power": -1.0}, "length_power=-1.0"),
        ({"beam": 0}, "beam=0"),
        ({"start": "zero"}, "start='zero'"),
        ({"trained_stages": -1}, "trained_stages=-1"),
    ],
)
def test_wrong_configs_are_explained(options, says):
    with pytest.raises(WhatwhereError) as error:
        CaptionConfig(DATA, **options)
    assert says in str(error.value)


def test_wrong_maps_are_explained():
    with pytest.raises(WhatwhereError, match=r"has no map 'layer9'.*Its last maps"):
        Caption(replace(TINY, attend=("layer9",))).build(0)
    with pytest.raises(WhatwhereError, match="3 stages"):
        Caption(replace(TINY, trained_stages=7)).build(0)


def test_the_papers_recipe_trains(tmp_path):
    config = CaptionConfig(DATA, **{**PAPER["config"], "hidden": 32, "attention_dim": 16, "word_dim": 16})
    recipe = Recipe(**{**PAPER["recipe"], "epochs": 2, "batch_size": 8})
    result = train(create("caption", config), recipe, tmp_path / "run", progress=False)
    losses = [row["train_loss"] for row in result.rows]
    assert all(map(math.isfinite, losses))
    assert losses[1] < losses[0]
