"""Building attentions by name, and reading them from one word of a command line."""

from dataclasses import dataclass
from typing import Any

from ..errors import WhatwhereError, closest
from ..options import read_options, read_spec
from .attention import Attention
from .recording import FACTORY
from .registry import Entry, entry


@dataclass(frozen=True)
class Spec:
    """An attention with its options, as written on a command line (see :func:`parse`)."""

    name: str
    options: dict[str, Any]
    identity: bool

    def create(self, channels: int, **more: Any) -> Attention:
        """Build it for a map of ``channels`` channels."""
        return create(self.name, channels, identity=self.identity, **self.options, **more)


def create(name: str, channels: int, **options: Any) -> Attention:
    """Build an attention by name.

    Args:
        name: one of :func:`names`.
        channels: C of the maps that it will take.
        options: its keyword options, see its class; a misspelt one raises with the nearest known.

    Returns:
        The module, ``(N, C, H, W)`` → ``(N, C, H, W)``; in the paper's form unless ``identity=True``.

    Raises:
        WhatwhereError: an unknown name or option, a wrong value, or channels that this attention does not take.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.create("cbam", 256, reduction=8).gates(torch.randn(2, 256, 14, 14)).spatial.shape
        torch.Size([2, 1, 14, 14])
    """
    found = entry(name)
    _check(found, channels, options)
    return found.cls(channels, **options)


def parse(text: str) -> Spec:
    """Read an attention with options from one word of a command line.

    ``NAME[:paper][:OPTION=VALUE]…``: ``cbam`` starts at the identity, ``cbam:paper`` in the paper's form,
    ``cbam:reduction=8:pools=avg+max`` sets options (``+`` makes a tuple). The word ``none`` stands for no attention.

    Raises:
        WhatwhereError: unknown name or option, or a part that is neither ``paper`` nor ``OPTION=VALUE``.
    """
    written = read_spec(text, flags=["paper"])
    if written.name.lower() == "none":
        if written.flags or written.options:
            raise WhatwhereError(f"'none' takes no options, got {text!r}")
        return Spec("none", {}, True)
    found = entry(written.name)
    if "identity" in written.options:
        raise WhatwhereError(
            f"identity in {text!r}: the identity start is the default; write 'paper' for the paper's form"
        )
    defaults = {key: parameter.default for key, parameter in found.options.items() if key not in FACTORY}
    return Spec(found.name, read_options(written, defaults), "paper" not in written.flags)


def _check(found: Entry, channels: int, options: dict[str, Any]) -> None:
    known = found.options
    for option in options:
        if option not in known:
            raise WhatwhereError(
                f"{found.name} has no option {option!r}: it takes {', '.join(known)}{closest(option, known)}"
            )
    least, divisor = found.min_channels, found.channel_divisor
    if isinstance(channels, int) and (channels < least or channels % divisor):
        multiple = f" and a multiple of {divisor}" if divisor > 1 else ""
        raise WhatwhereError(f"{found.name} takes channels of at least {least}{multiple}, got {channels}")
