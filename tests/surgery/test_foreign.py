"""Attention of other code, found by the names of its tensors and by what it computes, and replaced."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import whatwhere as ww
from whatwhere.layers import ATTENTIONS, KeyMap, add_key_map, entry
from whatwhere.surgery.foreign import candidates


class Net(nn.Module):
    """Two blocks with somebody's attention in them."""

    def __init__(self, make, c=16):
        super().__init__()
        self.stem = nn.Conv2d(3, c, 3, 2, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, c, 3, 1, 1), nn.BatchNorm2d(c), make(c), nn.ReLU()) for _ in range(2)
        )

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return x.mean((2, 3))


def net(make):
    torch.manual_seed(0)
    return trained(Net(make))


def trained(model):
    """Move weights and statistics away from the start."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn_like(p))
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(0.2 * torch.rand_like(buffer))
    return model.eval()


def images(size=32):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


class ECALayer(nn.Module):
    """The official code, which does not take the channels; its kernel is 3 by default."""

    def __init__(self, c, k=3, act=torch.sigmoid, padding_mode="zeros"):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, k, padding=k // 2, bias=False, padding_mode=padding_mode)
        self.act = act

    def forward(self, x):
        y = F.adaptive_avg_pool2d(x, 1)
        y = self.conv(y.squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        return x * self.act(y).expand_as(x)


class ChannelGate(nn.Module):
    def __init__(self, c, hidden):
        super().__init__()
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(c, hidden), nn.ReLU(), nn.Linear(hidden, c))

    def forward(self, x):
        z = sum(self.mlp(pool(x, x.shape[2:], x.shape[2:])) for pool in (F.avg_pool2d, F.max_pool2d))
        return x * torch.sigmoid(z)[:, :, None, None].expand_as(x)


class Basic(nn.Module):
    def __init__(self, k=7):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, k, padding=k // 2, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, x):
        return self.bn(self.conv(x))


class SpatialGate(nn.Module):
    def __init__(self, k=7):
        super().__init__()
        self.spatial = Basic(k)

    def forward(self, x):
        return x * torch.sigmoid(self.spatial(torch.cat((x.amax(1, keepdim=True), x.mean(1, keepdim=True)), 1)))


class OfficialCBAM(nn.Module):
    """The official code, with a hidden width that no reduction gives."""

    def __init__(self, c, hidden=6):
        super().__init__()
        self.ChannelGate, self.SpatialGate = ChannelGate(c, hidden), SpatialGate()

    def forward(self, x):
        return self.SpatialGate(self.ChannelGate(x))


class OfficialBAM(nn.Module):
    """The official code, which pools by the height and so takes square maps only."""

    def __init__(self, c, r=4):
        super().__init__()
        h = c // r
        channel = [("fc_0", nn.Linear(c, h)), ("bn_1", nn.BatchNorm1d(h)), ("relu", nn.ReLU())]
        channel += [("fc_final", nn.Linear(h, c))]
        spatial = [("conv_reduce0", nn.Conv2d(c, h, 1)), ("bn_reduce0", nn.BatchNorm2d(h)), ("relu", nn.ReLU())]
        for i in range(2):
            spatial += [(f"conv_di_{i}", nn.Conv2d(h, h, 3, padding=4, dilation=4)), (f"bn_di_{i}", nn.BatchNorm2d(h))]
            spatial += [(f"relu_di_{i}", nn.ReLU())]
        spatial += [("conv_final", nn.Conv2d(h, 1, 1))]
        self.channel_att, self.spatial_att = nn.Module(), nn.Module()
        self.channel_att.gate_c, self.spatial_att.gate_s = nn.Sequential(), nn.Sequential()
        for name, part in channel:
            self.channel_att.gate_c.add_module(f"gate_c_{name}", part)
        for name, part in spatial:
            self.spatial_att.gate_s.add_module(f"gate_s_{name}", part)

    def forward(self, x):
        z = self.channel_att.gate_c(F.avg_pool2d(x, x.shape[2], stride=x.shape[2]).flatten(1))
        return (1 + torch.sigmoid(z[:, :, None, None] * self.spatial_att.gate_s(x))) * x


WRITTEN = {
    "eca": ECALayer,
    "eca-5": partial(ECALayer, k=5),
    "cbam": OfficialCBAM,
    "cam": partial(ChannelGate, hidden=4),
    "bam": OfficialBAM,
}


@pytest.mark.parametrize("key", WRITTEN)
def test_the_same_kind_keeps_the_output(key):
    kind = key.partition("-")[0]
    model = net(WRITTEN[key])
    want = model(images())
    report = ww.replace(model, kind, kind, example=images())
    assert [one.module for one in report.replaced] == ["blocks.0.2", "blocks.1.2"]
    assert all(one.kept and one.size == (16, 16) and one.channels == 16 for one in report.replaced)
    assert report.change < 1e-6
    assert report.others == {}
    assert list(ww.attentions(model)) == ["blocks.0.2", "blocks.1.2"]
    assert type(model.blocks[0][2]) is entry(kind).cls
    torch.testing.assert_close(model(images()), want)
    model.train()(images()).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def timm_resnet(attention, **options):
    resnet = pytest.importorskip("timm.models.resnet")
    layer = partial(pytest.importorskip("timm.layers").get_attn(attention), **options) if options else attention
    torch.manual_seed(0)
    blocks = {"attn_layer": layer}
    return trained(resnet.ResNet(resnet.BasicBlock, (1, 1, 1, 1), num_classes=5, block_args=blocks))


TIMM = [
    ("eca", {}),
    ("ese", {}),
    ("gc", {}),
    ("gc", {"fuse_add": True}),
    ("cbam", {}),
    ("cbam", {"spatial_kernel_size": 3, "mlp_bias": True, "rd_channels": 7}),
]


@pytest.mark.parametrize(("kind", "options"), TIMM, ids=str)
def test_timm(kind, options):
    model = timm_resnet(kind, **options)
    want = model(images(64))
    report = ww.replace(model, kind, kind, example=images(64))
    assert [one.module for one in report.replaced] == [f"layer{i}.0.se" for i in (1, 2, 3, 4)]
    assert all(one.kept for one in report.replaced)
    torch.testing.assert_close(model(images(64)), want, rtol=1e-4, atol=1e-4)


def test_timms_networks_by_name_are_saved_and_loaded(tmp_path):
    model = pytest.importorskip("timm").create_model("eca_resnext26ts", num_classes=3).eval()
    want = model(images(64))
    assert all(one.kept for one in ww.replace(model, "eca", "eca", example=images(64)).replaced)
    torch.testing.assert_close(model(images(64)), want, rtol=1e-4, atol=1e-4)
    again = ww.load_model(ww.save(model, tmp_path / "m.safetensors"))
    assert torch.equal(again(images(64)), model(images(64)))


def test_another_kind_takes_over_what_it_can():
    """CBAM's MLP goes on in squeeze-and-excitation; nothing of ECA does in CBAM, and a warning says so."""
    model = timm_resnet("cbam")
    weight = model.layer1[0].se.channel.fc1.weight.detach().flatten(1).clone()
    assert all(one.kept for one in ww.replace(model, "cbam", "cam", example=images(64)).replaced)
    assert torch.equal(model.layer1[0].se.mlp.fc1.weight, weight)
    assert model.layer1[0].se.pools == ("avg", "max")
    model = timm_resnet("eca")
    with pytest.warns(UserWarning, match="4 of 4 'cbam' start from new weights, so the network's output changes by"):
        report = ww.replace(model, "eca", "cbam", example=images(64))
    assert not any(one.kept for one in report.replaced)
    assert report.change > 1e-3
    gates = model.layer1[0].se.gates(torch.randn(1, 64, 5, 5))
    assert gates.channel.eq(1).all()
    assert gates.spatial.eq(1).all()


def test_scse_of_segmentation_models():
    smp = pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    model = trained(smp.Unet("resnet18", encoder_weights=None, decoder_attention_type="scse"))
    want = model(images(64))
    report = ww.replace(model, "scse", "scse", example=images(64))
    assert len(report.replaced) == 9
    assert all(one.kept for one in report.replaced)
    assert list(report.others) == ["decoder.blocks.4.attention1.attention"]  # there is no skip, so it does not run
    torch.testing.assert_close(model(images(64)), want, rtol=1e-4, atol=1e-4)


class ChannelOnly(nn.Module):
    """One layer of full width."""

    def __init__(self, c):
        super().__init__()
        self.fc = nn.Conv2d(c, c, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.fc(F.adaptive_avg_pool2d(x, 1)))


class SpatialOnly(nn.Module):
    """A convolution without normalisation."""

    def __init__(self, k=7):
        super().__init__()
        self.cv1 = nn.Conv2d(2, 1, k, padding=k // 2, bias=False)

    def forward(self, x):
        return x * torch.sigmoid(self.cv1(torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1)))


class UltralyticsCBAM(nn.Module):
    """What ultralytics calls CBAM: not the paper's, but with eSE as its channel part."""

    def __init__(self, c, k=7):
        super().__init__()
        self.channel_attention, self.spatial_attention = ChannelOnly(c), SpatialOnly(k)

    def forward(self, x):
        return self.spatial_attention(self.channel_attention(x))


def test_the_channel_part_of_ultralytics_cbam():
    model = net(UltralyticsCBAM)
    want = model(images())
    report = ww.replace(model, "ese", "ese", example=images())
    assert [one.module for one in report.replaced] == [f"blocks.{i}.2.channel_attention" for i in (0, 1)]
    assert model.blocks[0][2].channel_attention.gate == "sigmoid"
    torch.testing.assert_close(model(images()), want)


class Order(OfficialCBAM):
    """The same tensors, the other way round."""

    def forward(self, x):
        return self.ChannelGate(self.SpatialGate(x))


class Zero(ECALayer):
    """Differs only where the weights are not zero."""

    def __init__(self, c):
        super().__init__(c)
        nn.init.zeros_(self.conv.weight)

    def forward(self, x):
        return super().forward(x.flip(1)).flip(1)


class Pair(ECALayer):
    def forward(self, x, other):
        return super().forward(x + other)


class NoConv1d(nn.Module):
    """The names of ECA, with another shape."""

    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 1, bias=False)

    def forward(self, x):
        return self.conv(x)


@pytest.mark.parametrize(
    ("make", "kind", "says"),
    [
        (Order, "cbam", "Order has the tensors of 'cbam', but its output is .* away"),
        (partial(ECALayer, padding_mode="circular"), "eca", "ECALayer has the tensors of 'eca'"),
        (partial(ECALayer, act=F.hardsigmoid), "eca", "ECALayer has the tensors of 'eca'"),
        (NoConv1d, "eca", r"there is no 'eca' in this Net\. To add"),
        (UltralyticsCBAM, "cbam", r"there is no 'cbam' in this Net\. To add"),
        (UltralyticsCBAM, "eca", r"there is no 'eca' in this Net\. To add"),
    ],
)
def test_what_computes_something_else(make, kind, says):
    model = net(make)
    before = dict(model.named_modules())
    with pytest.raises(ww.WhatwhereError, match=says):
        ww.replace(model, kind, "cbam", example=images())
    assert dict(model.named_modules()) == before


def test_weights_of_zero_hide_nothing():
    model = Net(Zero).eval()
    with pytest.raises(ww.WhatwhereError, match="Zero has the tensors of 'eca'"):
        ww.replace(model, "eca", "eca", example=images())


@pytest.mark.parametrize(
    ("attention", "kind", "says"),
    [("lcbam", "cbam", "light CBAM"), ("ceca", "eca", "CecaModule has the tensors of 'eca'")],
)
def test_timms_variants_are_told_apart(attention, kind, says):
    model = timm_resnet(attention)
    with pytest.raises(ww.WhatwhereError, match=says):
        ww.replace(model, kind, kind, example=images(64))


def test_what_is_left_alone_is_said():
    class Odd(Net):
        def __init__(self):
            super().__init__(ECALayer)
            self.unused = ECALayer(16)
            self.pair = Pair(16)

        def forward(self, x):
            return super().forward(x) + self.pair(self.stem(x), 1).mean((2, 3))

    model = trained(Odd())
    model.blocks[1][2].conv.register_forward_hook(lambda *_: None)
    report = ww.replace(model, "eca", "eca", example=images())
    assert [one.module for one in report.replaced] == ["blocks.0.2"]
    assert report.others["blocks.1.2"] == "ECALayer has hooks, which would be lost"
    assert "unused: ECALayer did not run on the probe input" in str(report)
    assert "Pair cannot be compared with 'eca': TypeError" in report.others["pair"]
    with pytest.raises(ww.WhatwhereError, match=r"at='nowhere' matches none of the sites of 'eca': .*blocks.1.2"):
        ww.replace(model, "eca", "eca", at="nowhere", example=images())


def test_nothing_of_the_network_changes_while_it_is_examined():
    model = net(OfficialCBAM).train()
    before = copy.deepcopy(model.state_dict())
    maps = candidates(model, entry("cbam"))
    assert list(maps) == ["blocks.0.2", "blocks.1.2"]
    report = ww.replace(model, "cbam", "cbam", at="blocks.0.*", example=images())
    assert len(report.replaced) == 1
    assert model.blocks[0][2].training
    after = model.state_dict()
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items() if key in after)
    assert type(model.blocks[1][2]) is OfficialCBAM


def test_options_of_ones_own_win():
    model = net(ECALayer)
    with pytest.warns(UserWarning, match="start from new weights"):
        report = ww.replace(model, "eca", "eca", kernel_size=5, example=images())
    assert not any(one.kept for one in report.replaced)
    assert model.blocks[0][2].conv.kernel_size == (5,)
    model = net(OfficialCBAM)
    with pytest.warns(UserWarning, match="start from new weights"):
        ww.replace(model, "cbam", "cbam", keep=False, reduction=4, example=images())
    assert model.blocks[0][2].channel.mlp.fc1.out_features == 4


@pytest.mark.parametrize("identity", [True, False])
def test_whatwheres_own_of_the_same_kind_keeps_everything(identity):
    model = Net(nn.Identity).eval()
    ww.insert(model, "cbam", at="blocks.?.1", identity=identity, hidden=3, example=images())
    model = trained(model)
    want = model(images())
    report = ww.replace(model, "cbam", "cbam", example=images())
    assert all(one.kept for one in report.replaced)
    assert torch.equal(model(images()), want)
    assert model.blocks[0][1].attention.identity is identity
    ww.replace(model, "cbam", "cbam", identity=False, example=images())
    assert model.blocks[0][1].attention.identity is False
    assert ww.remove(model) == 2


def test_an_attention_and_a_key_map_of_another_package():
    """A gate function that the key map leaves open is found by trying."""

    @ww.register("lone", title="lone", formula="c = g(s·avg(x))", kind="channel", exact_identity=False)
    class Lone(ww.GatedAttention):
        def __init__(self, channels, *, gate="sigmoid", identity=False, device=None, dtype=None):
            super().__init__(channels)
            self.gate, self.identity = gate, identity
            self.scale = nn.Parameter(torch.ones(channels, device=device, dtype=dtype))

        def gates(self, x):
            z = self.scale[:, None, None] * x.mean((2, 3), keepdim=True)
            return ww.Gates(channel=ww.layers.gate.apply_gate(z, self.gate, self.identity))

    class Theirs(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.s = nn.Parameter(torch.ones(c))

        def forward(self, x):
            return x * F.hardsigmoid(self.s[:, None, None] * x.mean((2, 3), keepdim=True))

    try:
        model = net(Theirs)
        want = model(images())
        with pytest.raises(ww.WhatwhereError, match="there is no 'lone'"):
            ww.replace(model, "lone", "lone", example=images())
        add_key_map("lone", KeyMap("their code", {"s": "scale"}))
        assert all(one.kept for one in ww.replace(model, "lone", "lone", example=images()).replaced)
        assert model.blocks[0][2].gate == "hard_sigmoid"
        torch.testing.assert_close(model(images()), want)
    finally:
        ATTENTIONS.discard("lone")
