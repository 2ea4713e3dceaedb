import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from whatwhere.data import CaptionDataConfig, Vocabulary, open_captions
from whatwhere.data.captions.scenes import SCENES, held_out, wordings
from whatwhere.errors import WhatwhereError

MODES = {"in memory": 4.0, "while training": 0.0}
both = pytest.mark.parametrize("memory_gb", MODES.values(), ids=MODES)
TRAIN = {"a.png": ["A dog runs.", "A dog."], "b.png": ["The dog sleeps."]}
TEST = {"v.png": ["A cat sleeps.", "Cats."]}
Sentences = dict[str, list[str]]


def write(root: Path, train: Sentences = TRAIN, test: Sentences = TEST, broken: tuple[str, ...] = ()) -> Path:
    """Write a table with its listings and images of one grey each."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    for number, name in enumerate([*train, *test]):
        path = root / "images" / name
        path.write_bytes(b"no image") if name in broken else Image.new("RGB", (12, 10), (40 * number,) * 3).save(path)
    lines = [f'{name},"{caption}"' for name, captions in (train | test).items() for caption in captions]
    (root / "captions.csv").write_text("\n".join(lines), encoding="utf-8")
    for part, listed in (("train", train), ("val", test)):
        (root / f"{part}.txt").write_text("\n".join(listed))
    return root


def opened(root: Path | str, **options: Any) -> Any:
    config = CaptionDataConfig(str(root), **{"size": 8, "min_count": 1, **options})
    return open_captions(config, progress=False)


def names(dataset: Any) -> list[str]:
    return [Path(image.path).name for image in dataset.images]


def messages(root: Path, **options: Any) -> tuple[Any, str]:
    """Return both parts, and the one warning."""
    with pytest.warns(RuntimeWarning) as seen:
        splits = opened(root, **options)
    assert len(seen) == 1
    return splits, str(seen[0].message)


@both
def test_sentences_to_learn_from_and_images_to_measure_on(tmp_path: Path, memory_gb: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train, test = opened(write(tmp_path), memory_gb=memory_gb)
    assert (names(train), names(test)) == (["a.png", "b.png"], ["v.png"])
    assert (len(train), len(test)) == (3, 1)
    assert [image.captions for image in train.images] == [tuple(one) for one in TRAIN.values()]
    assert (train.pixels is not None) == (memory_gb > 0)
    assert train.flip
    assert train.vocabulary is test.vocabulary
    assert train.vocabulary.words == ("dog", "a", "runs", "sleeps", "the")
    batch = train.__getitems__([2, 0])
    assert batch["images"][:, 0, 0, 0].tolist() == [40, 0]
    assert batch["words"].tolist() == [[6, 2, 5, 0], [3, 2, 4, 0]]
    assert set(test.__getitems__([0])) == {"images", "index"}
    assert train.problems == test.problems == train.broken == test.broken == []


def test_size_flip_and_least_count_of_folders(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": ["dog"] * 5 + ["cat"] * 4})
    train, _ = open_captions(CaptionDataConfig(str(tmp_path), flip=False), default_size=6, progress=False)
    assert train.size == 6
    assert not train.flip
    assert train.vocabulary.words == ("dog",)
    assert train.__getitems__([8])["words"].tolist() == [[1, 0]]  # an unknown word
    with pytest.raises(WhatwhereError, match=r"min_count=6: no word comes so often .* 5 times"):
        opened(tmp_path, min_count=6)


def test_a_vocabulary_of_an_earlier_run(tmp_path: Path) -> None:
    earlier = Vocabulary(["cat", "dog"])
    splits = open_captions(
        CaptionDataConfig(str(write(tmp_path)), size=8), vocabulary=earlier, default_size=8, progress=False
    )
    assert splits.train.vocabulary is splits.test.vocabulary is earlier
    assert splits.train.__getitems__([0])["words"].tolist() == [[1, 3, 1, 0]]


@both
def test_sentences_and_images_that_are_left_out_are_reported(tmp_path: Path, memory_gb: float) -> None:
    train = {"a.png": ["A dog runs far.", "A dog runs.", "?!.", " "], "b.png": [], "c.png": ["... -"]}
    train["d.png"] = ["Dog."]
    (one, two), message = messages(
        write(tmp_path, train, {"v.png": ["A cat."], "w.png": ["A cat on a bed."]}), longest=3, memory_gb=memory_gb
    )
    assert [image.captions for image in one.images] == [("A dog runs.", "?!."), ("Dog.",)]
    assert names(two) == ["v.png"]
    table = tmp_path / "captions.csv"
    assert [str(problem).removeprefix(f"{table}, ") for problem in one.problems] == [
        "line 4: the sentence is empty, left out",
        "a.png, sentence 1: it has 4 words, at most 3 are learned from, left out",
        "b.png: it has no sentence, left out",
        "c.png, sentence 1: it has no words, left out",
        "c.png: it has no sentence, left out",
    ]
    assert [problem.object for problem in two.problems] == ["w.png, sentence 1", "w.png"]
    assert message.startswith("7 problems in images and sentences:\n  3: it has no sentence, left out\n")
    assert f"the first:\n  {table}, line 4: the sentence is empty" in message


def test_many_problems_are_counted_and_ten_are_shown(tmp_path: Path) -> None:
    _, message = messages(write(tmp_path, {"a.png": ["dog", *["one two three four"] * 14]}), longest=3)
    assert message.startswith("14 problems in images and sentences:\n  14: it has 4 words, at most 3 are learned from")
    assert message.endswith("a.png, sentence 11: it has 4 words, at most 3 are learned from, left out\n  and 4 more")


@both
def test_broken_images(tmp_path: Path, memory_gb: float) -> None:
    root = write(tmp_path, TRAIN, {**TEST, "w.png": ["A dog."]}, broken=("a.png", "v.png"))
    if memory_gb:
        (train, test), message = messages(root, memory_gb=memory_gb)
        assert message.startswith("2 problems in images and sentences:\n  2: not an image of a known kind")
        assert f"the first:\n  {root / 'images' / 'a.png'}: not an image" in message
        assert (names(train), names(test)) == (["b.png"], ["w.png"])
        assert (len(train), len(test)) == (1, 1)
        batches = train.__getitems__([0]), test.__getitems__([0])
    else:
        train, test = opened(root, memory_gb=memory_gb)
        assert (len(train), len(test)) == (3, 2)
        with pytest.warns(RuntimeWarning, match="left out a broken image") as seen:
            batches = train.__getitems__([0, 2, 1]), test.__getitems__([0, 1])
        assert len(seen) == 2
        assert [batch["index"].tolist() for batch in batches] == [[2], [1]]
    assert [batch["images"][:, 0, 0, 0].tolist() for batch in batches] == [[40], [120]]
    assert batches[0]["words"].shape == (1, 4)
    assert [[Path(one.path).name for one in part.broken] for part in (train, test)] == [["a.png"], ["v.png"]]


@pytest.mark.parametrize(("broken", "part"), [(("a.png", "b.png"), "2 training"), (("v.png",), "1 test")])
def test_all_images_broken(tmp_path: Path, broken: tuple[str, ...], part: str) -> None:
    write(tmp_path, broken=broken)
    first = tmp_path / "images" / broken[0]
    with pytest.raises(WhatwhereError, match=rf"none of the {part} images of .* can be read, such as {first}: not an"):
        opened(tmp_path)
    splits = opened(tmp_path, memory_gb=0)
    dataset = splits[part == "1 test"]
    with pytest.warns(RuntimeWarning):
        assert len(dataset.__getitems__(range(len(dataset)))["index"]) == 0


@pytest.mark.parametrize("part", ["learn from", "measure on"])
def test_a_part_without_sentences(tmp_path: Path, part: str) -> None:
    train, test = ({"a.png": []}, TEST) if part == "learn from" else (TRAIN, {"v.png": ["one two three four five"]})
    reason = "a.png: it has no sentence" if part == "learn from" else "v.png, sentence 1: it has 5 words, at most 3"
    write(tmp_path, train, test)
    with pytest.raises(WhatwhereError, match=rf"has no image with a sentence to {part}: .*captions.csv, {reason}"):
        opened(tmp_path, longest=3)


def test_a_part_that_lists_nothing(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "val.txt").write_text("")
    with pytest.raises(WhatwhereError, match=r"has no image with a sentence to measure on: the files name none"):
        opened(tmp_path)


def test_limits_are_drawn_by_the_seed_and_keep_the_order(tmp_path: Path) -> None:
    images = {f"{i:02d}.png": ["A dog."] for i in range(20)}
    write(tmp_path, images, {f"v{name}": one for name, one in images.items()})
    drawn = [opened(tmp_path, train_limit=5, test_limit=4, data_seed=seed) for seed in (0, 0, 1)]
    assert [[len(part) for part in splits] for splits in drawn] == [[5, 4]] * 3
    assert names(drawn[0].train) == sorted(names(drawn[0].train)) == names(drawn[1].train) != names(drawn[2].train)
    assert len(opened(tmp_path, train_limit=99).train) == 20


def test_the_part_to_measure_on(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "test.txt").write_text("b.png")
    (tmp_path / "train.txt").write_text("a.png")
    assert names(opened(tmp_path, test_part="test").test) == ["b.png"]
    assert names(opened(tmp_path).test) == ["v.png"]


@pytest.mark.parametrize("layout", ["coco", "karpathy", "karpathy's file"])
def test_other_layouts(tmp_path: Path, layout: str) -> None:
    for name in ("a.png", "v.png", "t.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    if layout == "coco":
        (tmp_path / "annotations").mkdir()
        for part, name in (("train", "a.png"), ("val", "v.png")):
            content = {"images": [{"id": 1, "file_name": name}], "annotations": [{"image_id": 1, "caption": "A dog."}]}
            (tmp_path / "annotations" / f"captions_{part}2017.json").write_text(json.dumps(content))
        path = tmp_path
    else:
        images = [
            {"filename": name, "split": split, "sentences": [{"raw": "A dog."}]}
            for name, split in (("a.png", "train"), ("v.png", "val"), ("t.png", "test"))
        ]
        path = tmp_path / "dataset_x.json"
        path.write_text(json.dumps({"images": images}))
        assert names(opened(path, test_part="test").test) == ["t.png"]
        path = tmp_path if layout == "karpathy" else path
    train, test = opened(path)
    assert (names(train), names(test), train.caption(0)) == (["a.png"], ["v.png"], "A dog.")


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WhatwhereError, match=r"there is no scnes; did you mean 'scenes'\?.*expected COCO captions"):
        opened("scnes")
    with pytest.raises(WhatwhereError, match=r"has no sentences that are known here, it has nothing; expected COCO"):
        opened(tmp_path)
    for i in range(12):
        (tmp_path / f"{i:02d}.txt").touch()
    with pytest.raises(WhatwhereError, match=r"it has 00.txt, .*, 07.txt and 4 more; expected COCO"):
        opened(tmp_path)
    with pytest.raises(WhatwhereError, match=r"00.txt is no JSON file; expected .* and for the last the folder"):
        opened(tmp_path / "00.txt")


def test_flickr8ks_own_files_are_not_read_and_it_is_said_what_is(tmp_path: Path) -> None:
    (tmp_path / "Flickr8k.token.txt").write_text("a.png#0\tA dog , running .\n")
    with pytest.raises(WhatwhereError, match=r"it has Flickr8k.token.txt; .*captions.csv \(image, caption\)"):
        opened(tmp_path)
    (tmp_path / "train.txt").write_text("a.png")
    (tmp_path / "val.txt").write_text("b.png")
    (tmp_path / "Flickr8k.token.txt").rename(tmp_path / "captions.txt")
    with pytest.raises(WhatwhereError, match=r"captions.txt has no sentence that can be used: a line must be .* comma"):
        opened(tmp_path)


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "data")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(opened("~/data").train) == 3
    assert CaptionDataConfig("~/data").absolute().data == str(tmp_path / "data")
    assert CaptionDataConfig("~/gone").absolute().data == "~/gone"
    assert CaptionDataConfig().absolute() == CaptionDataConfig()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({name: 0}, f"{name}=0: must be at least 1") for name in ("size", "min_count", "longest", "train_limit")),
        ({"test_limit": -1}, "test_limit=-1: must be at least 1"),
        ({"data_seed": -1}, "data_seed=-1: must be at least 0"),
        ({"memory_gb": float("nan")}, "memory_gb=nan: must be at least 0"),
        ({"test_part": "dev"}, "test_part='dev': must be 'val' or 'test'"),
    ],
)
def test_configs_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(WhatwhereError, match=message):
        CaptionDataConfig(**options)


def test_the_most_words() -> None:
    configs = CaptionDataConfig(), CaptionDataConfig("coco"), CaptionDataConfig("coco", longest=7)
    assert [config.most_words for config in configs] == [20, 50, 7]


def scenes(**options: Any) -> Any:
    config = CaptionDataConfig("scenes:train=200:test=60:size=48:scale=0.3-0.42:contrast=0.2", **options)
    return open_captions(config, progress=False)


def test_scenes() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train, test = scenes()
    assert len(train.images) == len(train) == 200
    assert len(test.images) == len(test) == 60
    assert train.size == train.pixels.shape[-1] == 48
    assert not train.flip
    for part, count in ((train, 1), (test, 8)):
        for image in part.images:
            every = {*wordings(image.facts), *wordings(image.facts.turned())}
            assert len(set(image.captions)) == count
            assert set(image.captions) <= every
    assert any(image.unseen for image in test.images)
    assert not any(image.unseen for image in train.images)
    spoken = {word for image in test.images for caption in image.captions for word in caption.split()}
    assert spoken <= set(train.vocabulary.words)
    every = [(*wordings(image.facts), *wordings(image.facts.turned())) for image in train.images]
    assert {s.index(image.captions[0]) for s, image in zip(every, train.images, strict=True)} == set(range(8))


def test_scenes_are_the_same_for_a_seed() -> None:
    one, again, other = scenes(), scenes(), scenes(data_seed=1, train_limit=20, test_limit=10)
    for part in (0, 1):
        assert one[part].images == again[part].images
        assert one[part].images[:10] != other[part].images[:10]
        assert torch.equal(one[part].pixels, again[part].pixels)
    assert held_out(0) != held_out(1)


def test_options_of_scenes() -> None:
    train, test = open_captions(
        CaptionDataConfig("scenes:train=20:size=40", test_limit=10, flip=True, min_count=3, longest=5), progress=False
    )
    assert (train.size, len(train.images), len(test), train.flip) == (40, 20, 10, True)
    assert open_captions(CaptionDataConfig("scenes:train=20:test=10"), progress=False).train.size == SCENES.size
    assert all(sum(word in one.split() for i in train.images for one in i.captions) for word in train.vocabulary.words)


def test_images_are_decoded_while_training_where_they_are_not_wanted_in_memory(tmp_path: Path) -> None:
    config = CaptionDataConfig(str(write(tmp_path, broken=("a.png",))), size=8, min_count=1)
    train, test = open_captions(config, in_memory=False, progress=False)
    assert train.pixels is test.pixels is None
    assert names(train) == ["a.png", "b.png"]
