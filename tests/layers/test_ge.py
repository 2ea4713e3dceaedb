"""Gather-excite: its formula in NumPy for each form and extent, its start, sizes, and the names of other code."""

import copy

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from scipy.special import expit

import whatwhere as ww
from whatwhere.errors import WhatwhereError


def a_map(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def trained(attention):
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, value in attention.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.randn(value.shape, generator=generator))
                if "running_var" in name:
                    value.abs_().add_(0.3)
    return attention.double()


def averages(x, extent):
    """Averages over (2E − 1)² positions, those of the map alone, at every E-th position."""
    if extent == 0:
        return x.mean((2, 3), keepdims=True)
    rows, columns = (range(0, side, extent) for side in x.shape[2:])
    found = np.empty((*x.shape[:2], len(rows), len(columns)))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            around = x[:, :, max(0, row - extent + 1) : row + extent, max(0, column - extent + 1) : column + extent]
            found[:, :, i, j] = around.mean((2, 3))
    return found


def normal(z, w, name, training):
    mean, variance = (w[f"{name}.running_{m}"][:, None, None] for m in ("mean", "var"))
    if training:
        mean, variance = z.mean((0, 2, 3), keepdims=True), z.var((0, 2, 3), keepdims=True)
    z = (z - mean) / np.sqrt(variance + 1e-5)
    return z * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]


def convolved(x, w, extent, training):
    if extent == 0:
        z = (x * w["downop.0.dwconv.weight"][None, :, 0]).sum((2, 3), keepdims=True)
        return normal(z, w, "downop.0.bn", training)
    for i in range({2: 1, 4: 2, 8: 3}[extent]):
        kernels = w[f"downop.{i}.dwconv.weight"][:, 0]
        x = np.maximum(x, 0) if i else x
        maps = [[correlate2d(m, k, "same")[::2, ::2] for m, k in zip(image, kernels, strict=True)] for image in x]
        x = normal(np.stack(maps), w, f"downop.{i}.bn", training)
    return x


def dense(z, w, name):
    out = np.einsum("nchw,oc->nohw", z, w[f"{name}.weight"][:, :, 0, 0])
    return out + w[f"{name}.bias"][:, None, None] if f"{name}.bias" in w else out


def gates(x, w, learned, extent, relu=True, training=False):
    gathered = convolved(x, w, extent, training) if learned in ("gather", "both") else averages(x, extent)
    if learned == "both" and relu:
        gathered = np.maximum(gathered, 0)
    if learned in ("both", "excite"):
        gathered = dense(np.maximum(dense(gathered, w, "mlp.0"), 0), w, "mlp.2")
    small = gathered.shape[2:]
    if extent:
        rows, columns = (np.arange(side) * few // side for side, few in zip(x.shape[2:], small, strict=True))
        gathered = gathered[:, :, rows][:, :, :, columns]
    return gathered


def weights(attention):
    return {name: value.clone().numpy() for name, value in attention.state_dict().items()}


FORMS = ["nothing", "gather", "both", "excite"]


@pytest.mark.parametrize("learned", FORMS)
@pytest.mark.parametrize("extent", [0, 2, 4, 8])
@pytest.mark.parametrize("size", [(12, 9), (5, 1)])
@pytest.mark.parametrize("training", [False, True])
def test_formula(learned, extent, size, training):
    x = a_map(3, 6, *size)
    fixed = {"size": size} if extent == 0 and learned in ("gather", "both") else {}
    attention = trained(ww.GatherExcite(6, learned=learned, extent=extent, reduction=2, **fixed)).train(training)
    w = weights(attention)
    want = expit(gates(x.numpy(), w, learned, extent, training=training))
    found = attention.gates(x)
    gate = found.channel if extent == 0 else found.full
    np.testing.assert_allclose(gate.detach(), want, rtol=1e-8, atol=1e-12)
    attention.load_state_dict({name: torch.from_numpy(value) for name, value in w.items()})
    np.testing.assert_allclose(attention(x).detach(), x.numpy() * want, rtol=1e-8, atol=1e-12)


def test_options_of_both():
    x = a_map(2, 8, 9, 9)
    attention = trained(ww.GatherExcite(8, learned="both", extent=2, reduction=4, bias=False, relu=False)).eval()
    w = weights(attention)
    assert w["mlp.0.weight"].shape == (2, 8, 1, 1)
    assert "mlp.0.bias" not in w
    np.testing.assert_allclose(attention.gates(x).full.detach(), expit(gates(x.numpy(), w, "both", 2, relu=False)))


@pytest.mark.parametrize("learned", FORMS)
@pytest.mark.parametrize("extent", [0, 4])
def test_the_identity_form_starts_at_the_identity_and_learns(learned, extent):
    x = a_map(4, 32, 8, 8).float()
    fixed = {"size": 8} if extent == 0 and learned in ("gather", "both") else {}
    torch.manual_seed(0)
    attention = ww.GatherExcite(32, learned=learned, extent=extent, reduction=4, identity=True, **fixed)
    for training in (True, False):
        assert attention.train(training)(x).equal(x)
    optimizer = torch.optim.SGD(attention.parameters(), lr=1.0)
    (attention(x) * a_map(32, 8, 8).float()).mean().backward()
    optimizer.step()
    gate = attention.gates(x)[2 if extent else 0]
    assert (gate != 1).flatten(1).any(1).all()
    w = {name: value.double().numpy() for name, value in attention.state_dict().items()}
    z = gates(x.double().numpy(), w, learned, extent) * w.get("gamma", 1)
    np.testing.assert_allclose(gate.detach(), 2 * expit(z), rtol=1e-4)


def test_start():
    counts = {"nothing": 0, "gather": 256 * 49 + 512, "both": 256 * 49 + 512 + 2 * 256 * 16 + 272}
    for learned, count in counts.items():
        attention = ww.GatherExcite(256, learned=learned, **({} if learned == "nothing" else {"size": 7}))
        assert sum(p.numel() for p in attention.parameters()) == count
    torch.manual_seed(0)
    both = ww.GatherExcite(256, learned="both", size=14)
    assert both.downop[0].dwconv.weight.std().item() == pytest.approx((2 / 14**2) ** 0.5, rel=0.05)
    for conv in (both.mlp[0], both.mlp[2]):
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert conv.bias.eq(0).all()
    assert (both.eval().gates(a_map(2, 256, 14, 14).float()).channel - 0.5).abs().max() < 0.01


def test_one_image_in_training_takes_the_running_statistics():
    x = a_map(1, 6, 5, 5)
    attention = trained(ww.GatherExcite(6, learned="gather", size=5)).train()
    want = expit(gates(x.numpy(), weights(attention), "gather", 0))
    np.testing.assert_allclose(attention.gates(x).channel.detach(), want, rtol=1e-10)


@pytest.mark.parametrize("extent", [2, 4, 8])
@pytest.mark.parametrize("size", [(16, 16), (13, 9)])
def test_timm_gathers_without_parameters_alike(extent, size):
    layers = pytest.importorskip("timm.layers.gather_excite")
    x = a_map(2, 8, *size)
    theirs = layers.GatherExcite(8, extent=extent, use_mlp=False)
    torch.testing.assert_close(ww.GatherExcite(8, extent=extent)(x), theirs(x))


@pytest.mark.parametrize("prefix", ["", "module.layer1.0.ge."])
@pytest.mark.parametrize("extent", [0, 2, 4, 8])
@pytest.mark.parametrize("learned", ["gather", "both"])
@pytest.mark.parametrize("code", ["pytorch-GENet", "timm"])
def test_names_of_other_code(prefix, extent, learned, code):
    bias = code == "timm"
    options = {"learned": learned, "extent": extent, "bias": bias, "relu": False} | ({} if extent else {"size": 8})
    one = trained(ww.GatherExcite(32, **options)).eval()
    theirs = {}
    for name, value in one.state_dict().items():
        top, rest = name.split(".", 1)
        if code == "timm":
            leaf = name.rsplit(".", 1)[1]
            number = int(rest[0]) + 1
            part = "conv" if "dwconv" in name else "norm"
            name = f"gather.{part}{number}.{leaf}" if top == "downop" else f"mlp.fc{1 if rest[0] == '0' else 2}.{leaf}"
        elif top == "downop" and extent in (0, 2):
            name = f"downop.{rest.removeprefix('0.')}"
        theirs[prefix + name] = value
    x = a_map(2, 32, 8, 8)
    assert ww.GatherExcite(32, **options).double().eval().load_official(theirs)(x).equal(one(x))
    if learned == "both":
        with pytest.raises(WhatwhereError, match="relu=True"):
            ww.GatherExcite(32, **options | {"relu": True}).load_official(theirs)
    shapes = {name: tuple(value.shape) for name, value in one.state_dict().items()}
    told = ww.GatherExcite.options_from_shapes(shapes)
    again = ww.GatherExcite(32, **told | {"relu": False})
    assert {name: tuple(value.shape) for name, value in again.state_dict().items()} == shapes


@pytest.mark.parametrize(
    "options",
    [{"learned": learned, "extent": extent} for learned in FORMS for extent in (2, 8)] + [{"learned": "excite"}],
    ids=str,
)
def test_forms_for_every_size_in_other_layouts_dtypes_and_graphs(options):
    attention = trained(ww.GatherExcite(8, reduction=2, **options)).float().eval()
    x = a_map(2, 8, 12, 10).float()
    want = attention(x)
    y = attention(x.to(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, want)
    half = copy.deepcopy(attention).bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), want, rtol=0.05, atol=0.05)
    sizes = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height", min=9), 3: torch.export.Dim("width", min=9)}
    program = torch.export.export(attention, (x,), dynamic_shapes=(sizes,))
    other = a_map(3, 8, 11, 17).float()
    torch.testing.assert_close(program.module()(other), attention(other))


def test_another_size_raises():
    with pytest.raises(WhatwhereError, match=r"made for maps of \(8, 6\), got \(6, 8\)"):
        ww.GatherExcite(4, learned="gather", size=(8, 6))(torch.zeros(1, 4, 6, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learned": "theta"}, "unknown learned 'theta': one of nothing, gather, excite, both"),
        ({"extent": 3}, "extent must be one of 0, 2, 4, 8, got 3"),
        ({"extent": True}, "extent must be one of 0, 2, 4, 8, got True"),
        ({"learned": "gather"}, "learned='gather' with extent=0 needs size"),
        ({"learned": "both", "extent": 2, "size": 7}, "takes maps of every size: leave size out"),
        ({"size": 7}, "takes maps of every size: leave size out"),
        ({"learned": "both", "size": 0}, "size must be a whole number of at least 1"),
        ({"bias": None}, "bias must be True or False"),
        ({"relu": None}, "relu must be True or False"),
        ({"reduction": 0}, "reduction must be a whole number"),
    ],
    ids=str,
)
def test_bad_options(options, message):
    with pytest.raises(WhatwhereError, match=message):
        ww.GatherExcite(8, **options)
