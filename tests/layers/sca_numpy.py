"""SCA-CNN's attention written again in NumPy from the paper's formulas, one map and one state at a time.

Everything works on complex numbers as well: a step along the imaginary axis gives exact derivatives.
"""

import numpy as np

KINDS = {
    "S": {"channel": False},
    "C": {"spatial": False},
    "C-S": {"order": "channel-spatial"},
    "S-C": {"order": "spatial-channel"},
}
"""The options of the layer for each of the paper's kinds."""

STEP = 1e-30


def softmax(z):
    e = np.exp(z - z.real.max())
    return e / e.sum()


def channel_attention(w, v, h):
    """Return β, (C,), for channel descriptors v (C,) and a state h."""
    b = np.tanh(np.outer(v, w["channel.weight"]) + w["channel.bias"] + w["channel.query.weight"] @ h)
    return softmax(b @ w["channel.vector"])


def spatial_attention(w, V, h):
    """Return α, (m,), for a map V (C, m) and a state h."""
    a = np.tanh((w["spatial.weight"] @ V).T + w["spatial.bias"] + w["spatial.query.weight"] @ h)
    return softmax(a @ w["spatial.vector"])


def gates(kind, w, V, h):
    """Return C·β, (C,), and m·α, (m,); ones where the kind has none."""
    C, m = V.shape
    beta, alpha = np.ones(C), np.ones(m)
    if kind in ("C", "C-S"):
        beta = C * channel_attention(w, V.mean(1), h)
    if kind in ("S", "S-C"):
        alpha = m * spatial_attention(w, V, h)
    if kind == "C-S":
        alpha = m * spatial_attention(w, beta[:, None] * V, h)
    if kind == "S-C":
        beta = C * channel_attention(w, (alpha * V).mean(1), h)
    return beta, alpha


def attend(kind, w, V, h):
    """Return the attended map, (C, m)."""
    beta, alpha = gates(kind, w, V, h)
    return beta[:, None] * alpha * V


def attend_all(kind, w, maps, states):
    """Return the attended maps (N, R, C, H, W) of maps (N, C, H, W) and states (N, R, D)."""
    flat = maps.reshape(*maps.shape[:2], -1)
    found = [[attend(kind, w, V, h) for h in rows] for V, rows in zip(flat, states, strict=True)]
    return np.array(found).reshape(*states.shape[:2], *maps.shape[1:])


def derivatives(function, values, entries=None):
    """Return the derivatives of a real function of named arrays, by a step along the imaginary axis.

    Args:
        function: takes the dictionary of arrays, returns one number.
        values: float64 arrays by name.
        entries: which entries of each array, as flat indices by name; all entries of all arrays by default.
    """
    entries = entries or {name: range(value.size) for name, value in values.items()}
    found = {}
    for name, chosen in entries.items():
        rows = []
        for entry in chosen:
            moved = values[name].astype(complex)
            moved.reshape(-1)[entry] += STEP * 1j
            rows.append(function({**values, name: moved}).imag / STEP)
        found[name] = np.array(rows)
    return found
