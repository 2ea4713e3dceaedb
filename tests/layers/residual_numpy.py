"""What the formulas of several residual attentions need, in NumPy."""

import numpy as np
import torch


def some_map(*shape, seed=0, scale=1.0):
    return scale * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def project(w, name, u):
    """A 1 × 1 convolution of maps (N, C, H, W), with the bias if there is one."""
    z = np.einsum("nchw,oc->nohw", u, w[f"{name}.weight"][:, :, 0, 0])
    return z + w[f"{name}.bias"].reshape(1, -1, 1, 1) if f"{name}.bias" in w else z


def renamed(attention, names):
    """The state dict of an attention under other names, as a network has it."""
    found = {}
    for key, value in attention.state_dict().items():
        part = max((ours for ours in names if key == ours or key.startswith(f"{ours}.")), key=len)
        found[f"module.layer.{names[part]}{key.removeprefix(part)}"] = value
    return found
