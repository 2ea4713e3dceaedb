"""The parts of a look's figure, each drawn on its own axes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

INK, GREY, PALE = "#1a1a1a", "#6b6b6b", "#d9d9d9"
MORE, LESS = "#b2182b", "#2166ac"  # the ends of RdBu, which colour-blind people can tell apart
OVER = 0.7  # opacity of gates over the image
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 7.5,
    "text.color": INK,
    "axes.edgecolor": PALE,
    "axes.labelcolor": GREY,
    "axes.linewidth": 0.6,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "ytick.major.size": 2,
    "ytick.major.width": 0.6,
    "ytick.major.pad": 2,
    "axes.unicode_minus": True,
    "text.usetex": False,
    "figure.dpi": 100,
    "axes.grid": False,
}


@dataclass(frozen=True)
class Scale:
    """One colour scale for all gates of a figure: white at ``neutral``, with the same range above and below."""

    neutral: float
    half: float

    @classmethod
    def around(cls, neutral: float, gates: Sequence[NDArray[Any]]) -> "Scale":
        """Return the smallest scale that covers all ``gates``, its range rounded up to two digits."""
        farthest = max((float(np.abs(gate - neutral).max()) for gate in gates), default=0.0)
        return cls(neutral, round_up(max(farthest, 0.01)))

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest gate of the scale."""
        return self.neutral - self.half, self.neutral + self.half

    @property
    def ticks(self) -> list[float]:
        """``neutral``, and the same distance below and above it: 1, 2 or 5 times a power of ten."""
        power = 10.0 ** math.floor(math.log10(self.half * 1.001))
        step = max(p for p in (power, 2 * power, 5 * power) if p <= self.half * 1.001)
        return [self.neutral - step, self.neutral, self.neutral + step]

    def write(self, gate: float) -> str:
        """Write a gate with as many digits as the scale needs."""
        return f"{gate:.{max(2, 1 - math.floor(math.log10(self.half)))}f}"


def round_up(value: float) -> float:
    """Return the next number with two significant digits."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / step - 1e-6) * step


def short(name: str, most: int) -> str:
    """Return the first of several names, cut to at most ``most`` letters."""
    name = name.split(",")[0]
    return name if len(name) <= most else name[: most - 1].rstrip() + "…"


def below(axes: Any, text: str, rest: str = "") -> None:
    """Write a caption below a panel."""
    axes.set_xlabel(text, color=INK, size=7.5, labelpad=3)
    if rest:
        axes.annotate(
            rest,
            (0.5, 0),
            (0, -17),
            "axes fraction",
            textcoords="offset points",
            ha="center",
            va="center",
            size=6.5,
            color=GREY,
        )


def show(axes: Any, image: NDArray[np.uint8], caption: str) -> None:
    """Show the image."""
    height, width = image.shape[:2]
    axes.imshow(image, interpolation="nearest" if width < 128 else "antialiased", extent=(0, width, height, 0))
    _frame(axes)
    below(axes, caption)


Size = tuple[int, int]


def heat(axes: Any, image: NDArray[np.uint8], strength: NDArray[Any], caption: str, covers: Size | None = None) -> None:
    """Show a map in [0, 1] over the image. ``covers`` is the (height, width) that it is for, where the network saw the
    image with a margin to the right and below.
    """
    show(axes, _pale(image), caption)
    _over(axes, image, strength, covers, cmap="inferno", vmin=0, vmax=1, alpha=0.6)


def gate(
    axes: Any, image: NDArray[np.uint8], gates: NDArray[Any], scale: Scale, module: str, covers: Size | None = None
) -> None:
    """Show a spatial gate over the image; ``covers`` as for :func:`heat`."""
    show(axes, _pale(image), "")
    low, high = scale.ends
    _over(axes, image, gates, covers, cmap=_diverging(), vmin=low, vmax=high, alpha=OVER)
    least, most = scale.write(float(gates.min())), scale.write(float(gates.max()))
    span = least if least == most else f"{least} to {most}"
    below(axes, short(module, 20), f"{gates.shape[0]} × {gates.shape[1]}, {span}")


def colours(figure: Any, axes: Any, scale: Scale) -> None:
    """Draw the colour scale of the spatial gates."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    seen = _diverging()(np.linspace(0, 1, 256))
    seen = OVER * seen + (1 - OVER) * np.array([0.85, 0.85, 0.85, 1])  # as they look over the light greys of an image
    bar = figure.colorbar(ScalarMappable(Normalize(*scale.ends), ListedColormap(seen)), cax=axes)
    bar.outline.set_visible(False)
    bar.set_ticks(scale.ticks, labels=[_times(tick) for tick in scale.ticks])
    axes.tick_params(length=0, pad=3)


def channels(axes: Any, gates: NDArray[Any], scale: Scale, label: str, *, last: bool) -> None:
    """Show the channel gates from the largest to the smallest, red above neutral and blue below."""
    ordered = np.sort(gates)[::-1]
    ordered = ordered if len(ordered) > 1 else np.repeat(ordered, 2)
    rank = np.linspace(0, 1, len(ordered))
    for colour, side in ((MORE, ordered >= scale.neutral), (LESS, ordered <= scale.neutral)):
        axes.fill_between(rank, ordered, scale.neutral, where=side, color=colour, alpha=0.35, lw=0, interpolate=True)
    axes.axhline(scale.neutral, color=GREY, lw=0.5, zorder=1)
    axes.plot(rank, ordered, color=INK, lw=1, solid_capstyle="round")
    reach = 1.06 * scale.half
    axes.set(xlim=(0, 1), ylim=(scale.neutral - reach, scale.neutral + reach), xticks=[])
    axes.spines[["top", "left", "bottom"]].set_visible(False)
    axes.spines["right"].set_visible(last)
    axes.yaxis.tick_right()
    axes.set_yticks(scale.ticks if last else [], labels=[_times(tick) for tick in scale.ticks] if last else [])
    below(axes, f"{label}{len(gates)} channels", f"median {scale.write(float(np.median(gates)))}")


def chances(axes: Any, top: Sequence[tuple[str, float]]) -> None:
    """Show the likeliest classes with their probabilities."""
    axes.set(xlim=(0, 1), ylim=(3, 0))
    _frame(axes)
    below(axes, "prediction")
    for row, (name, chance) in enumerate(top):
        first = row == 0
        colour = INK if first else GREY
        y = row + 0.46
        axes.text(
            0,
            y,
            short(name, 24),
            size=9 if first else 8,
            weight="bold" if first else "normal",
            color=colour,
            va="bottom",
        )
        axes.text(1, y, percent(chance), size=9 if first else 8, color=colour, ha="right", va="bottom")
        axes.barh(y + 0.14, 1, 0.1, color="#efefef")
        axes.barh(y + 0.14, chance, 0.1, color="#3b6ea5" if first else "#9db7d2")


def percent(chance: float) -> str:
    """Return a probability as a percentage that never claims certainty."""
    if chance >= 0.9995:
        return "> 99.9 %"
    return f"{100 * chance:.1f} %" if chance >= 0.001 else "< 0.1 %"


def _over(axes: Any, image: NDArray[np.uint8], values: NDArray[Any], covers: Size | None, **look: Any) -> None:
    """Lay a map over the image that is shown already."""
    height, width = covers or image.shape[:2]
    axes.imshow(values, interpolation="bilinear", extent=(0, width, height, 0), **look)
    axes.set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))


def _times(gate: float) -> str:
    return f"× {gate:.4g}"


def _diverging() -> Any:
    """Return a colour map: blue, white, red, without the darkest ends, which would hide the image."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps["RdBu_r"](np.linspace(0.07, 0.93, 256)), "gates")


def _pale(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image in light greys, as a background for colours."""
    grey = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return np.repeat((60 + grey * (195 / 255)).round().astype(np.uint8)[..., None], 3, axis=2)


def _frame(axes: Any) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
