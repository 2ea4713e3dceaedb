"""The non-local block."""

from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attention
from .checks import check_choice, check_flag, hidden_width
from .dot_product import as_map, positions, weighted_means
from .key_map import KeyMap, Shapes
from .norm import BatchNorm2d
from .registry import register


class _Form(NamedTuple):
    """What one code base does.

    Attributes:
        sub_sample: whether it halves the sides of what is looked at, unless told otherwise.
        pool_first: whether it does so before φ and g.
        scale: whether dot products are scaled, unless told otherwise.
        norm: whether there is a normalisation at the end, unless told otherwise.
        bias: whether the convolution before that normalisation has a bias.
        std: of the weights at the start; None for PyTorch's own.
    """

    sub_sample: bool
    pool_first: bool
    scale: bool
    norm: bool
    bias: bool
    std: float | None


FORMS = {
    "mmcv": _Form(sub_sample=False, pool_first=False, scale=True, norm=False, bias=False, std=0.01),
    "alexhex7": _Form(sub_sample=True, pool_first=False, scale=False, norm=True, bias=True, std=None),
    "caffe2": _Form(sub_sample=True, pool_first=True, scale=True, norm=True, bias=True, std=0.01),
}
"""The code bases, which do not agree."""

MODES = ("embedded_gaussian", "gaussian", "dot_product", "concatenation")


def _key_maps() -> tuple[KeyMap, ...]:
    """Return the spellings of mmcv and of AlexHex7, each with and without sub-sampling."""
    found = []
    for sub_sample in (False, True):
        first, how = (".0", ", sub-sampled") if sub_sample else ("", "")
        same = {f"g{first}": "g", "theta": "theta", f"phi{first}": "phi"}
        mmcv = {f"{theirs}.conv": ours for theirs, ours in same.items()}
        mmcv |= {"conv_out.conv": "conv_out", "conv_out.bn": "bn", "concat_project.conv": "concat_project"}
        options = {"sub_sample": sub_sample} | ({"pool_first": False} if sub_sample else {})
        found.append(KeyMap(f"mmcv's NonLocal2d{how}", mmcv, options=options))
        for norm in (True, False):
            out = {"W.0": "conv_out", "W.1": "bn"} if norm else {"W": "conv_out"}
            title = f"AlexHex7's Non-local_pytorch{how}{'' if norm else ', not normalised'}"
            parts = same | out | {"concat_project.0": "concat_project"}
            found.append(KeyMap(title, parts, options=options | {"scale": False, "norm": norm}))
    return tuple(found)


@register(
    "nonlocal",
    title="non-local block",
    paper="Non-local Neural Networks, CVPR 2018, arXiv 1711.07971",
    code="https://github.com/facebookresearch/video-nonlocal-net",
    formula="x + W softmax(θᵀφ/√d) g; θ, φ, g = 1×1(x)",
    kind="residual",
    key_maps=_key_maps(),
)
class NonLocal(Attention):
    r"""Non-local block: to each position is added what a weighted mean of all positions, by their likeness, gives.

    .. math::
        a_{ij} = \mathrm{softmax}_j(\theta_i \cdot \phi_j / \sqrt{d}), \qquad
        y_i = x_i + W \sum_j a_{ij} g_j + b

    where i and j are positions, and θ, φ and g are 1 × 1 convolutions of x with biases, to d channels.

    Args:
        channels: C of the maps.
        reduction: r; d is max(1, C // r).
        hidden: d itself, in place of C // r.
        mode: how likeness is measured. ``embedded_gaussian`` as above; ``gaussian``: softmax of x_i · x_j, without θ
            and φ, never scaled; ``dot_product``: θ_i · φ_j / J, J being the number of positions j, without softmax;
            ``concatenation``: ReLU(w · [θ_i, φ_j]) / J.
        form: whose code; the three do not agree, see below: ``mmcv``, ``alexhex7`` or ``caffe2`` (the authors' own).
        sub_sample: whether φ and g are halved in both sides by a maximum over 2 × 2 positions: after their convolutions
            in ``mmcv`` and ``alexhex7``, before them in ``caffe2``, which is not the same. None: as the form does.
        scale: whether the dot products of ``embedded_gaussian`` are divided by √d. None: as the form does.
        norm: whether a batch normalisation follows W. None: as the form does.
        identity: start at exactly x. All forms do so already, so this changes nothing.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``. With ``sub_sample``, ``torch.export`` with dynamic sides needs them to be 4
        or more: it takes a side of 1 for a constant.

    Memory:
        N · (HW)² numbers, a quarter of that with ``sub_sample``. The weights of ``embedded_gaussian`` are not stored
        where PyTorch has a fused kernel. ``dot_product`` needs no weights at all: φ and g are multiplied first, which
        is the same, and linear in HW.

    Paper:
        Non-local Neural Networks (arXiv 1711.07971). What the forms do, unless options tell otherwise:

        - ``mmcv`` (open-mmlab/mmcv, ``mmcv/cnn/bricks/non_local.py``): no sub-sampling, scaled, W starts at 0 and is
          not normalised. If it is, W has no bias.
        - ``alexhex7`` (AlexHex7/Non-local_pytorch, ``lib/non_local_*.py``): sub-sampled after the convolutions, not
          scaled, W with a bias and normalised.
        - ``caffe2`` (facebookresearch/video-nonlocal-net): sub-sampled before the convolutions, scaled, W normalised.

        Normalisations start with weight 0, so that all forms start at exactly y = x. The other weights start as
        N(0, 0.01²) in ``mmcv`` and ``caffe2``, as PyTorch's in ``alexhex7``.

    Deviations: a side of 1 is not halved, where the codes raise. A training batch with one value a channel takes the
    running statistics, where PyTorch's BatchNorm raises. The Caffe2 code cannot be run beside this one; that form
    follows its formula.

    The bias of φ has no effect in ``embedded_gaussian``: it adds the same to all j, which softmax does not see.

    Copies: timm's ``nl`` divides by √C in place of √d. mmcv's ``concatenation`` cannot be trained: it divides the
    result of a ReLU in place, and PyTorch raises in the backward pass.

    Raises:
        WhatwhereError: an unknown mode or form, a number below 1, a flag that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> x = torch.randn(2, 64, 7, 7)
        >>> ww.NonLocal(64)(x).equal(x), ww.NonLocal(64, form="alexhex7")(x).equal(x)
        (True, True)
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 2,
        hidden: int | None = None,
        mode: str = "embedded_gaussian",
        form: str = "mmcv",
        sub_sample: bool | None = None,
        scale: bool | None = None,
        norm: bool | None = None,
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(channels)
        self.hidden = hidden_width(channels, reduction, hidden)
        self.mode = check_choice("mode", mode, MODES)
        self.form = check_choice("form", form, FORMS)
        its = FORMS[form]
        self.sub_sample = its.sub_sample if sub_sample is None else check_flag("sub_sample", sub_sample)
        self.scale = its.scale if scale is None else check_flag("scale", scale)
        self.norm = its.norm if norm is None else check_flag("norm", norm)
        self.identity = check_flag("identity", identity)
        factory = {"device": device, "dtype": dtype}
        embeds = mode != "gaussian"
        self.theta = nn.Conv2d(channels, self.hidden, 1, **factory) if embeds else None
        self.phi = nn.Conv2d(channels, self.hidden, 1, **factory) if embeds else None
        self.g = nn.Conv2d(channels, self.hidden, 1, **factory)
        joins = mode == "concatenation"
        self.concat_project = nn.Conv2d(2 * self.hidden, 1, 1, bias=False, **factory) if joins else None
        self.conv_out = nn.Conv2d(self.hidden, channels, 1, bias=its.bias or not self.norm, **factory)
        self.bn = BatchNorm2d(channels, **factory) if self.norm else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        its = FORMS[self.form]
        for conv in (self.theta, self.phi, self.g, self.concat_project, self.conv_out):
            if conv is None:
                continue
            conv.reset_parameters()
            if its.std is not None:
                if self.form == "mmcv" and (conv is self.concat_project or conv is self.conv_out):
                    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
                else:
                    nn.init.normal_(conv.weight, std=its.std)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)
        if self.bn is not None:
            self.bn.reset_parameters()
            nn.init.zeros_(self.bn.weight)
        else:
            for parameter in self.conv_out.parameters():
                nn.init.zeros_(parameter)

    def settings(self) -> dict[str, Any]:
        """Return the value of every option that changes the formula, with what the form means in place of its name."""
        found = {**super().settings(), "hidden": self.hidden, "sub_sample": self.sub_sample, "norm": self.norm}
        del found["identity"], found["reduction"], found["form"], found["scale"]
        if self.mode == "embedded_gaussian":
            found["scale"] = self.scale
        if self.sub_sample:
            found["pool_first"] = FORMS[self.form].pool_first
        return found

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``hidden``, ``norm``, and ``mode`` as far as shapes tell it."""
        if "g.weight" not in shapes:
            return {}
        found: dict[str, Any] = {"hidden": shapes["g.weight"][0], "norm": "bn.weight" in shapes}
        if "theta.weight" not in shapes:
            found["mode"] = "gaussian"
        elif "concat_project.weight" in shapes:
            found["mode"] = "concatenation"
        return found

    @property
    def idle_parameters(self) -> tuple[str, ...]:
        """The bias of φ before a softmax."""
        return ("phi.bias",) if self.mode == "embedded_gaussian" else ()

    def forward(self, x: Tensor) -> Tensor:
        """Return the map with the mean of all positions added, ``(N, C, H, W)`` → ``(N, C, H, W)``."""
        first = FORMS[self.form].pool_first
        seen = self.halved(x) if first else x
        theta = x if self.theta is None else self.theta(x)
        phi, g = seen if self.phi is None else self.phi(seen), self.g(seen)
        if not first:
            phi, g = self.halved(phi), self.halved(g)
        means = as_map(self.means(theta, phi, g), x)
        added: Tensor = self.conv_out(means)
        if self.bn is not None:
            added = self.bn(added)
        return x + added.to(x.dtype)

    def halved(self, u: Tensor) -> Tensor:
        """Return the maxima of 2 × 2 positions if ``sub_sample``; a side of 1 stays."""
        if not self.sub_sample:
            return u
        height, width = u.shape[-2:]
        return F.max_pool2d(u, (2 if height > 1 else 1, 2 if width > 1 else 1))

    def means(self, theta: Tensor, phi: Tensor, g: Tensor) -> Tensor:
        """Return the weighted mean of g at each position, as rows ``(N, HW, d)``."""
        values = positions(g)
        if self.concat_project is not None:
            of_theta, of_phi = self.concat_project.weight.chunk(2, 1)
            scores = positions(F.conv2d(theta, of_theta)) + F.conv2d(phi, of_phi).flatten(2)  # (N, HW, J)
            return F.relu(scores) @ (values / values.shape[1])
        if self.mode == "dot_product":
            return positions(theta) @ (phi.flatten(2) @ (values / values.shape[1]))
        scaled = self.scale and self.mode == "embedded_gaussian"
        return weighted_means(positions(theta), positions(phi), values, self.hidden**-0.5 if scaled else 1.0)

    def extra_repr(self) -> str:
        """Say the options."""
        options = f"mode={self.mode!r}, form={self.form!r}, sub_sample={self.sub_sample}, scale={self.scale}"
        return f"{self.channels}, hidden={self.hidden}, {options}, norm={self.norm}, identity={self.identity}"
