"""A measured number and how it is printed."""

import math
from dataclasses import dataclass

from ..errors import WhatwhereError


@dataclass(frozen=True)
class Metric:
    """A number that is measured, and how it is printed: ``scale`` times the value, ``digits`` decimals, the unit.

    Example:
        >>> Metric("top1", "accuracy", unit="%", scale=100).text(0.8412)
        '84.1 %'

    Raises:
        WhatwhereError: ``scale`` is not above 0 or not finite, or ``digits`` is below 0.
    """

    key: str
    """Its name among the values that are measured."""
    title: str
    """What it is called in tables and plots, without the unit."""
    unit: str = ""
    """The unit of what is printed, such as ``"%"`` or ``"px"``; empty where there is none."""
    scale: float = 1.0
    """What a value is multiplied by before it is printed: 100 for a share in percent."""
    digits: int = 1
    """Decimals."""
    sentence: str = ""
    """The value in a sentence, for reports; ``{}`` stands for the value with its unit."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise WhatwhereError(f"{self.key}: scale={self.scale}: must be a finite number above 0")
        if self.digits < 0:
            raise WhatwhereError(f"{self.key}: digits={self.digits}: must be at least 0")

    @property
    def heading(self) -> str:
        """The title as the first word of a sentence: ``Accuracy``; ``mAP`` stays as it is."""
        return self.title if self.title != self.title.lower() else self.title[0].upper() + self.title[1:]

    @property
    def column(self) -> str:
        """The title of its column in a table: ``accuracy %``."""
        return f"{self.title} {self.unit}".strip()

    @property
    def label(self) -> str:
        """The title of its axis in a plot: ``accuracy (%)``."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def text(self, value: float) -> str:
        """Return a measured value as it is printed, with its unit."""
        return self.with_unit(self.scale * value)

    def number(self, scaled: float, *, sign: bool = False) -> str:
        """Return a value that is scaled already, rounded, without the unit."""
        return f"{scaled:+.{self.digits}f}" if sign else f"{scaled:.{self.digits}f}"

    def with_unit(self, scaled: float) -> str:
        """Return a value that is scaled already, rounded, with the unit."""
        return f"{self.number(scaled)} {self.unit}".strip()


@dataclass(frozen=True)
class Headline(Metric):
    """The one metric that says how good a network is.

    Example:
        >>> error = Headline("mae", "mean error", unit="px", higher_is_better=False)
        >>> error.is_better(1.5, than=2.0)
        True
    """

    higher_is_better: bool = True
    """Whether a higher value is a better one."""
    difference_unit: str = ""
    """The unit of a difference, where it has another one: ``"points"`` for percent."""
    margin: float = 0.0
    """Differences within ±margin, in the unit that is printed, count as the same in a study; 0: nothing does."""

    def is_better(self, value: float, *, than: float) -> bool:
        """Whether a value is better than another one."""
        return value > than if self.higher_is_better else value < than
