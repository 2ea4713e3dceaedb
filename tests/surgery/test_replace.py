"""Squeeze-and-excitation in anybody's code, replaced by whatwhere's attention."""

import copy

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import whatwhere as ww
from whatwhere.surgery.excitation import excitations

HAND_WRITTEN = {}


def by_hand(cls):
    HAND_WRITTEN[cls.__name__] = cls
    return cls


@by_hand
class Dense(nn.Module):
    """As in a hundred repositories."""

    def __init__(self, c, r=4):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(c, c // r, bias=False), nn.ReLU(inplace=True), nn.Linear(c // r, c, bias=False), nn.Sigmoid()
        )

    def forward(self, x):
        b, c, _, _ = x.size()
        y = self.fc(self.pool(x).view(b, c)).view(b, c, 1, 1)
        return x * y.expand_as(x)


@by_hand
class Upside(nn.Module):
    """The layers defined in the other order, functions, the official MobileNetV3's hard sigmoid, one bias."""

    def __init__(self, c, r=4):
        super().__init__()
        self.up = nn.Conv2d(c // r, c, 1)
        self.down = nn.Conv2d(c, c // r, 1, bias=False)

    def forward(self, x):
        z = self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1))))
        return F.relu6(z + 3, inplace=True) / 6 * x


@by_hand
class Swish(nn.Module):
    def __init__(self, c, r=4):
        super().__init__()
        self.a, self.b = nn.Linear(c, c // r), nn.Linear(c // r, c)

    def forward(self, x):
        z = self.a(x.mean((2, 3)))
        return torch.einsum("nchw,nc->nchw", x, torch.sigmoid(self.b(z * torch.sigmoid(z))))


class Net(nn.Module):
    """A few blocks with somebody's attention in them."""

    def __init__(self, make, c=16):
        super().__init__()
        self.stem = nn.Conv2d(3, c, 3, 2, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, c, 3, 1, 1), nn.BatchNorm2d(c), make(c), nn.ReLU()) for _ in range(3)
        )
        self.head = nn.Linear(c, 5)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean((2, 3)))


def net(make=Dense):
    torch.manual_seed(0)
    model = Net(make).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return model


def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("make", HAND_WRITTEN.values(), ids=HAND_WRITTEN)
@pytest.mark.parametrize("new", ["se", "cam", "cbam"])
def test_hand_written(make, new):
    model = net(make)
    want = model(images())
    report = ww.replace(model, "se", new, example=images())
    assert [one.module for one in report.replaced] == ["blocks.0.2", "blocks.1.2", "blocks.2.2"]
    assert all(one.kept and one.old == make.__name__ and one.size == (16, 16) for one in report.replaced)
    assert report.change < 1e-6
    torch.testing.assert_close(model(images()), want)
    assert list(ww.attentions(model)) == ["blocks.0.2", "blocks.1.2", "blocks.2.2"]
    loss = model.train()(images()).square().sum()
    loss.backward()
    gradients = [p.grad for a in ww.attentions(model).values() for p in a.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)


@given(
    c=st.integers(2, 24),
    hidden=st.integers(1, 24),
    act=st.sampled_from([nn.ReLU, nn.SiLU, nn.GELU, nn.Hardswish, nn.ReLU6]),
    gate=st.sampled_from([nn.Sigmoid, nn.Hardsigmoid]),
)
@settings(deadline=None, max_examples=40)
def test_any_width_activation_and_gate(c, hidden, act, gate):
    theirs = torchvision.ops.SqueezeExcitation(c, hidden, act, gate)
    model = nn.Sequential(nn.Conv2d(3, c, 1), theirs).eval()
    x = 3 * torch.randn(2, 3, 6, 5)
    want = model(x)
    report = ww.replace(model, "se", "se", example=x)
    assert [one.kept for one in report.replaced] == [True]
    torch.testing.assert_close(model(x), want)


@pytest.mark.parametrize("hidden", [1, 2])
def test_activations_are_told_apart_at_one_hidden_channel(hidden):
    activations = {nn.ReLU: "relu", nn.SiLU: "silu", nn.GELU: "gelu", nn.Hardswish: "hard_swish", nn.ReLU6: "relu6"}
    for activation, name in activations.items():
        for gate, its in ((nn.Sigmoid, "sigmoid"), (nn.Hardsigmoid, "hard_sigmoid")):
            model = nn.Sequential(torchvision.ops.SqueezeExcitation(2, hidden, activation, gate))
            found = excitations(model)[0]["0"]
            assert (found.activation, found.gate) == (name, its)


@pytest.mark.parametrize(
    ("name", "count"),
    [("mobilenet_v3_small", 9), ("efficientnet_b0", 16), ("regnet_y_400mf", 16)],
)
def test_torchvision(name, count):
    model = torchvision.models.get_model(name).eval()
    report = ww.replace(model, "se", "cbam", example=torch.randn(1, 3, 64, 64))
    assert len(report.replaced) == count
    assert all(one.kept for one in report.replaced)
    assert report.change < 1e-5


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("seresnet18", 8),
        ("legacy_seresnet18", 8),
        ("mobilenetv3_small_050", 9),
        ("efficientnet_b0", 16),
        ("ghostnet_050", 7),
        ("fbnetv3_b", 18),
        ("repvit_m0_9", 10),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in [("tresnet_m", 18), ("nfnet_l0", 12), ("resnetrs50", 16)]
        ),
    ],
)
def test_timm(name, count):
    model = pytest.importorskip("timm").create_model(name).eval()
    report = ww.replace(model, "se", "cam", example=torch.randn(1, 3, 64, 64))
    assert len(report.replaced) == count
    assert all(one.kept for one in report.replaced)
    assert report.change < 1e-5
    assert report.others == {}


def test_the_papers_form_keeps_the_weights_as_a_start():
    model = net()
    weight = model.blocks[0][2].fc[0].weight.detach().clone()
    report = ww.replace(model, "se", "cbam", identity=False, example=images())
    attention = model.blocks[0][2]
    assert attention.channel.pools == ("avg", "max")
    assert attention.identity is False
    assert torch.equal(attention.channel.mlp.fc1.weight, weight)
    assert report.change > 1e-3
    assert all(one.kept for one in report.replaced)


def test_options_go_before_what_is_taken_over():
    model = net()
    ww.replace(model, "se", "cbam", at="blocks.0.*", pools=("avg", "max"), kernel_size=3, example=images())
    with pytest.warns(UserWarning, match="1 of 1 'se' start from new weights"):
        report = ww.replace(model, "se", "se", at="blocks.1.*", reduction=16, example=images())
    assert model.blocks[0][2].spatial.conv.kernel_size == (3, 3)
    assert model.blocks[0][2].channel.mlp.fc1.out_features == 4
    assert not report.replaced[0].kept
    assert model.blocks[1][2].mlp.fc1.out_features == 1
    assert type(model.blocks[2][2]) is Dense


def test_beginning_anew():
    model = net()
    with pytest.warns(UserWarning, match="start from new weights"):
        report = ww.replace(model, "se", "cbam", keep=False, reduction=4, example=images())
    assert not any(one.kept for one in report.replaced)
    assert all(gate.eq(1).all() for gate in model.blocks[0][2].gates(torch.randn(1, 16, 5, 5)) if gate is not None)


@pytest.mark.parametrize("new", ["sam", "bam", "eca"])
def test_what_has_nothing_in_common(new):
    model = net()
    with pytest.warns(UserWarning, match=rf"3 of 3 '{new}' start from new weights.*train the network again"):
        report = ww.replace(model, "se", new, example=images())
    assert not any(one.kept for one in report.replaced)
    assert report.change > 1e-3
    assert "new" in str(report)


def test_what_keeps_the_output_warns_of_nothing(recwarn):
    ww.replace(net(), "se", "cbam", example=images())
    ww.remove(net())
    assert [str(one.message) for one in recwarn if "whatwhere" in one.filename or "test_" in one.filename] == []


@pytest.mark.parametrize("identity", [True, False])
def test_whatwheres_attention(identity):
    """Inserted attention keeps its site and its hooks; identity gates stay so."""
    model = net()
    ww.insert(model, "cam", at="blocks.?.1", identity=identity, pools="avg", example=images())
    with torch.no_grad():
        for attention in ww.attentions(model).values():
            attention.mlp.fc2.weight.normal_(0, 0.3)
    want = model(images())
    report = ww.replace(model, "cam", "cbam", example=images())
    assert [one.module for one in report.replaced] == ["blocks.0.1", "blocks.1.1", "blocks.2.1"]
    attention = model.blocks[0][1].attention
    assert (attention.identity, attention.channel_identity) == (True, identity)
    torch.testing.assert_close(model(images()), want)
    assert ww.remove(model) == 3


def test_save_and_load(tmp_path):
    timm = pytest.importorskip("timm")
    model = timm.create_model("mobilenetv3_small_050").eval()
    ww.replace(model, "se", "cbam", example=torch.randn(1, 3, 64, 64))
    ww.save(model, tmp_path / "model.safetensors")
    again = ww.load_model(tmp_path / "model.safetensors")
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(again(x), model(x))


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_plain_weights_after_replacing(library, tmp_path):
    """Into se and cam; cbam is another formula, and says so."""
    if library == "timm":
        make = lambda: pytest.importorskip("timm").create_model("mobilenetv3_small_050").eval()  # noqa: E731
    else:
        make = lambda: torchvision.models.mobilenet_v3_small().eval()  # noqa: E731
    plain, model = make(), make()
    torch.save(plain.state_dict(), tmp_path / "plain.pth")
    x = torch.randn(2, 3, 64, 64)
    ww.replace(model, "se", "se", example=x)
    assert ww.load(model, tmp_path / "plain.pth").complete
    torch.testing.assert_close(model(x), plain(x))
    other = make()
    ww.replace(other, "se", "cbam", example=x)
    with pytest.raises(ww.WhatwhereError, match="it is CBAM, the checkpoint's is SE"):
        ww.load(other, tmp_path / "plain.pth")


def test_modules_shared_by_name_are_replaced_under_every_name():
    model = net()
    model.alias = model.blocks[0][2]
    ww.replace(model, "se", "se", example=images())
    assert model.alias is model.blocks[0][2]
    assert isinstance(model.alias, ww.SE)


def test_dtype_device_mode_and_copies():
    model = net().to(torch.bfloat16).train()
    ww.replace(model, "se", "cbam", example=images().bfloat16())
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.blocks[0][2].training
    model = net()
    ww.replace(model, "se", "cbam", example=images())
    assert torch.equal(copy.deepcopy(model)(images()), model(images()))


class Other(nn.Module):
    """Gates channels, but with a normalisation in between."""

    def __init__(self, c):
        super().__init__()
        self.a, self.bn, self.b = nn.Conv2d(c, c // 4, 1), nn.BatchNorm2d(c // 4), nn.Conv2d(c // 4, c, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.b(self.bn(self.a(x.mean((2, 3), keepdim=True))).relu()))


class Leaky(Dense):
    """Another activation than any that is known."""

    def __init__(self, c):
        super().__init__(c)
        self.fc[1] = nn.LeakyReLU(0.1)


class Without(nn.Module):
    """No gate: a bottleneck of two 1×1 convolutions."""

    def __init__(self, c):
        super().__init__()
        self.a, self.b = nn.Conv2d(c, c // 4, 1), nn.Conv2d(c // 4, c, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.b(self.a(x).relu()))


def test_what_is_no_squeeze_and_excitation():
    for make, other in ((Other, True), (Leaky, True), (Without, False), (nn.Identity, False)):
        model = net(make)
        found, others = excitations(model)
        assert found == {}
        assert bool(others) is other
        with pytest.raises(ww.WhatwhereError, match="there is no 'se' in this Net") as caught:
            ww.replace(model, "se", "cbam", example=images())
        assert ("gates are made otherwise" in str(caught.value)) is other


def test_what_is_left_alone_is_said():
    model = net()
    model.blocks[1][2] = Other(16).eval()
    model.blocks[2][2].register_forward_hook(lambda *_: None)
    report = ww.replace(model, "se", "cbam", example=images())
    assert [one.module for one in report.replaced] == ["blocks.0.2"]
    assert "blocks.1.2: Other gates each channel" in str(report)
    assert "blocks.2.2: Dense has hooks" in str(report)


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        (("se", "cbma"), {}, "did you mean 'cbam'"),
        (("sé", "cbam"), {}, "unknown attention"),
        (("se", "cbam"), {"kernl_size": 3}, "did you mean 'kernel_size'"),
        (("se", "cbam"), {"kernel_size": 4}, "odd"),
        (("se", "cbam"), {"at": "layer4.*"}, "matches none of the sites of 'se': blocks.0.2"),
        (("bam", "cbam"), {}, "there is no 'bam'"),
        (("se", "cbam"), {"example": torch.zeros(1, 7, 8, 8)}, "failed on a probe input"),
    ],
)
def test_wrong_calls_leave_the_network_alone(arguments, options, says):
    model = net()
    before = dict(model.named_modules())
    with pytest.raises(ww.WhatwhereError, match=says):
        ww.replace(model, *arguments, **{"example": images(), **options})
    assert dict(model.named_modules()) == before


def test_a_network_that_fails_afterwards_gets_its_own_back():
    class Fussy(Net):
        def forward(self, x):
            assert isinstance(self.blocks[0][2], Dense)
            return super().forward(x)

    model = Fussy(Dense).eval()
    with pytest.raises(ww.WhatwhereError, match="failed on a probe input"):
        ww.replace(model, "se", "cbam", example=images())
    model(images())


def test_wrapped_and_compiled_networks():
    with pytest.raises(ww.WhatwhereError, match="wrapped"):
        ww.replace(nn.DataParallel(net()), "se", "cbam")
    with pytest.raises(ww.WhatwhereError, match="compiled"):
        ww.replace(torch.compile(net()), "se", "cbam")
    with pytest.raises(ww.WhatwhereError, match="meta device"):
        ww.replace(net().to("meta"), "se", "cbam")


def test_removing_after_replacing_says_what_stays():
    model = torchvision.models.mobilenet_v3_small().eval()
    ww.replace(model, "se", "cbam", example=torch.randn(1, 3, 64, 64))
    ww.insert(model, "se", at="residual", example=torch.randn(1, 3, 64, 64))
    with pytest.warns(UserWarning, match=r"stays.*\(was SqueezeExcitation\), …\. To have them back"):
        assert ww.remove(copy.deepcopy(model)) > 0
