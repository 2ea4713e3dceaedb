"""A site where attention can go."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

Side = Literal["output", "nhwc", "input"]
Kind = Literal["residual", "stage", "norm", "module"]


@dataclass(frozen=True)
class Site:
    """A site where attention can go.

    Attributes:
        module: dotted name of the module, as in ``model.get_submodule(module)``.
        kind: ``"residual"`` (end of a residual branch), ``"stage"`` (last map of one resolution), ``"norm"`` (a
            normalisation layer after a convolution) or ``"module"`` (any other module, that the caller named).
        channels: C of the map there.
        size: (H, W) of the map there, on the probe input.
        why: the reason in words.
        side: ``"output"``: attention is applied to what the module returns; ``"nhwc"``: the same, where that is ``(N,
            H, W, C)``; ``"input"``: to what goes into it.
        stage: number of this resolution, from 0 for the most pixels, among those of all sites found, see
            :func:`whatwhere.sites`.

    Example:
        >>> import torchvision, whatwhere as ww
        >>> last = ww.sites(torchvision.models.resnet18())[-1]
        >>> last.module, last.kind, last.channels, last.size, last.stage
        ('layer4.1.bn2', 'residual', 512, (7, 7), 3)
    """

    module: str
    kind: Kind
    channels: int
    size: tuple[int, int]
    why: str
    side: Side = "output"
    stage: int = 0
    device: torch.device = field(default=torch.device("cpu"), repr=False, compare=False)
    dtype: torch.dtype = field(default=torch.float32, repr=False, compare=False)

    def in_stage(self, number: int) -> "Site":
        """Return this site with another number of its stage."""
        return replace(self, stage=number)


At = str | Site | Callable[[Site], bool] | Sequence[str | Site]
Stages = int | Sequence[int]
