"""The non-local block against its formula, form by form and mode by mode."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

import whatwhere as ww
from whatwhere.errors import WhatwhereError
from whatwhere.layers import entry

from .residual_numpy import project, renamed, some_map
from .test_formulas import batch_norm, close, trained, weights

MODES = ["embedded_gaussian", "gaussian", "dot_product", "concatenation"]
FORMS = {  # sub-sampled, before the convolutions, scaled, normalised
    "mmcv": (False, False, True, False),
    "alexhex7": (True, False, False, True),
    "caffe2": (True, True, True, True),
}
KEY_MAPS = {key_map.title: key_map for key_map in entry("nonlocal").key_maps}


def halve(u):
    """Maxima of two neighbours along each side; a side of 1 stays, the last of an odd number is left out."""
    for axis in (2, 3):
        pairs = u.shape[axis] // 2
        if pairs:
            u = np.maximum(u.take(range(0, 2 * pairs, 2), axis), u.take(range(1, 2 * pairs, 2), axis))
    return u


def by_hand(w, u, mode, sub_sample, pool_first, scale, norm, statistics=False):
    seen = halve(u) if sub_sample and pool_first else u
    theta, phi = (u, seen) if mode == "gaussian" else (project(w, "theta", u), project(w, "phi", seen))
    g = project(w, "g", seen)
    if sub_sample and not pool_first:
        phi, g = halve(phi), halve(g)
    theta, phi, g = (z.reshape(*z.shape[:2], -1) for z in (theta, phi, g))
    d, keys = g.shape[1:]
    likeness = np.empty((len(u), theta.shape[2], keys))
    for n, i, j in np.ndindex(likeness.shape):
        if mode == "concatenation":
            joined = np.concatenate([theta[n, :, i], phi[n, :, j]])
            likeness[n, i, j] = max(0, w["concat_project.weight"].ravel() @ joined)
        else:
            likeness[n, i, j] = theta[n, :, i] @ phi[n, :, j]
    if mode in ("dot_product", "concatenation"):
        a = likeness / keys
    else:
        a = softmax(likeness / np.sqrt(d) if scale and mode == "embedded_gaussian" else likeness, 2)
    z = project(w, "conv_out", np.einsum("nij,ndj->ndi", a, g).reshape(len(u), d, *u.shape[2:]))
    if norm and statistics:
        mean, var = z.mean((0, 2, 3), keepdims=True), z.var((0, 2, 3), keepdims=True)
        z = (z - mean) / np.sqrt(var + 1e-5) * w["bn.weight"].reshape(1, -1, 1, 1) + w["bn.bias"].reshape(1, -1, 1, 1)
    elif norm:
        z = batch_norm(w, z, "bn")
    return u + z


@pytest.mark.parametrize(("h", "w"), [(4, 4), (5, 3), (1, 4), (1, 1)])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", FORMS)
def test_forms(form, mode, h, w):
    x = some_map(2, 7, h, w, scale=0.7)
    attention = trained(ww.NonLocal(7, form=form, mode=mode))
    np.testing.assert_allclose(
        attention(x).detach(), by_hand(weights(attention), x.numpy(), mode, *FORMS[form]), **close
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("sub_sample", "scale", "norm"), [(False, False, True), (True, True, False)])
def test_options_win_over_the_form(form, sub_sample, scale, norm):
    x = some_map(2, 8, 4, 6)
    attention = trained(ww.NonLocal(8, hidden=3, form=form, sub_sample=sub_sample, scale=scale, norm=norm))
    assert attention.theta.weight.shape[:2] == (3, 8)
    assert (attention.conv_out.bias is None) is (form == "mmcv" and norm)
    want = by_hand(weights(attention), x.numpy(), "embedded_gaussian", sub_sample, form == "caffe2", scale, norm)
    np.testing.assert_allclose(attention(x).detach(), want, **close)


@pytest.mark.parametrize("form", ["alexhex7", "caffe2"])
def test_batch_statistics_in_training(form):
    x = some_map(3, 6, 4, 4)
    attention = trained(ww.NonLocal(6, form=form))
    want = by_hand(weights(attention), x.numpy(), "embedded_gaussian", *FORMS[form], statistics=True)
    np.testing.assert_allclose(attention.train()(x).detach(), want, **close)
    assert attention.bn.momentum == 0.1
    assert attention.train()(x[:1, :, :1, :1]).isfinite().all()  # one value a channel


def test_pooling_before_and_after_are_not_the_same():
    x = some_map(2, 8, 6, 6)
    after, before = (trained(ww.NonLocal(8, form=form)) for form in ("alexhex7", "caffe2"))
    before.load_state_dict(after.state_dict())
    before.scale = False
    assert (after(x) - before(x)).abs().max() > 1e-2


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("identity", [False, True])
def test_starts_at_x_and_learns(form, mode, identity):
    torch.manual_seed(0)
    attention = ww.NonLocal(64, form=form, mode=mode, identity=identity)
    x = some_map(4, 64, 6, 6).float()
    for training in (True, False):
        assert attention.train(training)(x).equal(x)
    (attention(x) * some_map(4, 64, 6, 6, seed=1)).sum().backward()
    last = attention.conv_out if attention.bn is None else attention.bn
    assert last.weight.grad.abs().max() > 0
    spread = attention.g.weight.std().item()
    assert spread == pytest.approx(3**-0.5 / 8 if form == "alexhex7" else 0.01, rel=0.1)  # uniform within ±1/√C
    assert attention.g.bias.eq(0).all().item() is (form != "alexhex7")


def test_mmcvs_start_where_the_last_layer_is_not_0():
    """He-normal by what leaves: variance 2/C of W before a normalisation, 2 of the projection to one number."""
    torch.manual_seed(0)
    attention = ww.NonLocal(400, norm=True, mode="concatenation")
    assert attention.conv_out.weight.var().item() == pytest.approx(2 / 400, rel=0.05)
    assert attention.concat_project.weight.var().item() == pytest.approx(2, rel=0.3)


def test_widths():
    assert {c: ww.NonLocal(c).hidden for c in (1, 2, 3, 64)} == {1: 1, 2: 1, 3: 1, 64: 32}
    assert sum(p.numel() for p in ww.NonLocal(256).parameters()) == 131_712
    assert ww.NonLocal(8, mode="gaussian").theta is None


def names_there(title):
    return {ours: theirs for theirs, ours in KEY_MAPS[title].parts.items()}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("options", "keys", "title"),
    [
        ({}, {"g.conv.weight", "conv_out.conv.bias"}, "mmcv's NonLocal2d"),
        ({"norm": True}, {"g.conv.weight", "conv_out.bn.running_var"}, "mmcv's NonLocal2d"),
        ({"sub_sample": True}, {"g.0.conv.weight", "conv_out.conv.bias"}, "mmcv's NonLocal2d, sub-sampled"),
        (
            {"form": "alexhex7"},
            {"g.0.weight", "W.0.bias", "W.1.running_var"},
            "AlexHex7's Non-local_pytorch, sub-sampled",
        ),
        (
            {"form": "alexhex7", "norm": False},
            {"g.0.weight", "W.bias"},
            "AlexHex7's Non-local_pytorch, sub-sampled, not normalised",
        ),
        ({"form": "alexhex7", "sub_sample": False}, {"g.weight", "W.0.bias"}, "AlexHex7's Non-local_pytorch"),
        (
            {"form": "alexhex7", "sub_sample": False, "norm": False},
            {"g.weight", "W.bias"},
            "AlexHex7's Non-local_pytorch, not normalised",
        ),
    ],
)
def test_spellings(mode, options, keys, title):
    made = trained(ww.NonLocal(16, mode=mode, **options)).float()
    state = renamed(made, names_there(title))
    assert {f"module.layer.{key}" for key in keys} <= state.keys()
    for identity in (False, True):
        got = ww.NonLocal(16, mode=mode, identity=identity, **options).load_official(state)
        assert all(value.equal(made.state_dict()[key]) for key, value in got.state_dict().items())
    shapes = {key: tuple(value.shape) for key, value in made.state_dict().items()}
    told = ww.NonLocal.options_from_shapes(shapes)
    assert told["hidden"] == 8
    assert told["norm"] is made.norm
    assert told.get("mode", mode) == mode


@pytest.mark.parametrize(
    ("options", "title", "made", "says"),
    [
        ({"form": "alexhex7"}, "mmcv's NonLocal2d", {"norm": True}, "sub_sample=True where the checkpoint has False"),
        ({"form": "caffe2"}, "AlexHex7's Non-local_pytorch, sub-sampled", {"form": "alexhex7"}, "pool_first=True"),
        (
            {"form": "alexhex7", "scale": True},
            "AlexHex7's Non-local_pytorch, sub-sampled",
            {"form": "alexhex7"},
            "scale=True",
        ),
        ({}, "mmcv's NonLocal2d, sub-sampled", {"sub_sample": True}, "sub_sample=False where the checkpoint has True"),
        ({"mode": "concatenation"}, "mmcv's NonLocal2d", {}, "missing: concat_project.conv.weight"),
    ],
)
def test_other_formulas_are_refused(options, title, made, says):
    state = renamed(ww.NonLocal(16, **made), names_there(title))
    with pytest.raises(WhatwhereError, match=says):
        ww.NonLocal(16, **options).load_official(state)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "gauss"}, "unknown mode 'gauss'"),
        ({"form": "caffe"}, "unknown form 'caffe'.*caffe2"),
        ({"reduction": 0}, "reduction must be"),
        ({"hidden": -1}, "hidden must be"),
        ({"sub_sample": 2}, "sub_sample must be True or False"),
        ({"scale": 0.5}, "scale must be True or False"),
        ({"norm": "batch"}, "norm must be True or False"),
    ],
)
def test_wrong_options(options, says):
    with pytest.raises(WhatwhereError, match=says):
        ww.NonLocal(16, **options)
