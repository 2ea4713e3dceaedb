"""Charts of the tables in documents, drawn from the tables as they stand: ``python -m benchmarks.charts``."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from whatwhere.views.result import save_figure

DOCS = Path(__file__).parents[1] / "docs"
COLOURS = {"blue": "#0072b2", "orange": "#e69f00", "green": "#009e73", "grey": "#777777"}
"""Of Okabe and Ito, which colour-blind people tell apart; marks and words tell the same."""
LAYER = "#### forward+backward, batch 8, nchw, float32, backend cpu"
NETWORK = "The same without compiled networks"
FAMILIES = "<!-- families: begin -->"


def table_after(document: Path, words: str) -> list[list[str]]:
    """Return the first table behind some words of a document: its titles, then its rows."""
    _, found, rest = document.read_text(encoding="utf-8").partition(words)
    if not found:
        raise ValueError(f"{document} has no {words!r}")
    lines: list[str] = []
    for line in rest.splitlines():
        if line.startswith("|"):
            lines.append(line)
        elif lines:
            break
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    return [cells[0], *cells[2:]]


def number(cell: str) -> float:
    """Return the first number of a cell: of ``81.0 ±12 %``, ``×2.57`` or ``+0.77 %``."""
    found = re.search(r"[-+]?\d[\d,]*\.?\d*", cell)
    if found is None:
        raise ValueError(f"no number in {cell!r}")
    return float(found[0].replace(",", ""))


def layer_times() -> tuple[list[str], dict[str, list[float]]]:
    """Return the maps, and the milliseconds of each contender."""
    titles, *rows = table_after(DOCS / "performance.md", LAYER)
    return titles[1:], {
        row[0].removesuffix(" (ms)"): [number(cell) for cell in row[1:]] for row in rows if row[0].endswith(" (ms)")
    }


def step_ratios() -> dict[str, float]:
    """Return the time of a training step of ResNet-50 as a multiple of the plain network's."""
    titles, *rows = table_after(DOCS / "performance.md", NETWORK)
    column = titles.index("step (ms)") + 1
    return {row[0]: number(row[column]) for row in rows}


def family_costs() -> list[tuple[str, str, float, float]]:
    """Return architecture, kind of its sites, parameters and multiply-adds added in percent."""
    titles, *rows = table_after(DOCS / "families.md", FAMILIES)
    at = [titles.index(name) for name in ("architecture", "sites", "parameters", "multiply-adds")]
    found = []
    for row in rows:
        name, sites, parameters, multiply_adds = (row[i] for i in at)
        kinds = {kind for kind in ("residual", "stage") if kind in sites}
        found.append((name, " and ".join(sorted(kinds)), number(parameters), number(multiply_adds)))
    return found


def draw_performance() -> Any:
    """Draw the times of CBAM as a layer and in ResNet-50."""
    figure, (left, right) = _axes(width_ratios=(1.25, 1))
    maps, times = layer_times()
    styles = [
        ("timm-cbam", "timm", "orange", "o"),
        ("timm-cbam+compile", "timm, compiled", "grey", "s"),
        ("ours-cbam", "whatwhere", "blue", "D"),
    ]
    for name, title, colour, mark in styles:
        left.plot(range(len(maps)), times[name], color=COLOURS[colour], marker=mark, label=title)
    left.set_yscale("log")
    left.set_yticks([2, 5, 10, 20, 50, 100], ["2", "5", "10", "20", "50", "100"])
    left.minorticks_off()
    left.set_xticks(range(len(maps)), [one.replace("×", " × ", 1) for one in maps], fontsize=8)
    left.set_title("CBAM alone, 8 maps: forward and backward, ms", loc="left", fontsize=9)
    left.legend(frameon=False, fontsize=8)
    ratios = step_ratios()
    bars = [
        ("timm-cbam", "timm", "orange"),
        ("ours-cbam", "whatwhere", "blue"),
        ("ours-cbam+fuse", "whatwhere,\nfused", "blue"),
        ("plain", "no attention", "grey"),
    ]
    for place, (name, _, colour) in enumerate(bars):
        right.barh(place, ratios[name], color=COLOURS[colour], height=0.6)
        right.text(ratios[name] + 0.04, place, f"× {ratios[name]:.2f}", va="center", fontsize=8)
    right.set_yticks(range(len(bars)), [title for _, title, _ in bars], fontsize=8)
    right.invert_yaxis()
    right.set_xlim(0, 3)
    right.set_title("ResNet-50 with CBAM: a training step", loc="left", fontsize=9)
    return figure


def draw_families() -> Any:
    """Draw what CBAM adds to each architecture."""
    figure, (axes,) = _axes(count=1)
    styles = {
        "residual": ("residual branches", "blue", "o"),
        "stage": ("ends of stages", "orange", "s"),
        "residual and stage": ("both", "green", "^"),
    }
    costs = family_costs()
    for kinds, (title, colour, mark) in styles.items():
        points = [(parameters, operations) for _, kind, parameters, operations in costs if kind == kinds]
        axes.scatter(
            *zip(*points, strict=True),
            s=24,
            alpha=0.8,
            color=COLOURS[colour],
            marker=mark,
            label=f"{title} ({len(points)} architectures)",
        )
    for side in ("x", "y"):
        getattr(axes, f"set_{side}scale")("log")
    axes.set_xticks([0.01, 0.1, 1, 10], ["0.01 %", "0.1 %", "1 %", "10 %"])
    axes.set_yticks([0.01, 0.1, 1], ["0.01 %", "0.1 %", "1 %"])
    axes.set_xlabel("parameters added", fontsize=8)
    axes.set_ylabel("multiply-adds added", fontsize=8)
    axes.set_title("What CBAM adds; attention at", loc="left", fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def _axes(count: int = 2, width_ratios: Sequence[float] = (1,)) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.3), layout="constrained", facecolor="white")
    axes = figure.subplots(1, count, squeeze=False, width_ratios=width_ratios)[0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(labelsize=8)
    return figure, axes


def main() -> None:
    """Draw all charts into docs."""
    for name, draw in (("performance", draw_performance), ("families", draw_families)):
        print(save_figure(draw(), DOCS / f"{name}.png", dpi=200))


if __name__ == "__main__":
    main()
