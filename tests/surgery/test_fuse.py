"""Fused blocks give what the unfused network gives (outputs, gradients, running statistics); fusing can be undone."""

import copy
import pickle

import pytest
import torch
from torch import nn

import whatwhere as ww
from whatwhere.errors import WhatwhereError
from whatwhere.networks.small import create_small


def torchvision_model(name):
    return lambda: getattr(pytest.importorskip("torchvision").models, name)(num_classes=5)


def timm_model(name):
    return lambda: pytest.importorskip("timm").create_model(name, num_classes=5)


def small(name):
    return lambda: create_small(name, 5)


# network, image size, residual blocks fused whole, norms fused with their attention alone
NETWORKS = {
    "resnet18": (torchvision_model("resnet18"), 64, 8, 0),
    "resnet50": (torchvision_model("resnet50"), 64, 16, 0),
    "timm-resnet26": (timm_model("resnet26"), 64, 8, 0),
    "timm-resnet18d": (timm_model("resnet18d"), 64, 8, 0),
    "small-resnet": (small("small-resnet"), 32, 3, 0),
    "small-mobilenet": (small("small-mobilenet"), 32, 0, 4),
    "efficientnet_lite0": (timm_model("efficientnet_lite0"), 64, 0, 9),
}


def build(name, attention="cbam", identity=False, last=True, **options):
    torch.manual_seed(0)
    model = NETWORKS[name][0]()
    if attention:
        ww.insert(model, attention, identity=identity, **options)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(-1, 1) if module.weight is not None else None
                module.bias.normal_(0, 0.2)
    return model.to(memory_format=torch.channels_last) if last else model


def run(model, x, training):
    model.train(training)
    model.zero_grad()
    y = model(x)
    (y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)).sum().backward()
    return [y.detach(), *(p.grad for p in model.parameters()), *(b.clone() for b in model.buffers())]


def images(name, dtype=torch.float32):
    size = NETWORKS[name][1]
    return torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(1)).to(dtype)


def close(got, want, tolerance):
    for a, b in zip(got, want, strict=True):
        scale = max(b.abs().max().item(), 1e-3) if b.numel() else 1  # some gradients are nothing but rounding
        torch.testing.assert_close(a.double(), b.double(), rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("training", [True, False])
def test_a_fused_network_is_the_unfused_one(name, training):
    """In float64 the algebra, forced onto the kernels; in float32 rounding, against how far float32 itself is from
    float64.
    """
    model = build(name)
    exact = run(copy.deepcopy(model).double(), images(name, torch.float64), training)
    fused = copy.deepcopy(model)
    report = ww.fuse(fused)
    assert (len(report.blocks), len(report.norms)) == NETWORKS[name][2:]
    with ww.backend("cpu"):
        close(run(copy.deepcopy(fused).double(), images(name, torch.float64), training), exact, 1e-7)
    plain, ours = (run(m, images(name), training) for m in (model, fused))
    # The output alone: gradients of a random deep network amplify rounding without bound, in either form.
    error = [(found[0].double() - exact[0]).norm() / exact[0].norm() for found in (plain, ours)]
    assert error[1] <= max(4 * error[0], 1e-5)


@pytest.mark.parametrize("attention", ["se", "sam", "bam", None])
@pytest.mark.parametrize("name", ["resnet18", "small-resnet"])
def test_other_attentions_and_none(name, attention):
    model = build(name, attention)
    exact = run(copy.deepcopy(model).double(), images(name, torch.float64), True)
    ww.fuse(model)
    with ww.backend("cpu"):
        close(run(model.double(), images(name, torch.float64), True), exact, 1e-7)


def test_it_is_reversible():
    model = build("resnet18", identity=True)
    keys, x = list(model.state_dict()), images("resnet18")
    model.eval()
    want = model(x)
    ww.fuse(model)
    assert list(model.state_dict()) == keys
    torch.testing.assert_close(model(x), want, rtol=1e-4, atol=1e-5)
    assert ww.unfuse(model) == 8
    assert model(x).equal(want)
    assert ww.unfuse(model) == 0
    plain = copy.deepcopy(model)
    ww.remove(plain)
    assert all("forward" not in vars(module) for module in plain.modules())


def test_attention_comes_and_goes_while_fused():
    model = build("resnet18", None).eval()
    x = images("resnet18")
    ww.fuse(model)
    plain = model(x)
    ww.insert(model, "se", identity=False)
    attended = model(x)
    assert (attended - plain).abs().max() > 1e-3
    twin = copy.deepcopy(model)
    ww.unfuse(twin)
    torch.testing.assert_close(twin(x), attended, rtol=1e-4, atol=1e-4)
    ww.remove(model)
    assert model(x).equal(plain)


def test_sites_and_gates_are_seen_through_it():
    model = build("resnet18").eval()
    sites = [site.module for site in ww.sites(model)]
    with ww.capture(model) as want:
        model(images("resnet18"))
    ww.fuse(model)
    assert [site.module for site in ww.sites(model)] == sites
    with ww.capture(model) as seen:
        model(images("resnet18"))
    assert list(seen) == list(want)
    for place in want:
        torch.testing.assert_close(seen[place].channel, want[place].channel, rtol=1e-4, atol=1e-5)


def test_copies_and_pickles_are_fused_as_well():
    model = build("small-resnet").eval()
    ww.fuse(model)
    x = images("small-resnet")
    want = model(x)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin(x).equal(want)
        block = twin.stages[0][0]
        assert block.forward.args[0] is block
        assert ww.unfuse(twin) == 3


@pytest.mark.parametrize("training", [True, False])
def test_it_compiles_without_a_break(training):
    torch._dynamo.reset()
    model = build("small-resnet").train(training)
    ww.fuse(model)
    twin = copy.deepcopy(model)
    x = images("small-resnet")
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    close(run(compiled, x, training), run(twin, x, training), 1e-3)


class Mine(nn.Module):
    """A residual block that no library knows."""

    def __init__(self, channels, act=nn.ReLU):
        super().__init__()
        self.a, self.b = (nn.Conv2d(channels, channels, 3, 1, 1) for _ in range(2))
        self.na, self.nb = (nn.BatchNorm2d(channels) for _ in range(2))
        self.act = act()

    def forward(self, x):
        return self.act(self.nb(self.b(self.act(self.na(self.a(x))))) + x)


def test_own_blocks_can_be_described():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), Mine(8), Mine(8))
    x = torch.randn(2, 3, 9, 9)
    want = copy.deepcopy(model)(x)
    with pytest.raises(WhatwhereError, match="blocks="):
        ww.fuse(model)
    report = ww.fuse(model, {Mine: ww.BlockSpec(("a", "na", "act", "b"), "nb", None, "act")})
    assert report.blocks == ["1", "2"]
    torch.testing.assert_close(model(x), want, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_left_and_named():
    tail = {Mine: ww.BlockSpec(("a", "na", "act", "b"), "nb", None, "act")}
    hooked, silu = Mine(4), Mine(4, nn.SiLU)
    hooked.nb.register_forward_hook(lambda *args: None)
    model = nn.Sequential(Mine(4), hooked, silu)
    report = ww.fuse(model, tail)
    assert report.blocks == ["0"]
    assert "hooks" in report.left["1"]
    assert "SiLU" in report.left["2"]
    assert "left as it was: 2" in str(report)
    assert ww.fuse(model, tail).blocks == ["0"]  # once more changes nothing
    assert ww.unfuse(model) == 1
    timm = pytest.importorskip("timm").create_model("legacy_seresnet18")
    with pytest.raises(WhatwhereError, match="nothing to fuse"):
        ww.fuse(timm)
    se = pytest.importorskip("timm").create_model("seresnet50", num_classes=3)
    with pytest.raises(WhatwhereError, match="it runs se before the add"):
        ww.fuse(se)


def test_a_compiled_or_wrapped_model_is_refused():
    with pytest.raises(WhatwhereError, match="compiled"):
        ww.fuse(torch.compile(build("small-resnet", None)))


def test_compiled_code_is_not_shared_with_a_network_without_attention():
    """torch.compile reuses the code of one module for others of its class and does not look at hooks."""
    torch._dynamo.reset()
    x = images("small-resnet")
    plain = build("small-resnet", None).eval()
    attended = copy.deepcopy(plain)
    ww.insert(attended, "se", identity=False)
    attended.eval()
    fused = copy.deepcopy(attended)
    ww.fuse(fused)
    want = attended(x)
    assert (plain(x) - want).abs().max() > 1e-3
    for model in (plain, attended, fused):
        found = torch.compile(model, backend="eager")(x)
        torch.testing.assert_close(found, model(x), rtol=1e-5, atol=1e-5)
    late = copy.deepcopy(plain)
    compiled = torch.compile(late, backend="eager")
    compiled(x)
    ww.insert(late, "se", identity=False)
    late.eval()
    torch.testing.assert_close(compiled(x), late(x), rtol=1e-5, atol=1e-5)
    ww.remove(late)
    torch.testing.assert_close(compiled(x), plain(x), rtol=1e-5, atol=1e-5)
