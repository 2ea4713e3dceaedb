import copy
import functools
import pickle

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint_sequential

from whatwhere.checkpoints import build
from whatwhere.errors import WhatwhereError
from whatwhere.layers import CBAM, SE, entry, names
from whatwhere.networks import ModelConfig
from whatwhere.ops import backend, which
from whatwhere.placement import sites
from whatwhere.surgery import attentions, fuse, insert, remove

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
TORCHVISION = """resnet18 resnet50 resnext50_32x4d wide_resnet50_2 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large
    efficientnet_b0 convnext_tiny regnet_y_400mf densenet121 vgg16_bn"""
TIMM = """resnet18 resnet50 resnext50_32x4d wide_resnet50_2 mobilenetv2_100 mobilenetv3_small_100 mobilenetv3_large_100
    efficientnet_b0 tf_efficientnet_lite0 convnext_tiny regnety_002 densenet121 vgg16_bn"""
NETWORKS = [("torchvision", name) for name in TORCHVISION.split()] + [("timm", name) for name in TIMM.split()]
FAST = {
    ("torchvision", "resnet18"),
    ("torchvision", "mobilenet_v3_small"),
    ("torchvision", "convnext_tiny"),
    ("torchvision", "densenet121"),
    ("timm", "tf_efficientnet_lite0"),
    ("timm", "regnety_002"),
}


@functools.cache
def pristine(source, name):
    """A network with running statistics and scales that are not those of the start."""
    torch.manual_seed(0)
    if source == "timm":
        model = pytest.importorskip("timm").create_model(name)
    else:
        model = getattr(pytest.importorskip("torchvision").models, name)(weights=None)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    for key, parameter in model.named_parameters():
        if key.endswith(("gamma", "layer_scale")):  # 1e-6 at the start: branches would not count
            nn.init.uniform_(parameter, 0.5, 1.5)
    return model.eval()


def network(source="torchvision", name="resnet18"):
    return copy.deepcopy(pristine(source, name))


def run(model):
    with torch.no_grad():
        return model(IMAGES)


def difference(a, b):
    return ((a - b).norm() / b.norm()).item()


def disturb(model):
    """Move every attention away from the identity."""
    for attention in attentions(model).values():
        for parameter in attention.parameters():
            nn.init.normal_(parameter, 0, 0.3)


@pytest.mark.parametrize(
    ("source", "name"), [pytest.param(*both, marks=() if both in FAST else pytest.mark.slow) for both in NETWORKS]
)
def test_insert_changes_nothing_and_remove_gives_the_model_back(source, name):
    model = network(source, name)
    expected = run(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    report = insert(model, "cbam", example=IMAGES)
    assert difference(run(model), expected) < 1e-5
    after = model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    added = set(after) - set(before)
    assert added
    assert all(".attention." in key for key in added)
    missing, unexpected = model.load_state_dict(before, strict=False)
    assert set(missing) == {key for key in added if not key.endswith("num_batches_tracked")}  # torch fills these in
    assert unexpected == []
    disturb(model)
    assert difference(run(model), expected) > 1e-3  # every hook is really there: see the next test for each of them
    assert remove(model) == len(report.inserted)
    assert torch.equal(run(model), expected)
    assert list(model.state_dict()) == list(before)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("torchvision", "convnext_tiny"),
        ("timm", "convnext_tiny"),
        ("timm", "mobilenetv3_small_100"),
        ("timm", "densenet121"),
    ],
)
def test_every_single_place_works(source, name):
    model = network(source, name)
    insert(model, "se", example=IMAGES)
    calls = []
    for place, attention in attentions(model).items():
        attention.register_forward_hook(lambda *_, place=place: calls.append(place))
    run(model)
    assert calls == [site.module for site in sites(pristine(source, name), IMAGES)]


@pytest.mark.parametrize("name", [name for name in names() if not entry(name).replaces])
def test_every_attention_starts_as_nothing_and_learns(name):
    model = network()
    expected = run(model)
    insert(model, name, example=IMAGES)
    assert difference(run(model), expected) < 1e-5
    model(IMAGES).square().mean().backward()
    for place, attention in attentions(model).items():
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in attention.parameters()), place


def test_the_papers_form_does_change_the_output():
    model = network()
    expected = run(model)
    insert(model, "cbam", identity=False, example=IMAGES)
    assert difference(run(model), expected) > 1e-2


def test_attention_is_on_the_branch_only():
    """With gates of zero a residual network of basic blocks has only its shortcuts."""

    class Nothing(nn.Module):
        def forward(self, x):
            return x * 0

    model, expected = network(), network()
    insert(model, "se", at="layer1.*", example=IMAGES)
    for block in (0, 1):
        model.layer1[block].bn2.attention = Nothing()
    expected.layer1 = nn.Identity()  # the stem ends in a ReLU, so that the blocks' own changes nothing
    torch.testing.assert_close(run(model), run(expected))


@pytest.mark.parametrize("side", ["output", "input"])
def test_copies_and_round_trips(side):
    model = network("torchvision", "resnet18" if side == "output" else "convnext_tiny")
    bare = copy.deepcopy(model)
    insert(model, "cbam", reduction=8, example=IMAGES)
    disturb(model)
    expected = run(model)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(run(copied), expected)
        assert list(attentions(copied)) == list(attentions(model))
        assert (
            attentions(copied)[next(iter(attentions(copied)))] is not attentions(model)[next(iter(attentions(model)))]
        )
        remove(copied)
        assert torch.equal(run(copied), run(bare))
    again = copy.deepcopy(bare)
    insert(again, "cbam", reduction=8, example=IMAGES)
    again.load_state_dict(model.state_dict())
    assert torch.equal(run(again), expected)


@pytest.mark.parametrize(
    "config",
    [ModelConfig("small-resnet", "cbam"), ModelConfig("small-vgg", "bam"), ModelConfig("small-mobilenet", "se")],
    ids=lambda config: config.name,
)
def test_compiles_in_one_graph(config):
    model = build(config).eval()
    disturb(model)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(IMAGES), model(IMAGES))
    compiled(IMAGES).sum().backward()
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "name"), [("torchvision", "resnet18"), ("torchvision", "convnext_tiny"), ("timm", "regnety_002")]
)
def test_big_ones_compile_in_one_graph(source, name):
    model = network(source, name)
    insert(model, "cbam", example=IMAGES)
    disturb(model)
    compiled = torch.compile(model, fullgraph=True)
    torch.testing.assert_close(compiled(IMAGES), model(IMAGES), rtol=1e-3, atol=1e-4)
    torch._dynamo.reset()


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny"])
def test_exports(name):
    model = network("torchvision", name)
    insert(model, "cbam", at="*1.0.*", example=IMAGES)
    disturb(model)
    exported = torch.export.export(model, (IMAGES,)).module()
    torch.testing.assert_close(exported(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-5)


def test_at_chooses_sites():
    model = network()
    report = insert(model, "se", at=["layer4.*", "layer1.0.bn2"], reduction=8, example=IMAGES)
    assert [placed.module for placed in report.inserted] == ["layer1.0.bn2", "layer4.0.bn2", "layer4.1.bn2"]
    assert list(attentions(model)) == ["layer1.0.bn2", "layer4.0.bn2", "layer4.1.bn2"]
    insert(model, "cbam", at="layer2.*", example=IMAGES)
    assert [type(a) for a in attentions(model).values()] == [SE, CBAM, CBAM, SE, SE]
    assert [site.module for site in sites(model, IMAGES)] == [site.module for site in sites(network(), IMAGES)]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("cbm",), {}, "did you mean 'cbam'"),
        (("cbam", "layer5.*"), {}, r"at='layer5.\*'.*layer1.0.bn2, layer1.1.bn2"),
        (("cbam", ["layer4.*", "layer4.0.bn9"]), {}, "did you mean 'layer4.0.bn2'"),
        (("cbam",), {"reductoin": 8}, "reduction"),
        (("cbam",), {"kernel_size": 4}, "kernel_size"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_stays(arguments, options, message):
    model = network()
    keys, expected = list(model.state_dict()), run(model)
    with pytest.raises(WhatwhereError, match=message):
        insert(model, *arguments, example=IMAGES, **options)
    assert list(model.state_dict()) == keys
    assert attentions(model) == {}
    assert torch.equal(run(model), expected)


def test_a_failure_at_a_late_place_leaves_nothing_behind():
    model = network()
    with pytest.raises(WhatwhereError):
        insert(model, "cbam", example=IMAGES, pools=("avg", "median"))
    assert not any("attention" in name for name, _ in model.named_modules())
    assert all(len(module._forward_hooks) == 0 for module in model.modules())


def test_twice_at_one_place_is_refused():
    model = network()
    insert(model, "cbam", at="layer4.*", example=IMAGES)
    with pytest.raises(WhatwhereError, match=r"already at layer4.0.bn2, layer4.1.bn2.*remove"):
        insert(model, "se", example=IMAGES)
    assert len(attentions(model)) == 2


def test_remove_leaves_foreign_hooks_and_own_attention_alone():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution = nn.Conv2d(3, 3, 3, padding=1)
            self.relu, self.again = nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1)
            self.attention = CBAM(3)

        def forward(self, x):
            return x + self.attention(self.again(self.relu(self.convolution(x))))

    model = Own().eval()
    seen = []
    model.again.register_forward_hook(lambda *_: seen.append(1))
    expected = run(model)
    insert(model, "se", example=IMAGES)
    assert list(attentions(model)) == ["again", "attention"]
    assert remove(model) == 1
    assert remove(model) == 0
    assert list(attentions(model)) == ["attention"]
    seen.clear()
    assert torch.equal(run(model), expected)
    assert seen == [1]


def test_attention_follows_the_mode_and_the_freezing_is_the_callers():
    model = network().train()
    model.requires_grad_(False)
    insert(model, "cbam", example=IMAGES)
    assert all(attention.training for attention in attentions(model).values())
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trainable
    assert all(".attention." in name for name in trainable)


def test_a_conversion_that_drops_hooks_is_loud():
    model = network()
    insert(model, "cbam", example=IMAGES)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    with pytest.raises(WhatwhereError, match="Convert first, then insert"):
        attentions(converted)


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel], ids=["compiled", "parallel"])
def test_wrapped_models_are_refused(wrap):
    with pytest.raises(WhatwhereError, match="first"):
        insert(wrap(network()), "se", example=IMAGES)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("fused", [True, False])
def test_activation_checkpoints_change_no_output_and_no_gradient(reentrant, fused):
    """Through attention inserted into a network, on the fast backend. Running statistics are updated twice a batch.

    In float64: in float32 the gradients of a deep random network depend on rounding.
    """
    plain = network().double()
    insert(plain, "cbam", identity=False)
    plain.train()
    checkpointed = copy.deepcopy(plain)
    if fused:
        fuse(checkpointed)
    images = IMAGES.double().requires_grad_()
    with backend("cpu"):
        assert which(images) == "cpu"
        want, got = (
            plain(images.detach()),
            checkpoint_sequential(stages(checkpointed), 3, images, use_reentrant=reentrant),
        )
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
        for y in (want, got):
            y.square().sum().backward()
    for (name, p), q in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        assert (p.grad - q.grad).norm() <= 1e-7 * p.grad.norm() + 1e-11, name
    counts = {b.item() for name, b in checkpointed.named_buffers() if name.endswith("layer1.0.bn1.num_batches_tracked")}
    assert counts == {2}


def stages(model):
    """A torchvision ResNet as a sequence."""
    stem = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)
    head = nn.Sequential(model.avgpool, nn.Flatten(), model.fc)
    return nn.Sequential(stem, model.layer1, model.layer2, model.layer3, model.layer4, head)
