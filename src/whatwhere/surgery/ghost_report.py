"""What :func:`whatwhere.ghostify` did, and its table."""

import math
from dataclasses import dataclass
from typing import Literal

from ..cost.stopwatch import Timing
from ..tables import ShownAsText, counted, table

FittedTo = Literal["maps", "weights", "random"]
"""What ghost convolutions were fitted to: maps of images, the filters, or nothing."""


@dataclass(frozen=True)
class GhostSite:
    """One convolution that a ghost convolution replaced. Pairs are (before, after).

    Attributes:
        module: its name.
        inputs: channels that come in.
        outputs: channels that go out.
        kernel_size: of the convolution.
        unexplained: share of the variance of the old maps that the fit misses, mean over the maps (of the filters,
            where it was fitted to these); nan at the random start.
        change: distance of the new network's maps here from the old network's, as a share of the length of the old
            ones, on the example. What was replaced before counts too.
        parameters: of the convolution.
        multiply_adds: for one image.
        time: of a forward pass of this layer alone; None where nothing was timed.
        batch: images in the timed batch.
    """

    module: str
    inputs: int
    outputs: int
    kernel_size: tuple[int, int]
    unexplained: float
    change: float
    parameters: tuple[int, int]
    multiply_adds: tuple[int, int]
    time: tuple[Timing, Timing] | None
    batch: int


@dataclass(frozen=True)
class GhostifyReport(ShownAsText):
    """What one call of :func:`whatwhere.ghostify` did; ``str(report)`` is a table. Pairs are (before, after).

    Attributes:
        sites: what was replaced, in the order in which the convolutions run.
        left: convolutions that were left alone, each with the reason.
        fitted_to: see :data:`FittedTo`.
        parameters: of the whole network.
        change: by how much the network's output changes on the example, as a share of its largest value.
        time: of a forward pass of the whole network; None where nothing was timed.
    """

    sites: list[GhostSite]
    left: dict[str, str]
    fitted_to: FittedTo
    parameters: tuple[int, int]
    change: float
    time: tuple[Timing, Timing] | None

    @property
    def multiply_adds(self) -> tuple[int, int]:
        """Of the replaced convolutions, for one image."""
        before, after = zip(*(one.multiply_adds for one in self.sites), strict=True) if self.sites else ((), ())
        return sum(before), sum(after)

    def __str__(self) -> str:
        """Return the table, the totals, and what was left alone."""
        titles = [
            "module",
            "convolution",
            "parameters",
            "multiply-adds",
            "unexplained",
            "map changes by",
            "ms",
            "time",
        ]
        rows = []
        for one in self.sites:
            rows.append(
                [
                    one.module,
                    f"{one.inputs} → {one.outputs}, {one.kernel_size[0]}×{one.kernel_size[1]}",
                    _arrow(*one.parameters),
                    _arrow(*one.multiply_adds),
                    f"{one.unexplained:.3f}" if math.isfinite(one.unexplained) else "–",
                    f"{one.change:.2f}",
                    *_times(one.time),
                ]
            )
        total = [counted(len(self.sites), "site"), "", "", _arrow(*self.multiply_adds), "", "", "", ""]
        lines = [table(titles, rows, left=(0, 1), total=total)]
        lines += [f"parameters of the network {_arrow(*self.parameters)}"]
        if self.time is not None:
            old, new = self.time
            lines += [
                f"a pass of the network {old.median:.2f} [{old.low:.2f} to {old.high:.2f}] → "
                f"{new.median:.2f} [{new.low:.2f} to {new.high:.2f}] ms (median and quartiles): "
                f"×{new.median / old.median:.2f}"
            ]
        lines += [f"the output changes by {self.change:.1e} of its largest value"]
        lines += [f"left alone: {name}: {why}" for name, why in self.left.items()]
        return "\n".join(lines)


def _times(time: tuple[Timing, Timing] | None) -> list[str]:
    if time is None:
        return ["–", "–"]
    old, new = time
    return [f"{old.median:.2f} → {new.median:.2f}", f"×{new.median / old.median:.2f}"]


def _arrow(before: int, after: int) -> str:
    return f"{before:,} → {after:,}"
