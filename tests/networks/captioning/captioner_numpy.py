"""SCA-CNN's captioner written again in NumPy from the official code's formulas, one image and one sentence at a time.

Maps are (C, m). Everything works on complex numbers as well, see ``sca_numpy``.
"""

import numpy as np

from ...layers.sca_numpy import attend

EPSILON = 1e-5


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def unit(v):
    return v / np.sqrt((v * v).sum())


def relu(z):
    return np.where(z.real > 0, z, 0)


def part(w, prefix):
    """Return the arrays whose names start with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in w.items() if name.startswith(prefix)}


def linear(w, name, v):
    return w[f"{name}.weight"] @ v + w[f"{name}.bias"]


def bottleneck_end(w, X, shortcut):
    """Return ReLU(bn3(conv3(X)) + shortcut) of a ResNet's last block: the map res5c."""
    z = w["conv3.weight"][:, :, 0, 0] @ X
    scale = w["bn3.weight"] / np.sqrt(w["bn3.running_var"] + EPSILON)
    z = (z - w["bn3.running_mean"][:, None]) * scale[:, None] + w["bn3.bias"][:, None]
    return relu(z + shortcut)


def two_layers(kind, w, first, shortcut):
    """Return the unattended last map, and what makes the attended one in a state h."""
    block = part(w, "encoder.layer4.2.")

    def attended(h):
        X = attend(kind, part(w, "attention.0."), first, h)
        return attend(kind, part(w, "attention.1."), bottleneck_end(block, X, shortcut), h)

    return bottleneck_end(block, first, shortcut), attended


def one_layer(kind, w, last):
    """The same with one attended map; kind None is no attention."""
    return last, lambda h: last if kind is None else attend(kind, part(w, "attention.0."), last, h)


def logits(w, last, attended, words, drop=lambda z: z):
    """Return the logits of every word, (T, V), given the words before it.

    Args:
        w: the captioner's arrays by name.
        last: the unattended last map.
        attended: makes the attended last map in a state.
        words: the sentence.
        drop: stands for dropout.
    """
    v = unit(last.mean(1))
    h, c = np.tanh(linear(w, "first_h", v)), np.tanh(linear(w, "first_c", v))
    rows, before = [], np.zeros(w["words.weight"].shape[1])
    for word in words:
        z = unit(attended(h).mean(1))
        if "context_gate.linear.weight" in w:
            z = z * sigmoid(linear(w, "context_gate.linear", h))
        gates = w["lstm.weight_ih"] @ np.concatenate([before, z]) + w["lstm.bias_ih"]
        gates = gates + w["lstm.weight_hh"] @ h + w["lstm.bias_hh"]
        i, f, g, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        inner = np.tanh(linear(w, "hidden_to_word", drop(h)) + before)
        rows.append(linear(w, "output", drop(inner)))
        before = w["words.weight"][word]
    return np.array(rows)
