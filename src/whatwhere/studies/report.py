"""The report of a study as one HTML file that needs nothing beside it."""

import base64
import math
from collections.abc import Sequence
from html import escape

from ..training.progress import duration
from .measure import Shown
from .plots import Plot
from .results import Results, Row, half_text, plus_minus

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; }
body { margin: 2rem auto; max-width: 80rem; padding: 0 1.2rem; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
p { max-width: 46rem; } .quiet { color: #595959; }
.says { list-style: none; padding: 0; max-width: 46rem; }
.says li { border-left: 4px solid #bbb; padding: .15rem .8rem; margin: .5rem 0; }
.says .better { border-color: #00664b; } .says .worse { border-color: #a13c00; } .says .same { border-color: #0072b2; }
.scroll { overflow-x: auto; overflow-wrap: normal; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th { text-align: right; font-weight: 600; border-bottom: 2px solid #333; vertical-align: bottom; }
th, td { padding: .35rem .55rem; } td { text-align: right; border-bottom: 1px solid #e3e3e3; white-space: nowrap; }
th:first-child, td:first-child, .verdict { text-align: left; }
td.better, strong.better { color: #00664b; font-weight: 600; }
td.worse, strong.worse { color: #a13c00; font-weight: 600; }
td.same, strong.same { color: #00588a; font-weight: 600; }
figure { margin: 0 0 1.4rem; } figure img { max-width: 100%; height: auto; }
figcaption { color: #555; font-size: .9rem; }
.pair { display: flex; flex-wrap: wrap; gap: 1rem; } .pair figure { flex: 1 1 24rem; min-width: min(100%, 18rem); }
.looks th, .looks td { text-align: left; vertical-align: top; border: 0; white-space: normal; }
.looks img { width: min(24rem, 75vw); max-width: none; } .looks figure { margin: 0; }
pre { background: #f5f5f5; padding: .8rem 1rem; overflow-x: auto; border-radius: 4px; }
dl { display: grid; grid-template-columns: minmax(4rem, max-content) 1fr; gap: .1rem 1rem; }
dt { color: #595959; } dd { margin: 0; }
@media (max-width: 40rem) { body { margin: 1rem auto; padding: 0 .8rem; } }
@media (max-width: 40rem) { dl { display: block; } dd { margin: 0 0 .5rem; } }
""".strip()


def make_report(results: Results, plots: Sequence[Plot], shown: Sequence[Shown], reading: Sequence[str]) -> str:
    """Return the HTML: what it says, the table, plots, images, and how it was made.

    Args:
        results: the study.
        plots: its plots.
        shown: what the networks make of some test images.
        reading: sentences that say how to read the table.
    """
    first, *rest = summarise(results)
    says = "".join(
        f'<li class="{row.verdict.kind if row.verdict else ""}">{escape(sentence)}</li>'
        for row, sentence in zip(results.compared, rest, strict=False)
    )
    of_differences = [plot for plot in plots if plot.name in ("differences", "power")]
    others = [plot for plot in plots if plot not in of_differences]
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Is attention worth its cost?</title><style>{STYLE}</style></head><body>",
        "<h1>Is attention worth its cost?</h1>",
        f'<ul class="says">{says}</ul>' if says else "",
        f"<p>{escape(first)}</p>",
        f'<p class="quiet">{escape(results.data)}</p>',
        f'<div class="scroll">{_table(results)}</div>',
        *(f"<p><strong>{escape(remark)}</strong></p>" for remark in results.remarks),
        *(["<h2>The differences</h2>", _figures(of_differences)] if of_differences else []),
        "<h2>How to read it</h2>",
        *(f'<p class="quiet">{escape(sentence)}</p>' for sentence in reading),
        *_looks(results),
        *(["<h2>Learning, and what it costs</h2>", _figures(others)] if others else []),
        *(["<h2>What the networks see</h2>", _shown(shown)] if shown else []),
    ]
    arms = "".join(f"<dt>{escape(row.arm)}</dt><dd>{escape(row.note)}</dd>" for row in results.rows)
    machine = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in results.machine.items())
    parts += [
        f"<h2>The networks</h2><dl>{arms}</dl>",
        *(["<h2>Methods</h2>", f"<p>{escape(results.methods)}</p>"] if results.methods else []),
        "<h2>How it was made</h2>",
        f"<pre>{escape(results.command)}</pre><dl>{machine}<dt>time</dt><dd>{duration(results.seconds)} of "
        "training</dd></dl>",
        "</body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def summarise(results: Results) -> list[str]:
    """Say in a sentence an arm what the study allows to be said; the first is about the plain network."""
    rows, headline = results.rows, results.headline
    plain = rows[0]
    if plain.headline is None:
        return ["The plain network did not finish any of its runs, so nothing can be compared."]
    says = (headline.sentence or f"ends at a {headline.title} of {{}}").format(headline.with_unit(plain.headline.mean))
    seeds = f"mean of {plain.headline.n} seeds" if plain.headline.n > 1 else "one seed"
    return [f"The plain network {says} ({seeds}).", *(_sentence(row, results) for row in results.compared)]


def _sentence(row: Row, results: Results) -> str:
    headline, plain = results.headline, results.rows[0]
    price = ""
    if row.timed and plain.timed:
        slower = row.cost.step.median / plain.cost.step.median
        price = f"; a training step takes {slower:.2f} times as long as the plain network's"
    words = row.verdict.words if row.verdict else ""
    if row.difference is None:
        return f"{row.arm}: {words}{price}."
    d, unit = row.difference, headline.difference_unit or headline.unit
    mean = f"{headline.number(d.mean, sign=True)} {unit}".strip()
    if math.isnan(d.half):
        return f"{row.arm}: {words}, {mean}{price}."
    p = ""
    if row.verdict is not None and row.verdict.kind != "none":
        p = f", p {_p(row.verdict.p_same if row.verdict.kind == 'same' else row.verdict.p)}"
    images = f", ± {half_text(row.images, headline)} for other test images too" if row.images else ""
    between = f"{results.percent} interval {headline.number(d.low, sign=True)} to {headline.number(d.high, sign=True)}"
    return f"{row.arm}: {words}, {mean} ({between}{p}; {d.n} seeds{images}){price}."


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}" if value < 0.1 else f"= {value:.2f}"


def _table(results: Results) -> str:
    rows = [[(cell, "") for cell in results.cells(row)] for row in results.rows]
    at = results.titles.index("verdict")
    for row, cells in zip(results.rows, rows, strict=True):
        cells[at] = (cells[at][0], f"verdict {row.verdict.kind}" if row.verdict else "verdict")
    return _html_table(results.titles, rows, {at})


def _looks(results: Results) -> list[str]:
    """Return the plan of the looks, and what each of them found."""
    plan = results.rules.plan
    if len(plan.counts) == 1:
        return []
    counts = ", ".join(map(str, plan.counts))
    intro = (
        f"Looks at {counts} seeds, each at level {plan.level:.4f} for a single comparison: together they keep the "
        f"chance of a false verdict at {100 * plan.alpha:g} %. {results.ended}"
    )
    titles = ["seeds", *(row.arm for row in results.compared)]
    taken = {look.seeds: look for look in results.looks}
    rows, decided = [], set[str]()
    for count in plan.counts:
        cells = ["–"] * len(results.compared)
        if count in taken:
            verdicts, found = taken[count].verdicts, taken[count].differences
            cells = [
                "decided before"
                if arm in decided
                else f"{plus_minus(found[arm], results.headline, sign=True)}: {verdicts[arm].words}"
                for arm in titles[1:]
            ]
            decided |= {arm for arm in titles[1:] if verdicts[arm].decided}
        rows.append([(text, "") for text in (str(count), *cells)])
    none = "" if len(taken) == len(plan.counts) else '<p class="quiet">–: not taken, or taken at another level.</p>'
    table = _html_table(titles, rows, set(range(1, len(titles))))
    return [
        "<h2>The looks at the results</h2>",
        f"<p>{escape(intro.strip())}</p>",
        f'<div class="scroll">{table}</div>{none}',
    ]


def _html_table(titles: Sequence[str], rows: Sequence[Sequence[tuple[str, str]]], left: set[int]) -> str:
    """Return a table whose cells have a class each; the columns ``left`` are aligned to the left."""
    heads = "".join(
        f'<th scope="col"{" class=verdict" if i in left else ""}>{escape(title)}</th>' for i, title in enumerate(titles)
    )
    body = ""
    for row in rows:
        tds = ""
        for i, (cell, css) in enumerate(row):
            chosen = css or ("verdict" if i in left else "")
            tds += f'<td class="{chosen}">{escape(cell)}</td>' if chosen else f"<td>{escape(cell)}</td>"
        body += f"<tr>{tds}</tr>"
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _figures(plots: Sequence[Plot]) -> str:
    return f'<div class="pair">{"".join(_figure(plot.caption, plot.alt, plot.png) for plot in plots)}</div>'


def _shown(shown: Sequence[Shown]) -> str:
    """Return a row an image and a column a network."""
    arms = list(dict.fromkeys(arm for one in shown for arm in one.drawn))
    heads = "".join(f'<th scope="col">{escape(arm)}</th>' for arm in arms)
    body = ""
    for one in shown:
        cells = "".join(
            f"<td>{_figure(caption, f'{caption}: {one.image}', png)}</td>"
            for caption, png in (one.drawn[arm] for arm in arms if arm in one.drawn)
        )
        body += f'<tr><th scope="row" colspan="{len(arms)}">{escape(one.image)}</th></tr><tr>{cells}</tr>'
    return (
        f'<div class="scroll"><table class="looks"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _figure(caption: str, alt: str, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    image = f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
