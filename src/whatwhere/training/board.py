"""The rows of a run as TensorBoard event files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import need


class Board:
    """Writes event files; does nothing where it is made without a folder.

    What an earlier, killed process wrote for steps beyond ``after`` is hidden: it will be measured again.
    """

    def __init__(self, folder: Path | None, *, after: int = 0) -> None:
        self.writer: Any = None
        if folder is not None:
            need("tensorboard", extra="train")
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder), purge_step=after + 1)

    def add(self, row: Mapping[str, Any]) -> None:
        """Add the numbers of a row at its step."""
        if self.writer is None:
            return
        group = "" if row["kind"] == "epoch" else "step/"
        for key, value in row.items():
            if key not in ("kind", "step") and isinstance(value, (int, float)) and not isinstance(value, bool):
                side, _, name = key.partition("_")
                tag = f"{side}/{name}" if side in ("train", "test") else key
                self.writer.add_scalar(group + tag, value, row["step"])

    def flush(self) -> None:
        """Bring everything to the disk."""
        if self.writer is not None:
            self.writer.flush()

    def close(self) -> None:
        """Close the event file."""
        if self.writer is not None:
            self.writer.close()
