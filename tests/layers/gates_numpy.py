"""What formulas in NumPy share, and how an attention is brought away from its start."""

import numpy as np
import torch
from scipy.special import expit

GATES = {"sigmoid": expit, "hard_sigmoid": lambda z: np.clip(z + 3, 0, 6) / 6}
CLOSE = {"rtol": 1e-10, "atol": 1e-12}


def a_map(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def trained(attention, seed=7):
    """The attention in float64 and evaluation, every parameter and statistic drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in attention.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.5)
        for name, b in attention.named_buffers():
            if b.is_floating_point():
                b.copy_(torch.rand(b.shape, generator=generator) + (0.5 if "var" in name else 0))
    return attention.double().eval()


def weights(attention):
    return {name: value.numpy().copy() for name, value in attention.state_dict().items()}


def pointwise(w, x, name):
    """A 1×1 convolution, whose weight may have two axes."""
    z = np.einsum("nchw,oc->nohw", x, w[f"{name}.weight"].reshape(len(w[f"{name}.weight"]), -1))
    return z + w[f"{name}.bias"].reshape(1, -1, 1, 1) if f"{name}.bias" in w else z


def softmax(z, axis):
    e = np.exp(z - z.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def normalise(z, axes):
    mean, var = z.mean(axes, keepdims=True), z.var(axes, keepdims=True)
    return (z - mean) / np.sqrt(var + 1e-5)


def affine(w, z, name):
    shape = (1, -1) + (1,) * (z.ndim - 2)
    return z * w[f"{name}.weight"].reshape(shape) + w[f"{name}.bias"].reshape(shape)


def batch_norm(w, z, name, training=False):
    if training:
        return affine(w, normalise(z, (0, *range(2, z.ndim))), name)
    shape = (1, -1) + (1,) * (z.ndim - 2)
    mean, var = (w[f"{name}.running_{what}"].reshape(shape) for what in ("mean", "var"))
    return affine(w, (z - mean) / np.sqrt(var + 1e-5), name)


def group_norm(w, z, name, groups):
    grouped = z.reshape(len(z), groups, -1)
    return affine(w, normalise(grouped, (2,)).reshape(z.shape), name)
