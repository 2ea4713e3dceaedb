"""What loading a checkpoint did, and its text."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from ..tables import ShownAsText

_SHOWN = 10


def shorten(names: Sequence[str]) -> str:
    """Return the first ten names and how many more there are."""
    more = f", … ({len(names)} in all)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def warn_of_not_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Warn, naming the tensors, if values of a file are NaN or infinite; the warning points at the caller's caller."""
    wrong = [key for key, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if wrong:
        warnings.warn(
            f"{path} holds values that are NaN or infinite, in {shorten(wrong)}: a network with them gives no usable "
            "output. They may come from a training that diverged: take an earlier checkpoint",
            RuntimeWarning,
            stacklevel=3,
        )


@dataclass(frozen=True)
class LoadReport(ShownAsText):
    """Everything that one call of :func:`whatwhere.load` did; ``str(report)`` is a short text.

    Attributes:
        path: the file that was read.
        format: what kind of file it is, and whose names its tensors have.
        loaded: keys of the network that have new values.
        left: keys of attention that the checkpoint does not have: as they were.
        counters: keys of BatchNorm's ``num_batches_tracked`` that the checkpoint does not have, as old ones do not: as
            they were.
        filled: biases of the network that were set to 0, because the checkpoint's layers have none.
        skipped: keys that ``skip`` names.
        missing: keys of the network that the file should have and has not: as they were.
        unexpected: keys of the file that the network has no site for.
        mismatched: keys of other shapes or kinds, each with both.
        refused: attentions of the file that do not fit the network's, each with the reason.
        advice: what to do about it.
    """

    path: Path
    format: str
    loaded: list[str]
    left: list[str] = field(default_factory=list)
    counters: list[str] = field(default_factory=list)
    filled: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether everything fitted."""
        return not (self.missing or self.unexpected or self.mismatched or self.refused)

    def problems(self) -> str:
        """Return what did not fit, a line each, and what to do about it."""
        lines = [
            f"  {what}: {shorten(names)}"
            for what, names in (
                ("what does not fit", self.refused),
                ("of another shape", self.mismatched),
                ("missing in the file", self.missing),
                ("not in the network", self.unexpected),
            )
            if names
        ]
        return "\n".join([*lines, *(f"  → {line}" for line in self.advice)])

    def __str__(self) -> str:
        """Return the text."""
        lines = [f"{self.path}: {self.format}", f"  loaded: {len(self.loaded)} tensors"]
        if self.left:
            sites = dict.fromkeys(key.partition(".attention.")[0] for key in self.left)
            lines.append(f"  attention left as it is: {len(self.left)} tensors, at {shorten(list(sites))}")
        if self.counters:
            lines.append(
                f"  counters left as they are: {len(self.counters)} of BatchNorm, which old checkpoints do not have"
            )
        if self.filled:
            lines.append(f"  set to 0, for the file's layers have no biases: {len(self.filled)} tensors")
        if self.skipped:
            lines.append(f"  skipped: {shorten(self.skipped)}")
        return "\n".join([*lines, *([self.problems()] if not self.complete else [])])
