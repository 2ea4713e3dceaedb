"""The kinds of attention that a study of captioners compares, as they are written."""

import re
from typing import NamedTuple

from ...errors import WhatwhereError, closest
from ...networks.captioning.attention import KINDS


class CaptionArm(NamedTuple):
    """A kind of attention, and over how many maps.

    Example:
        >>> CaptionArm.parse("c-s:layers=2")
        CaptionArm(kind='c-s', layers=2)
    """

    kind: str
    layers: int

    @classmethod
    def parse(cls, text: str) -> "CaptionArm":
        """Return what KIND or KIND:layers=N says.

        Raises:
            WhatwhereError: an unknown kind, or not this form.
        """
        kind, _, option = text.partition(":")
        if kind not in KINDS:
            raise WhatwhereError(
                f"unknown attention {kind!r} of a captioner: must be one of {', '.join(KINDS)}{closest(kind, KINDS)}"
            )
        match = re.fullmatch(r"(?:layers=([1-9]\d*))?", option)
        if match is None or (option == "" and text.endswith(":")):
            raise WhatwhereError(
                f"{text!r}: after the kind only its number of maps may follow, at least 1, such as {kind}:layers=2"
            )
        layers = int(match[1] or 1)
        if layers > 1 and not KINDS[kind].several:
            raise WhatwhereError(f"{text!r}: {kind!r} looks at one map only: take {kind!r}, or another kind")
        return cls(kind, layers)

    @property
    def title(self) -> str:
        """What it is, in words."""
        return KINDS[self.kind].title + (f", {self.layers} maps" if self.layers > 1 else "")
