"""Each attention against its formula, written again in NumPy and float64 from the papers and the official code."""

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from scipy.special import expit, logsumexp, ndtr

import whatwhere as ww
from whatwhere.layers.gate import GATES

C, H, W = 12, 6, 5


@pytest.fixture
def x():
    return torch.randn(3, C, H, W, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def trained(attention):
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in attention.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.4)
        for name, b in attention.named_buffers():
            if b.is_floating_point():
                b.copy_(torch.rand(b.shape, generator=generator) + (0.5 if "var" in name else 0))
    return attention.double().eval()


def weights(attention):
    return {name: value.numpy() for name, value in attention.state_dict().items()}


def squeeze(u, pool):
    rows = u.reshape(*u.shape[:2], -1)
    return {
        "avg": lambda: rows.mean(-1),
        "max": lambda: rows.max(-1),
        "lp": lambda: np.sqrt((rows**2).sum(-1)),
        "lse": lambda: logsumexp(rows, -1),
    }[pool]()


def mlp(w, z, prefix=""):
    hidden = np.maximum(z @ w[f"{prefix}mlp.fc1.weight"].T + w[f"{prefix}mlp.fc1.bias"], 0)
    return hidden @ w[f"{prefix}mlp.fc2.weight"].T + w[f"{prefix}mlp.fc2.bias"]


def channel_logits(w, u, pools, prefix=""):
    return sum(mlp(w, squeeze(u, pool), prefix) for pool in pools)[:, :, None, None]


def batch_norm(w, z, prefix):
    shape = (1, -1) + (1,) * (z.ndim - 2)
    mean, var, scale, shift = (
        w[f"{prefix}.{n}"].reshape(shape) for n in ("running_mean", "running_var", "weight", "bias")
    )
    return (z - mean) / np.sqrt(var + 1e-5) * scale + shift


def convolve(z, kernel, dilation=1):
    """Cross-correlation with zero padding that keeps the size, kernel (out, in, k, k)."""
    k = kernel.shape[-1]
    spread = np.zeros((*kernel.shape[:2], *(2 * [(k - 1) * dilation + 1])))
    spread[:, :, ::dilation, ::dilation] = kernel
    return np.stack(
        [[sum(correlate2d(m, f, "same") for m, f in zip(image, row, strict=True)) for row in spread] for image in z]
    )


def spatial_logits(w, u, pools, prefix=""):
    maps = np.stack([u.max(1) if pool == "max" else u.mean(1) for pool in pools], 1)
    return batch_norm(w, convolve(maps, w[f"{prefix}conv.weight"]), f"{prefix}bn")


HARD = {"sigmoid": expit, "hard_sigmoid": lambda z: np.clip(z + 3, 0, 6) / 6}
close = {"rtol": 1e-10, "atol": 1e-12}


@pytest.mark.parametrize("gate", HARD)
def test_se(x, gate):
    attention = trained(ww.SE(C, reduction=4, gate=gate))
    want = x.numpy() * HARD[gate](channel_logits(weights(attention), x.numpy(), ["avg"]))
    np.testing.assert_allclose(attention(x).detach(), want, **close)


def test_the_hard_sigmoids_gradient_is_exact():
    """1/6 between -3 and 3, in float64 too; 0 outside and at the ends."""
    z = torch.tensor([-4, -3, -2.5, 0, 1, 2.9, 3, 4], dtype=torch.float64).requires_grad_()
    GATES["hard_sigmoid"](z).sum().backward()
    assert z.grad.tolist() == [0, 0, 1 / 6, 1 / 6, 1 / 6, 1 / 6, 0, 0]


@pytest.mark.parametrize(
    "pools", [("avg",), ("max",), ("avg", "max"), ("lp", "lse"), ("avg", "max", "lp", "lse")], ids=str
)
def test_channel_attention(x, pools):
    attention = trained(ww.ChannelAttention(C, reduction=4, pools=pools))
    want = expit(channel_logits(weights(attention), x.numpy(), pools))
    np.testing.assert_allclose(attention.gates(x).channel.detach(), want, **close)


@pytest.mark.parametrize("pools", [("max", "avg"), ("avg", "max"), ("avg",)], ids=str)
@pytest.mark.parametrize("k", [1, 3, 7])
def test_spatial_attention(x, pools, k):
    attention = trained(ww.SpatialAttention(C, kernel_size=k, pools=pools))
    want = expit(spatial_logits(weights(attention), x.numpy(), pools))
    np.testing.assert_allclose(attention.gates(x).spatial.detach(), want, **close)


def test_spatial_attention_with_a_learned_squeeze(x):
    attention = trained(ww.SpatialAttention(C, kernel_size=3, pools="conv"))
    w = weights(attention)
    squeezed = np.einsum("nchw,c->nhw", x.numpy(), w["squeeze.weight"].reshape(-1))[:, None]
    want = expit(batch_norm(w, convolve(squeezed, w["conv.weight"]), "bn"))
    np.testing.assert_allclose(attention.gates(x).spatial.detach(), want, **close)


ORDERS = ["channel-spatial", "spatial-channel", "parallel"]


@pytest.mark.parametrize(
    ("order", "channel", "spatial"),
    [(o, True, True) for o in ORDERS] + [(o, c, not c) for o in ORDERS[:2] for c in (True, False)],
)
def test_cbam(x, order, channel, spatial):
    attention = trained(ww.CBAM(C, reduction=4, order=order, channel=channel, spatial=spatial))
    w, want = weights(attention), x.numpy()

    def what(u):
        return channel_logits(w, u, ["avg", "max"], "channel.") if channel else np.inf

    def where(u):
        return spatial_logits(w, u, ["max", "avg"], "spatial.") if spatial else np.inf

    if order == "parallel":
        want = want * expit(what(want) + where(want))
    else:
        for logits in (what, where) if order == "channel-spatial" else (where, what):
            want = want * expit(logits(want))
    np.testing.assert_allclose(attention(x).detach(), want, **close)


@pytest.mark.parametrize("combine", ["product", "sum"])
def test_bam(x, combine):
    attention = trained(ww.BAM(C, reduction=3, dilation=2, combine=combine))
    w = weights(attention)
    hidden = np.maximum(batch_norm(w, x.numpy().mean((2, 3)) @ w["fc1.weight"].T + w["fc1.bias"], "bn"), 0)
    channel = (hidden @ w["fc2.weight"].T + w["fc2.bias"])[:, :, None, None]
    z = x.numpy()
    for i, dilation in ((0, 1), (3, 2), (6, 2)):
        z = convolve(z, w[f"body.{i}.weight"], dilation) + w[f"body.{i}.bias"].reshape(1, -1, 1, 1)
        z = np.maximum(batch_norm(w, z, f"body.{i + 1}"), 0)
    spatial = convolve(z, w["head.weight"]) + w["head.bias"]
    want = x.numpy() * (1 + expit(channel * spatial if combine == "product" else channel + spatial))
    np.testing.assert_allclose(attention(x).detach(), want, **close)


def halve(u):
    """Averages of two neighbours along each side; a side of 1 stays, the last of an odd number is left out."""
    for axis in (2, 3):
        pairs = u.shape[axis] // 2
        if pairs:
            u = (u.take(range(0, 2 * pairs, 2), axis) + u.take(range(1, 2 * pairs, 2), axis)) / 2
    return u


def depthwise(z, kernel):
    return np.stack([[correlate2d(m, k[0], "same") for m, k in zip(image, kernel, strict=True)] for image in z])


@pytest.mark.parametrize("gate", HARD)
@pytest.mark.parametrize(("h", "w"), [(H, W), (7, 12), (1, 5), (1, 1)])
def test_dfc(h, w, gate):
    x = torch.randn(3, C, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    attention = trained(ww.DFC(C, gate=gate))
    values = weights(attention)
    z = np.einsum("nchw,oc->nohw", halve(x.numpy()), values["short_conv.0.weight"][:, :, 0, 0])
    z = depthwise(batch_norm(values, z, "short_conv.1"), values["short_conv.2.weight"])
    z = depthwise(batch_norm(values, z, "short_conv.3"), values["short_conv.4.weight"])
    assert values["short_conv.2.weight"].shape == (C, 1, 1, 5)
    assert values["short_conv.4.weight"].shape == (C, 1, 5, 1)
    small = HARD[gate](batch_norm(values, z, "short_conv.5"))
    rows, columns = (np.arange(side) * half // side for side, half in zip((h, w), small.shape[2:], strict=True))
    want = small[:, :, rows][:, :, :, columns]
    np.testing.assert_allclose(attention.gates(x).full.detach(), want, **close)
    np.testing.assert_allclose(attention(x).detach(), x.numpy() * want, **close)


def test_batch_statistics_in_training(x):
    attention = trained(ww.SpatialAttention(C, kernel_size=3)).train()
    w = weights(attention)
    z = convolve(np.stack([x.numpy().max(1), x.numpy().mean(1)], 1), w["conv.weight"])
    want = expit((z - z.mean()) / np.sqrt(z.var() + 1e-5) * w["bn.weight"] + w["bn.bias"])
    before = attention.bn.running_mean.item()
    np.testing.assert_allclose(attention.gates(x).spatial.detach(), want, **close)
    np.testing.assert_allclose(attention.bn.running_mean.item(), 0.99 * before + 0.01 * z.mean(), **close)


@pytest.mark.parametrize(("channels", "kernel"), [(1, 1), (12, 3), (64, 3), (128, 5), (1024, 5), (2048, 7)])
def test_eca(channels, kernel):
    u = torch.randn(2, channels, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    attention = trained(ww.ECA(channels))
    w = weights(attention)["conv.weight"].reshape(-1)
    assert len(w) == kernel
    padded = np.pad(u.numpy().mean((2, 3)), ((0, 0), (kernel // 2, kernel // 2)))
    z = np.stack([padded[:, i : i + kernel] @ w for i in range(channels)], 1)
    np.testing.assert_allclose(attention(u).detach(), u.numpy() * expit(z)[:, :, None, None], **close)


@pytest.mark.parametrize(
    ("activation", "formula"),
    [
        ("relu", lambda z: np.maximum(z, 0)),
        ("silu", lambda z: z * expit(z)),
        ("gelu", lambda z: z * ndtr(z)),
        ("hard_swish", lambda z: z * np.clip(z + 3, 0, 6) / 6),
        ("relu6", lambda z: np.clip(z, 0, 6)),
    ],
)
@pytest.mark.parametrize("name", ["se", "cam", "cbam"])
def test_activations_and_hidden_width(x, name, activation, formula):
    attention = trained(ww.create(name, C, hidden=5, activation=activation))
    prefix = "channel.mlp" if name == "cbam" else "mlp"
    w, z = weights(attention), 0
    assert w[f"{prefix}.fc1.weight"].shape == (5, C)
    for pool in ("avg",) if name == "se" else ("avg", "max"):
        hidden = formula(squeeze(10 * x.numpy(), pool) @ w[f"{prefix}.fc1.weight"].T + w[f"{prefix}.fc1.bias"])
        z = z + hidden @ w[f"{prefix}.fc2.weight"].T + w[f"{prefix}.fc2.bias"]
    np.testing.assert_allclose(attention.gates(10 * x).channel.detach()[:, :, 0, 0], expit(z), **close)


def test_only_the_spatial_gate_starts_at_one(x):
    """channel_identity=False: the channel gate is the paper's, the spatial gate 2·σ(z)."""
    attention, paper = ww.CBAM(C, identity=True, channel_identity=False), trained(ww.CBAM(C))
    assert attention.gates(x.float()).spatial.eq(1).all()
    attention.double().eval().load_state_dict(paper.state_dict())
    got, want = attention.gates(x), paper.gates(x)
    torch.testing.assert_close(got.channel, want.channel)
    torch.testing.assert_close(got.spatial, 2 * want.spatial)
    assert (attention.channel_neutral, attention.neutral) == (0.5, 1.0)


@pytest.mark.parametrize("name", ["se", "cam", "sam", "bam", "eca", "dfc"])
def test_identity_form_is_twice_the_gate(x, name):
    paper, identity = ww.create(name, C), ww.create(name, C, identity=True)
    identity.load_state_dict(trained(paper).state_dict())
    offset = 1 if name == "bam" else 0
    for one, other in zip(paper.gates(x), identity.double().eval().gates(x), strict=True):
        if one is not None:
            torch.testing.assert_close(other, 2 * (one - offset))


def test_the_papers_start(x):
    """At the start the spatial gate is 1/2 everywhere, biases are 0 and the hidden width is C // r."""
    attention = ww.CBAM(64)
    assert attention.gates(torch.randn(2, 64, 7, 7)).spatial.eq(0.5).all()
    assert attention.channel.mlp.fc1.weight.shape == (4, 64)
    assert attention.channel.mlp.fc1.bias.eq(0).all()
    assert attention.spatial.conv.bias is None
    assert attention.spatial.bn.momentum == 0.01
    assert ww.SE(8).mlp.fc1.weight.shape == (1, 8)
    assert {n: p.numel() for n, p in ww.CBAM(8).named_parameters()}["spatial.conv.weight"] == 98
