"""Weights of others into a network."""

import itertools

import pytest
import torch
from torch import nn

import whatwhere as ww
from whatwhere.checkpoints import build
from whatwhere.networks import ModelConfig

from .loading import STAGES, images, refused, resnet, same, state, with_attention
from .official import official


def wrap(weights, how):
    if how == "bare":
        return weights
    parallel = {f"module.{key}": value for key, value in weights.items()}
    if how == "trainer":
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(2))], 0.1).state_dict()
        return {
            "epoch": 3,
            "arch": "resnet",
            "state_dict": parallel,
            "best_prec1": torch.tensor(70.0),
            "optimizer": optimizer,
        }
    return {how: parallel}


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        *itertools.product(["cbam", "bam"], ["bare", "trainer"]),
        ("cbam", "model"),
        (None, "net"),
        ("bam", "model_state"),
    ],
)
def test_official_checkpoints_give_the_official_outputs(kind, how, tmp_path):
    theirs = official(kind)
    torch.save(wrap(theirs.state_dict(), how), tmp_path / "official.pth")
    ours = with_attention(kind)
    report = ww.load(ours, tmp_path / "official.pth")
    assert report.complete
    assert len(report.loaded) == len(theirs.state_dict())
    assert how == "bare" or "module." in report.format
    assert kind is None or kind.upper() in report.format
    for dtype in (torch.float32, torch.float64):
        x = images(dtype)
        with torch.no_grad():
            expected, got = theirs.to(dtype)(x), ours.to(dtype).eval()(x)
        assert (got - expected).abs().max() <= (1e-5 if dtype == torch.float32 else 1e-12) * expected.abs().max()


def test_official_checkpoint_without_spatial_gates(tmp_path):
    theirs = official("cbam", spatial=False)
    torch.save(theirs.state_dict(), tmp_path / "official.pth")
    assert 'insert(model, "cbam", identity=False, spatial=False)' in refused(
        with_attention("cbam", reduction=8), tmp_path / "official.pth"
    )
    ours = with_attention("cbam", spatial=False)
    ww.load(ours, tmp_path / "official.pth")
    torch.testing.assert_close(ours.eval()(images()), theirs(images()))


@pytest.mark.parametrize("kind", ["cbam", "bam"])
def test_a_network_without_attention_is_told_how_to_get_it(kind, tmp_path):
    torch.save(official(kind).state_dict(), tmp_path / "official.pth")
    model = resnet()
    message = refused(model, tmp_path / "official.pth")
    call = next(part for part in message.splitlines() if "whatwhere.insert(" in part).partition(": ")[2]
    eval(call.replace("whatwhere.", "ww."), {"ww": ww, "model": model})
    assert ww.load(model, tmp_path / "official.pth").complete


def test_other_formulas_are_refused(tmp_path):
    torch.save(official("cbam").state_dict(), tmp_path / "cbam.pth")
    torch.save(official("bam").state_dict(), tmp_path / "bam.pth")
    model = resnet()
    ww.insert(model, "cbam", example=images())
    assert "identity=True" in refused(model, tmp_path / "cbam.pth")
    for name, options, word in [
        ("cbam", {"order": "spatial-channel"}, "order='spatial-channel'"),
        ("cbam", {"spatial_pools": ("avg", "max")}, "spatial_pools"),
        ("cbam", {"pools": ("avg", "lp")}, "pools"),
        ("cbam", {"gate": "hard_sigmoid"}, "gate='hard_sigmoid'"),
        ("se", {}, "it is SE"),
        ("cbam", {"reduction": 4}, "16×64 here, 4×64 in the file"),
    ]:
        model = resnet()
        ww.insert(model, name, identity=False, example=images(), **options)
        assert word in refused(model, tmp_path / "cbam.pth")
    for options, word in [({"dilation": 2}, "dilation=2"), ({"combine": "sum"}, "combine='sum'")]:
        model = resnet()
        ww.insert(model, "bam", at=STAGES, identity=False, example=images(), **options)
        assert word in refused(model, tmp_path / "bam.pth")


def test_attention_elsewhere_is_refused(tmp_path):
    torch.save(official("cbam").state_dict(), tmp_path / "cbam.pth")
    torch.save(official("bam").state_dict(), tmp_path / "bam.pth")
    model = resnet()
    ww.insert(model, "cbam", at="layer?.?.bn1", identity=False, example=images())
    assert "layer1.0.bn1" in refused(model, tmp_path / "cbam.pth")
    model = resnet()
    # In the branches, not after the stages.
    ww.insert(model, "bam", at="layer[123].*", identity=False, example=images())
    assert "after layer1" in refused(model, tmp_path / "bam.pth")


def test_bam_appended_by_hand_is_found(tmp_path):
    torch.save(official("bam").state_dict(), tmp_path / "bam.pth")
    model = resnet()
    for number, stage in enumerate(STAGES):
        model.get_submodule(stage).append(ww.BAM(64 * 2**number))
    ww.load(model, tmp_path / "bam.pth")
    torch.testing.assert_close(model.eval()(images()), official("bam")(images()))


@pytest.mark.parametrize("first", [True, False])
def test_plain_weights_before_and_after_insertion(first, tmp_path):
    plain = resnet().eval()
    torch.save(plain.state_dict(), tmp_path / "plain.pt")
    model = resnet()
    steps = [lambda: ww.load(model, tmp_path / "plain.pt"), lambda: ww.insert(model, "cbam", example=images())]
    done = [step() for step in (steps if first else steps[::-1])]
    report = done[0] if first else done[1]
    assert report.complete
    assert bool(report.left) is not first
    assert ("attention left as it is" in str(report)) is not first
    torch.testing.assert_close(model.eval()(images()), plain(images()))


def test_counters_of_old_checkpoints_may_be_missing(tmp_path):
    weights = {k: v for k, v in official("cbam").state_dict().items() if "num_batches" not in k}
    torch.save(weights, tmp_path / "old.pth")
    model = with_attention("cbam")
    model.bn1.num_batches_tracked += 7
    report = ww.load(model, tmp_path / "old.pth")
    assert report.complete
    assert report.counters
    assert model.bn1.num_batches_tracked == 7


def test_another_head(tmp_path):
    torch.save(official(None, classes=20).state_dict(), tmp_path / "w.pth")
    model = resnet()
    assert 'skip="fc.*"' in refused(model, tmp_path / "w.pth")
    head = state(model.fc)
    assert ww.load(model, tmp_path / "w.pth", skip="fc.*").skipped == ["fc.bias", "fc.weight"]
    other = resnet()
    other.fc.load_state_dict(head)
    report = ww.load(other, tmp_path / "w.pth", strict=False)
    assert len(report.mismatched) == 2
    assert not report.complete
    assert same(state(model), other)
    assert same(head, model.fc)


def test_missing_and_unexpected_are_listed(tmp_path):
    weights = resnet().state_dict()
    del weights["layer1.0.conv1.weight"]
    torch.save({**weights, **{f"extra.{i}": torch.zeros(2) for i in range(30)}}, tmp_path / "w.pth")
    message = refused(resnet(), tmp_path / "w.pth")
    assert "missing in the file: layer1.0.conv1.weight" in message
    assert "extra.9" in message
    assert "extra.10" not in message
    assert "(30 in all)" in message
    report = ww.load(resnet(), tmp_path / "w.pth", strict=False)
    assert len(report.unexpected) == 30
    assert ww.load(resnet(), tmp_path / "w.pth", skip=["extra.*", "layer1.0.conv1.*"]).complete


def test_partly_missing_attention_is_an_error(tmp_path):
    weights = {
        k: v for k, v in with_attention("cbam").state_dict().items() if not k.startswith("layer4.0.bn2.attention")
    }
    torch.save(weights, tmp_path / "w.pth")
    assert "layer4.0.bn2.attention.channel.mlp.fc1.weight" in refused(with_attention("cbam"), tmp_path / "w.pth")


def test_dtype_and_identity_of_tensors_stay(tmp_path):
    torch.save(official("cbam").double().state_dict(), tmp_path / "w.pth")
    model = with_attention("cbam").bfloat16()
    objects = dict(model.named_parameters())
    pointers = {key: p.data_ptr() for key, p in objects.items()}
    ww.load(model, tmp_path / "w.pth")
    assert all(p is objects[key] and p.data_ptr() == pointers[key] for key, p in model.named_parameters())
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_what_does_not_fit_a_dtype_is_not_loaded(tmp_path):
    weights = resnet().state_dict()
    torch.save({**weights, "fc.bias": torch.full((10,), 1e6)}, tmp_path / "large.pth")
    assert "too large" in refused(resnet().half(), tmp_path / "large.pth")
    torch.save({**weights, "fc.bias": torch.zeros(10, dtype=torch.int32)}, tmp_path / "int.pth")
    assert "torch.int32 in the file" in refused(resnet(), tmp_path / "int.pth")
    torch.save({**weights, "fc.bias": torch.zeros(10).to_sparse()}, tmp_path / "sparse.pth")
    assert "sparse" in refused(resnet(), tmp_path / "sparse.pth")
    with torch.device("meta"):
        model = resnet()
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(ww.WhatwhereError, match="meta device"):
        ww.load(model, tmp_path / "w.pth")


def test_wrapped_models(tmp_path):
    weights = resnet().state_dict()
    torch.save({f"_orig_mod.module.{k}": v for k, v in weights.items()}, tmp_path / "w.pth")
    for wrapped in (nn.DataParallel(resnet()), torch.compile(resnet())):
        ww.load(wrapped, tmp_path / "w.pth")
        plain = wrapped.module if isinstance(wrapped, nn.DataParallel) else wrapped._orig_mod
        assert same(weights, plain)


def test_names_that_begin_like_a_wrapper_are_the_networks_own(tmp_path):
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = nn.Linear(3, 3)

    theirs, ours = Outer(), Outer()
    torch.save({f"module.{k}": v for k, v in theirs.state_dict().items()}, tmp_path / "w.pth")
    ww.load(ours, tmp_path / "w.pth")
    assert same(state(theirs), ours)


def test_a_file_of_another_network(tmp_path):
    torch.save(resnet().state_dict(), tmp_path / "w.pth")
    model = build(ModelConfig("small-vgg"))
    refused(model, tmp_path / "w.pth")
    assert "nothing of" in refused(model, tmp_path / "w.pth", strict=False)


def test_own_checkpoints_say_which_formula_they_have(tmp_path):
    config = ModelConfig("small-resnet", "cbam")
    theirs = build(config)
    path = ww.save(theirs, tmp_path / "own.safetensors")
    ours = build(config)
    assert ww.load(ours, path).complete
    assert same(state(theirs), ours)
    for spec in ("cbam:paper", "cbam:gate=hard_sigmoid", "cbam:pools=avg+lp"):
        assert "insert(model, 'cbam', identity=True)" in refused(build(ModelConfig("small-resnet", spec)), path)
    assert "whatwhere's attention" in refused(build(ModelConfig("small-resnet")), path)
