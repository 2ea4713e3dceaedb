"""Folding: exact where gates stand still, nothing where they move, and never half done."""

import copy

import pytest
import torch
from torch import nn

import whatwhere as ww
from whatwhere.errors import WhatwhereError


def close(got, want, share=2e-6):
    return float((got - want).detach().abs().max()) <= share * float(want.detach().abs().max())


def fold(model, data, *args, **options):
    return ww.fold(model, data, *args, **{"seconds": 0, **options})


@pytest.mark.parametrize("name", ["se", "cam"])
@pytest.mark.parametrize("identity", [True, False])
def test_constant_gates_go_into_convolution_and_norm(network, still, images, name, identity):
    model = network()
    plain = list(model.state_dict())
    ww.insert(model, name, example=images[:1], identity=identity)
    still(model).eval()
    want = model(images)
    conv = model.blocks[0].last.weight
    before = conv.detach().clone()
    report = fold(model, images, tolerance=0)
    assert report.folded == ["blocks.0.last", "blocks.1.last"]
    assert {(p.part, p.why) for p in report.sites} == {("all", "")}
    assert close(model(images), want)
    assert ww.attentions(model) == {}
    assert list(model.state_dict()) == plain
    assert model.blocks[0].last.weight is conv
    assert not conv.equal(before)
    assert report.parameters[0] > report.parameters[1] == sum(p.numel() for p in model.parameters())
    assert report.multiply_adds[0] > report.multiply_adds[1]
    assert report.quality["after"].difference < 1e-6


@pytest.mark.parametrize("options", [{"bias": False}, {"bias": True, "groups": 3}], ids=str)
def test_other_convolutions(network, block, still, images, options):
    model = network(block(12, nn.Conv2d(12, 12, 1, **options)))
    ww.insert(model, "se", example=images[:1])
    still(model).eval()
    want = model(images)
    assert fold(model, images).folded == ["blocks.0.last"]
    assert close(model(images), want)


def test_of_a_cbam_the_spatial_part_stays(network, still, images):
    model = network()
    ww.insert(model, "cbam", example=images[:1])
    still(model).eval()
    want = model(images)
    spatial = model.blocks[1].last.attention.spatial
    with ww.capture(model) as seen:
        model(images)
    before = seen["blocks.1.last"].spatial
    assert before.std() > 0.01
    report = fold(model, images)
    assert [p.part for p in report.sites] == ["channel", "channel"]
    assert close(model(images), want)
    assert ww.attentions(model)["blocks.1.last"] is spatial
    with ww.capture(model) as seen:
        model(images)
    assert seen["blocks.1.last"].channel is None
    assert close(seen["blocks.1.last"].spatial, before, 1e-5)
    assert fold(model, images).folded == []
    assert ww.remove(model) == 2


def test_a_folded_network_trains_on_and_runs_in_float64(network, still, images):
    model = network().double()
    ww.insert(model, "se", example=images[:1].double())
    still(model).eval()
    want = model(images.double())
    fold(model, images.double())
    torch.testing.assert_close(model(images.double()), want, rtol=1e-12, atol=1e-12)
    model.train()(images.double()).sum().backward()
    assert all(p.grad is not None and p.requires_grad for p in model.parameters())


def test_gates_that_move_stay(network, moving, images, snapshot, same):
    model = moving(network())
    ww.insert(model, "se", example=images[:1], reduction=2, identity=False)
    moving(model, 1)
    before = snapshot(model)
    report = fold(model, images, tolerance=1e-3)
    assert report.folded == []
    assert {p.why for p in report.sites} == {"its gates move"}
    assert same(snapshot(model), before)
    assert "after" not in report.quality
    assert report.inference is None


def test_the_tolerance_is_a_bound_on_the_worst_channel(network, block, moving, images):
    model = network(block(12, nn.BatchNorm2d(12)))
    ww.insert(model, "se", example=images[:1], reduction=2, identity=False)
    moving(model).eval()
    with ww.capture(model) as seen:
        model(images)
    gates = seen["blocks.0.last"].channel.flatten(1).double()
    movement = float(gates.std(0, correction=0).max() / gates.mean())
    weight = model.blocks[0].last.weight.detach().clone()
    assert fold(copy.deepcopy(model), images, tolerance=movement * (1 - 1e-6)).folded == []
    report = fold(model, images, tolerance=movement * (1 + 1e-6))
    (site,) = report.sites
    assert site.part == "all"
    assert site.movement == pytest.approx(movement)
    assert site.deviation == pytest.approx(float(gates.std(0, correction=0).max()))
    assert site.range == pytest.approx(float((gates.amax(0) - gates.amin(0)).max()))
    assert site.mean == pytest.approx(float(gates.mean()))
    torch.testing.assert_close(model.blocks[0].last.weight.double(), weight.double() * gates.mean(0))
    assert 0 < report.quality["after"].difference < 1


def test_one_moving_channel_is_enough_to_stay(network, block, still, images):
    model = network(block(12, nn.BatchNorm2d(12)))
    ww.insert(model, "se", example=images[:1], reduction=1)
    still(model).eval()
    images = images * torch.linspace(0.1, 4, len(images))[:, None, None, None]
    assert fold(model, images, dry_run=True).folded == ["blocks.0.last"]
    nn.init.ones_(model.blocks[0].last.attention.mlp.fc2.weight[7])
    (site,) = fold(model, images).sites
    assert site.why == "its gates move"
    assert site.movement > 0.05


def test_a_dry_run_tells_the_same_and_changes_nothing(network, still, images, snapshot, same):
    model = network()
    ww.insert(model, "cbam", example=images[:1])
    still(model)
    before = snapshot(model)
    labels = torch.arange(24) % 5
    dry = fold(model, [(images, labels)], dry_run=True)
    assert same(snapshot(model), before)
    assert "would be folded" in str(dry)
    wet = fold(model, [(images, labels)])
    assert (wet.sites, wet.parameters, wet.quality) == (dry.sites, dry.parameters, dry.quality)
    assert not same(snapshot(model), before)


def test_flags_gradients_and_other_modules_are_kept(network, still, images, snapshot):
    model = network()
    ww.insert(model, "se", example=images[:1])
    still(model).train()
    model.blocks[0].eval()
    model.stem.weight.requires_grad_(False)
    model(images).sum().backward()
    modules, tensors, gradients = snapshot(model)
    fold(model, images)
    after = snapshot(model)
    left = {m[0] for m in after[0]}
    assert [(m[0], m[2]) for m in after[0]] == [(m[0], m[2]) for m in modules if m[0] in left]
    assert [t[:3] for t in after[1]] == [t[:3] for t in tensors if ".attention." not in t[0]]
    assert [(n, g and g[0]) for n, g in after[2]] == [(n, g and g[0]) for n, g in gradients if ".attention." not in n]


def breaking(images):
    yield images
    raise RuntimeError("the disk is gone")


@pytest.mark.parametrize(
    ("data", "test", "error", "says"),
    [
        (lambda x: [], None, WhatwhereError, "has 0 images"),
        (lambda x: x[:15], None, WhatwhereError, "has 15 images"),
        (lambda x: (x * 255).to(torch.uint8), None, WhatwhereError, "TaskImages"),
        (lambda x: torch.full_like(x, float("nan")), None, WhatwhereError, "not all finite"),
        (lambda x: 3, None, WhatwhereError, "an iterable"),
        (breaking, None, RuntimeError, "disk"),
        (lambda x: x, lambda x: [(x, torch.zeros(3))], WhatwhereError, "batch 0 of test has labels"),
        (lambda x: x, lambda x: [x, torch.randn(2, 5, 9, 9)], RuntimeError, "channels"),
    ],
)
def test_errors_leave_the_network_as_it_was(network, still, images, snapshot, same, data, test, error, says):
    model = network()
    ww.insert(model, "se", example=images[:1])
    still(model).train()
    before = snapshot(model)
    with pytest.raises(error, match=says):
        fold(model, data(images), test=None if test is None else test(images))
    assert same(snapshot(model), before)


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), float("inf"), True, "much"])
def test_tolerances_that_are_none(network, images, tolerance):
    model = network()
    ww.insert(model, "se", example=images[:1])
    with pytest.raises(WhatwhereError, match="tolerance="):
        fold(model, images, tolerance=tolerance)


def test_models_that_cannot_be_folded(network, images):
    with pytest.raises(WhatwhereError, match="no attention"):
        fold(network(), images)
    model = network()
    ww.insert(model, "se", example=images[:1])
    with pytest.raises(WhatwhereError, match="fold the plain model"):
        fold(torch.compile(model, backend="eager"), images)
    with pytest.raises(WhatwhereError, match="DataParallel"):
        fold(nn.DataParallel(model), images)
    model.blocks.compile(backend="eager")
    with pytest.raises(WhatwhereError, match="compiled"):
        fold(model, images)


def test_accuracy_time_and_the_table(network, still, images):
    model = network()
    ww.insert(model, "cbam", example=images[:1])
    still(model).eval()
    labels = model(images).argmax(1)
    labels[:6] = (labels[:6] + 1) % 5
    batches = ((x, y) for x, y in zip(images.split(7), labels.split(7), strict=True))  # goes through once only
    report = ww.fold(model, batches, seconds=0.01)
    assert report.images == 24
    assert report.quality["before"].top1 == report.quality["after"].top1 == 0.75
    assert report.quality["after"].same == 1.0
    assert report.batch == 7
    assert all(timing.rounds >= 5 and timing.median > 0 for timing in report.inference)
    said = str(report)
    for words in (
        "blocks.0.last",
        "channel part folded",
        "2 of 2 folded",
        "top-1 75.00 → 75.00 % of 24",
        "quartiles",
        "parameters",
    ):
        assert words in said


def test_a_network_of_ours(still):
    from whatwhere.checkpoints import build
    from whatwhere.networks import ModelConfig

    model = build(ModelConfig("small-resnet", attention="se"), size=24)
    still(model).eval()
    x = torch.randn(16, 3, 24, 24)
    want = model(x)
    assert len(fold(model, x).folded) == 3
    assert close(model(x), want, 1e-5)
