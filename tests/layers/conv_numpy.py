"""Convolution, batch normalisation and averages in NumPy, for the formulas of attentions that contain convolutions."""

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view


def a_map(shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def trained(attention):
    """Every parameter and statistic at random, in float64."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in attention.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.4 + (0.5 if p.dim() == 1 else 0))
        for name, b in attention.named_buffers():
            if b.is_floating_point():
                b.copy_(torch.rand(b.shape, generator=generator) + (0.5 if "var" in name else 0))
    return attention.double().eval()


def weights(attention):
    return {name: value.detach().clone().numpy() for name, value in attention.state_dict().items()}


def convolve(x, w, name, stride=1, dilation=1, groups=1):
    """The convolution ``name``, padded with zeros by half a kernel."""
    kernel, bias = w[f"{name}.weight"], w.get(f"{name}.bias")
    (kh, kw), outputs = kernel.shape[2:], len(kernel)
    assert x.shape[1] == kernel.shape[1] * groups
    reach = [(0, 0), (0, 0), *((dilation * (k // 2),) * 2 for k in (kh, kw))]
    windows = sliding_window_view(np.pad(x, reach), (dilation * (kh - 1) + 1, dilation * (kw - 1) + 1), (2, 3))
    windows = windows[:, :, ::stride, ::stride, ::dilation, ::dilation]
    ins, outs = x.shape[1] // groups, outputs // groups
    parts = [
        np.einsum("nchwij,ocij->nohw", windows[:, g * ins : (g + 1) * ins], kernel[g * outs : (g + 1) * outs])
        for g in range(groups)
    ]
    y = np.concatenate(parts, 1)
    return y if bias is None else y + bias[None, :, None, None]


class Norms:
    """Batch normalisations of ``(N, C, H, W)``; in training they remember what the running statistics become."""

    def __init__(self, w, training, momentum=0.1):
        self.w, self.training, self.momentum, self.after = w, training, momentum, {}

    def __call__(self, z, name):
        mean, var, scale, shift = (self.w[f"{name}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        if self.training:
            count = z.size // z.shape[1]
            batch_mean, batch_var = z.mean((0, 2, 3)), z.var((0, 2, 3))
            self.after[f"{name}.running_mean"] = (1 - self.momentum) * mean + self.momentum * batch_mean
            self.after[f"{name}.running_var"] = (1 - self.momentum) * var + self.momentum * batch_var * count / (
                count - 1
            )
            mean, var = batch_mean, batch_var
        mean, var, scale, shift = (v[None, :, None, None] for v in (mean, var, scale, shift))
        return (z - mean) / np.sqrt(var + 1e-5) * scale + shift

    def check(self, attention):
        """The running statistics of the attention are those that were remembered."""
        got = weights(attention)
        for name, want in self.after.items():
            np.testing.assert_allclose(got[name], want, **CLOSE, err_msg=name)
        assert self.training == bool(self.after)


def average(x):
    return x.mean((2, 3), keepdims=True)


def softmax(z, axis):
    e = np.exp(z - z.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


CLOSE = {"rtol": 1e-9, "atol": 1e-11}
