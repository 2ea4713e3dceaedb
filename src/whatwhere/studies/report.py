"""The report of a study as one HTML file that needs nothing beside it."""

import base64
from collections.abc import Sequence
from html import escape

from ..training.progress import duration
from .results import Results

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; }
body { margin: 2rem auto; max-width: 80rem; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
p { max-width: 46rem; } .quiet { color: #666; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th { text-align: right; font-weight: 600; border-bottom: 2px solid #333; vertical-align: bottom; }
th, td { padding: .35rem .55rem; } td { text-align: right; border-bottom: 1px solid #e3e3e3; white-space: nowrap; }
th:first-child, td:first-child, .verdict { text-align: left; }
.better { color: #00664b; font-weight: 600; } .worse { color: #a13c00; font-weight: 600; }
figure { margin: 0 0 1.4rem; } figure img { max-width: 100%; height: auto; }
figcaption { color: #555; font-size: .9rem; }
.pair { display: flex; flex-wrap: wrap; gap: 1rem; } .pair figure { flex: 1 1 24rem; }
.looks { display: grid; grid-template-columns: repeat(auto-fill, minmax(30rem, 1fr)); gap: 1.2rem; }
pre { background: #f5f5f5; padding: .8rem 1rem; overflow-x: auto; border-radius: 4px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; } dt { color: #666; } dd { margin: 0; }
""".strip()


def make_report(
    results: Results, plots: Sequence[tuple[str, bytes]], looks: Sequence[tuple[str, bytes]], reading: Sequence[str]
) -> str:
    """Return the HTML: what it says, the table, plots, images, and how it was made.

    Args:
        results: the study.
        plots: captions and PNGs.
        looks: captions and PNGs of what the networks see.
        reading: sentences that say how to read the table.
    """
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Is attention worth its cost?</title><style>{STYLE}</style></head><body>",
        "<h1>Is attention worth its cost?</h1>",
        f'<p class="quiet">{escape(results.data)}</p>',
        *(f"<p>{escape(sentence)}</p>" for sentence in summarise(results)),
        f'<div class="scroll">{_table(results)}</div>',
        "<h2>How to read it</h2>",
        *(f'<p class="quiet">{escape(sentence)}</p>' for sentence in reading),
        *(f"<p><strong>{escape(remark)}</strong></p>" for remark in results.remarks),
        "<h2>Learning, and what it costs</h2>",
        f'<div class="pair">{"".join(_figure(*plot) for plot in plots)}</div>',
    ]
    if looks:
        parts += [
            "<h2>What the networks see</h2>",
            f'<div class="looks">{"".join(_figure(*look) for look in looks)}</div>',
        ]
    arms = "".join(f"<dt>{escape(row.arm)}</dt><dd>{escape(row.note)}</dd>" for row in results.rows)
    machine = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in results.machine.items())
    parts += [
        f"<h2>The networks</h2><dl>{arms}</dl>",
        "<h2>How it was made</h2>",
        f"<pre>{escape(results.command)}</pre><dl>{machine}<dt>time</dt><dd>{duration(results.seconds)} of "
        "training</dd></dl>",
        "</body></html>\n",
    ]
    return "\n".join(parts)


def summarise(results: Results) -> list[str]:
    """Say in a sentence an arm what the study allows to be said."""
    rows, headline = results.rows, results.headline
    plain = rows[0]
    if plain.headline is None:
        return ["The plain network did not finish any of its runs, so nothing can be compared."]
    says = (headline.sentence or f"ends at a {headline.title} of {{}}").format(headline.with_unit(plain.headline.mean))
    sentences = [f"The plain network {says} (mean of {plain.headline.n} seeds)."]
    unit = headline.difference_unit or headline.unit
    for row in rows[1:]:
        slower = row.cost.step.median / plain.cost.step.median
        price = f"a training step takes {slower:.2f} times as long as the plain network's"
        if row.difference is None:
            sentences.append(f"{row.arm}: {row.verdict}; {price}.")
            continue
        d = row.difference
        mean, low, high = (headline.number(value, sign=True) for value in (d.mean, d.low, d.high))
        between = "" if d.n < 2 else f" (95 % interval {low} to {high})"
        sentences.append(f"{row.arm}: {row.verdict}, {f'{mean} {unit}'.strip()}{between}; {price}.")
    return sentences


def _table(results: Results) -> str:
    titles = results.titles
    marks = {"better": "better", "worse": "worse"}
    body = []
    for row in results.rows:
        tds = []
        for title, cell in zip(titles, results.cells(row), strict=True):
            css = f' class="verdict {marks.get(row.verdict, "")}"' if title == "verdict" else ""
            tds.append(f"<td{css}>{escape(cell)}</td>")
        body.append(f"<tr>{''.join(tds)}</tr>")
    heads = "".join(f"<th{' class=verdict' if t == 'verdict' else ''}>{escape(t)}</th>" for t in titles)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _figure(caption: str, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    text = escape(caption)
    image = f'<img alt="{text}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"
