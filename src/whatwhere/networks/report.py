"""What an insertion did, and its table."""

from dataclasses import dataclass

from ..tables import table
from .site import Kind


@dataclass(frozen=True)
class Placed:
    """One attention that was put in.

    Attributes:
        place: name of the module that it is a child of (as ``place + ".attention"``).
        kind: ``"residual"``, ``"stage"``, ``"norm"`` or ``"module"``, see :class:`whatwhere.Site`.
        attention: its name.
        channels: C of the map.
        size: (H, W) of the map, on the trial input.
        parameters: how many numbers it learns.
        multiply_adds: of its convolutions and matrix products for one picture, as PyTorch's own counter counts them;
            pooling and multiplying the map are not among them.
    """

    place: str
    kind: Kind
    attention: str
    channels: int
    size: tuple[int, int]
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Report:
    """Everything that one call of :func:`whatwhere.insert` put in; ``str(report)`` is a table."""

    placed: list[Placed]

    @property
    def parameters(self) -> int:
        """Parameters added, in all."""
        return sum(one.parameters for one in self.placed)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds added for one picture, in all."""
        return sum(one.multiply_adds for one in self.placed)

    def __str__(self) -> str:
        """Return the table."""
        head = ("place", "kind", "attention", "channels", "map", "parameters", "multiply-adds")
        rows = [
            (
                p.place,
                p.kind,
                p.attention,
                str(p.channels),
                f"{p.size[0]}×{p.size[1]}",
                f"{p.parameters:,}",
                f"{p.multiply_adds:,}",
            )
            for p in self.placed
        ]
        total = (f"{len(self.placed)} places", "", "", "", "", f"{self.parameters:,}", f"{self.multiply_adds:,}")
        return table(head, rows, left=(0, 1, 2), total=total)
