"""What the formulas of gates from lines are made of, in NumPy and float64."""

import numpy as np
import torch
from scipy.signal import correlate2d
from scipy.special import expit

GATES = {"sigmoid": expit, "hard_sigmoid": lambda z: np.clip(z + 3, 0, 6) / 6}
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def a_map(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def randomised(attention, training=False):
    """Return the attention in float64, everything in it drawn at random, and copies of its tensors before it runs."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in attention.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.4)
        for name, b in attention.named_buffers():
            if b.is_floating_point():
                b.copy_(torch.rand(b.shape, generator=generator) + (0.5 if "var" in name else 0))
    attention.double().train(training)
    return attention, {name: value.numpy().copy() for name, value in attention.state_dict().items()}


def gate(z, options):
    """The gate function: twice it with the identity form."""
    return (2 if options.get("identity") else 1) * GATES[options.get("gate", "sigmoid")](z)


def convolve(w, name, z, groups=1):
    """Correlation with zero padding that keeps the size; kernels ``(out, in / groups, rows, columns)``, bias if any."""
    kernel = w[f"{name}.weight"]
    inputs, outputs = kernel.shape[1], len(kernel) // groups
    bias = w.get(f"{name}.bias", np.zeros(len(kernel)))
    made = [
        [
            bias[o] + sum(correlate2d(image[o // outputs * inputs + i], kernel[o, i], "same") for i in range(inputs))
            for o in range(len(kernel))
        ]
        for image in z
    ]
    return np.array(made).reshape(len(z), len(kernel), *z.shape[2:])


def batch_norm(w, name, z, training, eps=1e-5):
    """Normalise by the statistics of the batch in training, else by the running ones."""
    axes = (0, 2, 3)
    mean = z.mean(axes) if training else w[f"{name}.running_mean"]
    var = z.var(axes) if training else w[f"{name}.running_var"]
    scale, shift = w[f"{name}.weight"] / np.sqrt(var + eps), w[f"{name}.bias"]
    return (z - mean[:, None, None]) * scale[:, None, None] + shift[:, None, None]


def group_norm(w, name, z, groups, eps=1e-5):
    """Normalise the channels of a group together, image by image."""
    parts = z.reshape(len(z), groups, -1)
    parts = (parts - parts.mean(2, keepdims=True)) / np.sqrt(parts.var(2, keepdims=True) + eps)
    per_channel = (-1,) + (1,) * (z.ndim - 2)
    return parts.reshape(z.shape) * w[f"{name}.weight"].reshape(per_channel) + w[f"{name}.bias"].reshape(per_channel)


def statistics_follow(attention, w, name, z, momentum):
    """Check the running statistics of a normalisation after one training batch ``z``."""
    values = z.size // z.shape[1]
    after = attention.get_submodule(name)
    mean = (1 - momentum) * w[f"{name}.running_mean"] + momentum * z.mean((0, 2, 3))
    var = (1 - momentum) * w[f"{name}.running_var"] + momentum * z.var((0, 2, 3)) * values / (values - 1)
    np.testing.assert_allclose(after.running_mean, mean, **CLOSE)
    np.testing.assert_allclose(after.running_var, var, **CLOSE)


def like_torch(layer):
    """Whether weights may be a draw of PyTorch's own: within its bound and of its spread; enough of them are needed."""
    bound = (layer.weight[0].numel()) ** -0.5
    spread = layer.weight.std().item() / (bound / 3**0.5)
    return layer.weight.abs().max() <= bound and 0.9 < spread < 1.1
