"""What an insertion or a replacement did, and its table."""

from dataclasses import dataclass, field

from ..placement.site import Kind
from ..tables import html_table, table

Cells = tuple[str, ...]
"""A row of a table."""


@dataclass(frozen=True)
class InsertedSite:
    """One attention that was put in.

    Attributes:
        module: name of the module that it is a child of (as ``module + ".attention"``).
        kind: ``"residual"``, ``"stage"``, ``"norm"`` or ``"module"``, see :class:`whatwhere.Site`.
        attention: its name.
        channels: C of the map.
        size: (H, W) of the map, on the probe input.
        parameters: how many it has.
        multiply_adds: of its convolutions and matrix products for one image, as PyTorch's own counter counts them;
            pooling and multiplying the map are not among them.
    """

    module: str
    kind: Kind
    attention: str
    channels: int
    size: tuple[int, int]
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class InsertReport:
    """Everything that one call of :func:`whatwhere.insert` put in; ``str(report)`` is a table."""

    inserted: list[InsertedSite]

    @property
    def parameters(self) -> int:
        """Parameters added, in all."""
        return sum(one.parameters for one in self.inserted)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds added for one image, in all."""
        return sum(one.multiply_adds for one in self.inserted)

    def __str__(self) -> str:
        """Return the table."""
        head, rows, total = self._table()
        return table(head, rows, left=(0, 1, 2), total=total)

    def _repr_html_(self) -> str:
        head, rows, total = self._table()
        return html_table(head, rows, left=(0, 1, 2), total=total)

    def _table(self) -> tuple[Cells, list[Cells], Cells]:
        """Return titles, rows and sums."""
        head = ("module", "kind", "attention", "channels", "map", "parameters", "multiply-adds")
        rows: list[Cells] = [
            (
                p.module,
                p.kind,
                p.attention,
                str(p.channels),
                f"{p.size[0]}×{p.size[1]}",
                f"{p.parameters:,}",
                f"{p.multiply_adds:,}",
            )
            for p in self.inserted
        ]
        total = (f"{len(self.inserted)} sites", "", "", "", "", f"{self.parameters:,}", f"{self.multiply_adds:,}")
        return head, rows, total


@dataclass(frozen=True)
class ReplacedSite:
    """One attention that replaced another.

    Attributes:
        module: its name.
        old: class of what was there.
        new: name of what is there now.
        channels: C of the map.
        size: (H, W) of the map, on the probe input; None where the module did not run.
        kept: whether the new attention has the old weights.
        parameters: of the old, of the new.
        multiply_adds: likewise, for one image; 0 where the module did not run.
    """

    module: str
    old: str
    new: str
    channels: int
    size: tuple[int, int] | None
    kept: bool
    parameters: tuple[int, int]
    multiply_adds: tuple[int, int]


@dataclass(frozen=True)
class ReplaceReport:
    """What one call of :func:`whatwhere.replace` did; ``str(report)`` is a table.

    Attributes:
        replaced: what was replaced, in the order of the network's modules.
        change: by how much that changes the network's output on the probe input in evaluation mode, as a share of its
            largest value; infinity where the outputs have other shapes (boxes of detectors).
        others: modules that gate channels too and were left alone, each with the reason.
    """

    replaced: list[ReplacedSite]
    change: float
    others: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the table, the change of the output, and what was left alone."""
        head, rows, total = self._table()
        return "\n".join([table(head, rows, left=(0, 1, 2, 5), total=total), *self._remarks()])

    def _repr_html_(self) -> str:
        head, rows, total = self._table()
        return html_table(head, rows, left=(0, 1, 2, 5), total=total, below=self._remarks())

    def _table(self) -> tuple[Cells, list[Cells], Cells]:
        """Return titles, rows and sums."""
        head = ("module", "was", "is", "channels", "map", "weights", "parameters", "multiply-adds")
        rows: list[Cells] = [
            (
                one.module,
                one.old,
                one.new,
                str(one.channels),
                "–" if one.size is None else f"{one.size[0]}×{one.size[1]}",
                "kept" if one.kept else "new",
                _arrow(*one.parameters),
                _arrow(*one.multiply_adds),
            )
            for one in self.replaced
        ]
        costs = [one.parameters for one in self.replaced], [one.multiply_adds for one in self.replaced]
        sums = [_arrow(*map(sum, zip(*pairs, strict=True))) for pairs in costs]
        return head, rows, (f"{len(self.replaced)} sites", "", "", "", "", "", *sums)

    def _remarks(self) -> list[str]:
        """Return the change of the output, and what was left alone."""
        change = f"the output changes by {self.change:.1e} of its largest value"
        return [change, *(f"left alone: {name}: {why}" for name, why in self.others.items())]


def _arrow(before: int, after: int) -> str:
    return f"{before:,} → {after:,}"
