"""Where another library computes the same, the numbers are the same."""

import pytest
import torch

import whatwhere as ww

C = 32


@pytest.fixture
def x():
    return torch.randn(2, C, 9, 7, generator=torch.Generator().manual_seed(0))


def random_parameters(module):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
        for name, b in module.named_buffers():
            if b.is_floating_point():
                b.copy_(torch.rand(b.shape, generator=generator) + (0.5 if "var" in name else 0))
    return module.eval()


def load(module, values):
    module.load_state_dict({k: v.reshape(module.state_dict()[k].shape) for k, v in values.items()})
    return module.eval()


def test_torchvisions_squeeze_excitation(x):
    torchvision = pytest.importorskip("torchvision")
    for theirs_gate, gate in ((torch.nn.Sigmoid, "sigmoid"), (torch.nn.Hardsigmoid, "hard_sigmoid")):
        theirs = random_parameters(torchvision.ops.SqueezeExcitation(C, C // 4, scale_activation=theirs_gate))
        ours = load(ww.SE(C, reduction=4, gate=gate), {f"mlp.{k}": v for k, v in theirs.state_dict().items()})
        torch.testing.assert_close(ours(x), theirs(x))


def test_timms_squeeze_excite(x):
    layers = pytest.importorskip("timm.layers")
    theirs = random_parameters(layers.SEModule(C, rd_ratio=1 / 4, rd_divisor=1))
    ours = load(ww.SE(C, reduction=4), {f"mlp.{k}": v for k, v in theirs.state_dict().items() if k.startswith("fc")})
    torch.testing.assert_close(ours(x), theirs(x))


def test_timms_eca(x):
    theirs = random_parameters(pytest.importorskip("timm.layers").EcaModule(C))
    torch.testing.assert_close(load(ww.ECA(C), theirs.state_dict())(x), theirs(x))


def test_timms_cbam(x):
    """With biases and the two maps swapped: timm stacks [mean, max], the official code [max, mean]."""
    cbam = pytest.importorskip("timm.layers.cbam")
    theirs = random_parameters(cbam.CbamModule(C, rd_ratio=1 / 4, mlp_bias=True))
    values = {
        k.replace("channel.", "channel.mlp.")
        .replace("spatial.conv.conv", "spatial.conv")
        .replace("spatial.conv.bn", "spatial.bn"): v
        for k, v in theirs.state_dict().items()
    }
    values["spatial.conv.weight"] = values["spatial.conv.weight"].flip(1)
    ours = load(ww.CBAM(C, reduction=4), values)
    torch.testing.assert_close(ours(x), theirs(x))
    ours = load(
        ww.CBAM(C, reduction=4, spatial_pools=("avg", "max")),
        values | {"spatial.conv.weight": theirs.spatial.conv.conv.weight},
    )
    torch.testing.assert_close(ours(x), theirs(x))
