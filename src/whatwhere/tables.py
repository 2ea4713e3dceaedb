"""Tables, as plain text, in Markdown and in LaTeX."""

import html
import re
from collections.abc import Sequence


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it is not 1.

    Example:
        >>> counted(1, "seed"), counted(2, "seed"), counted(1200, "class")
        ('1 seed', '2 seeds', '1,200 classes')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}{'es' if noun.endswith('s') else 's'}"


def markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, with a line for each row.

    Example:
        >>> print(markdown_table(["network", "%"], [["plain", "77.3"]]))
        | network | % |
        | --- | --- |
        | plain | 77.3 |
    """
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    left: Sequence[int] = (0,),
    total: Sequence[str] | None = None,
) -> str:
    """Return a table as plain text with aligned columns.

    Args:
        titles: of the columns.
        rows: the cells.
        left: indices of the columns that are aligned to the left; the others are aligned to the right.
        total: a last row, below a rule.

    Example:
        >>> print(table(["part", "n"], [["a", "3"], ["b", "12"]], total=["sum", "15"]))
        part   n
        ────  ──
        a      3
        b     12
        ────  ──
        sum   15
    """
    every = [titles, *rows, *([] if total is None else [total])]
    widths = [max(len(row[column]) for row in every) for column in range(len(titles))]
    rule = "  ".join("─" * width for width in widths)

    def line(row: Sequence[str]) -> str:
        cells = [c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        return "  ".join(cells).rstrip()

    end = [] if total is None else [rule, line(total)]
    return "\n".join([line(titles), rule, *map(line, rows), *end])


def html_table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    left: Sequence[int] = (0,),
    total: Sequence[str] | None = None,
    below: Sequence[str] = (),
) -> str:
    """Return a table in HTML, as a notebook shows it; what is too wide scrolls.

    Args:
        titles: of the columns.
        rows: the cells.
        left: indices of the columns that are aligned to the left; the others are aligned to the right.
        total: a last row, in bold.
        below: lines below the table.

    Example:
        >>> print(html_table(["part", "n"], [["a", "3"]]).replace("<tr>", "\\n<tr>"))
        <div style="overflow-x: auto"><table><thead>
        <tr><th style="text-align: left">part</th><th style="text-align: right">n</th></tr></thead><tbody>
        <tr><td style="text-align: left">a</td><td style="text-align: right">3</td></tr></tbody></table></div>
    """

    def line(row: Sequence[str], tag: str) -> str:
        sides = ["left" if column in left else "right" for column in range(len(row))]
        cells = [
            f'<{tag} style="text-align: {side}">{html.escape(cell)}</{tag}>'
            for cell, side in zip(row, sides, strict=True)
        ]
        return f"<tr>{''.join(cells)}</tr>"

    body = "".join(line(row, "td") for row in rows) + ("" if total is None else line(total, "th"))
    text = "".join(f"<p>{html.escape(words)}</p>" for words in below)
    made = f"<table><thead>{line(titles, 'th')}</thead><tbody>{body}</tbody></table>"
    return f'<div style="overflow-x: auto">{made}{text}</div>'


class ShownAsText:
    """What a notebook shows as the text that ``str`` gives, in columns as on a terminal.

    Example:
        >>> class Report(ShownAsText):
        ...     def __str__(self):
        ...         return "1 < 2"
        >>> Report()._repr_html_()
        '<pre style="overflow-x: auto; white-space: pre; line-height: 1.2">1 &lt; 2</pre>'
    """

    def _repr_html_(self) -> str:
        style = "overflow-x: auto; white-space: pre; line-height: 1.2"
        return f'<pre style="{style}">{html.escape(str(self))}</pre>'


def share(value: float | None) -> str:
    """Return a share from 0 to 1 in percent, a dash for None.

    Example:
        >>> share(0.773), share(None)
        ('77.30', '–')
    """
    return "–" if value is None else f"{100 * value:.2f}"


_LATEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "×": r"$\times$", "–": "--", "→": r"$\to$", "≤": r"$\le$"}
_LATEX |= {character: "\\" + character for character in "&%$#_{}"}
_LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "“": "``", "”": "''"}


def latex_text(text: str) -> str:
    r"""Return text for LaTeX, with the characters escaped that mean something there; a minus before a number is one.

    Example:
        >>> print(latex_text("cbam_a: -4.3 ± 8.5 %"))
        cbam\_a: $-$4.3 $\pm$ 8.5 \%
    """
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return re.sub(r"(?<![\w.)])-(?=\d)", "$-$", escaped)


def latex_table(titles: Sequence[str], rows: Sequence[Sequence[str]], caption: str, left: Sequence[int] = (0,)) -> str:
    r"""Return a table in LaTeX, for the package booktabs.

    Args:
        titles: of the columns.
        rows: the cells.
        caption: what stands below it.
        left: indices of the columns that are aligned to the left; the others are aligned to the right.

    Example:
        >>> print(latex_table(["network", "%"], [["plain", "77.3"]], "A study."))
        % \usepackage{booktabs}
        \begin{table}
          \centering
          \begin{tabular}{lr}
            \toprule
            network & \% \\
            \midrule
            plain & 77.3 \\
            \bottomrule
          \end{tabular}
          \caption{A study.}
        \end{table}
    """
    columns = "".join("l" if index in left else "r" for index in range(len(titles)))
    head, *body = [" & ".join(map(latex_text, line)) + r" \\" for line in [titles, *rows]]
    inner = ["\\toprule", head, "\\midrule", *body, "\\bottomrule"]
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            r"  \centering",
            rf"  \begin{{tabular}}{{{columns}}}",
            *(f"    {line}" for line in inner),
            r"  \end{tabular}",
            rf"  \caption{{{latex_text(caption)}}}",
            r"\end{table}",
        ]
    )
