import csv
import html
import io
import json
import math
import re
from dataclasses import replace

import pytest
from PIL import Image

from whatwhere.cost import Cost, Timing
from whatwhere.studies import Interval, Plan, Results, Rules
from whatwhere.studies.jobs import Outcome
from whatwhere.studies.measure import Shown
from whatwhere.studies.methods import chance, describe_methods, reading
from whatwhere.studies.plots import draw_all, draw_curves, draw_differences, draw_power, draw_time
from whatwhere.studies.report import make_report, summarise
from whatwhere.studies.results import make_row
from whatwhere.studies.sequence import Looks
from whatwhere.tasks import Headline
from whatwhere.tasks.classify import Classify
from whatwhere.tasks.on_object import OnObject


def an_outcome(arm, seed, last, error=""):
    return Outcome(
        arm, seed, [] if error else [last - 20, last - 3, last], [] if error else [2.0, 1.0, 0.5], 9.0, [], error
    )


def a_cost(step):
    return Cost(
        78_000, 7_000_000, Timing(step, step - 1, step + 1, 9), Timing(step / 3, 1, 40, 9), 50_000_000, 64, "cpu"
    )


NO_COST = Cost(78_000, 7_000_000, *[Timing(math.nan, math.nan, math.nan, 0)] * 2, 0, 1, "cpu")


def rows_of(outcomes, steps, headline=Classify.headline, evidence=None, images=None, plan=None, margin=2.0):
    """Rows as a study makes them, plain first, and its looks; ``steps`` are the times of a training step."""
    arms = list(outcomes)
    looks = Looks(arms[1:], Rules(headline, plan or Plan((3,)), margin), stops=False)
    looks.take(3, [o for some in outcomes.values() for o in some], 0.1)
    rows = [
        make_row(
            arm,
            f"note on {arm}",
            outcomes[arm],
            a_cost(step) if step else NO_COST,
            (evidence or {}).get(arm, {}),
            differences=list(looks.values.get(arm, ())),
            verdict=looks.taken[-1].verdicts.get(arm),
            images=(images or {}).get(arm),
            level=1 - looks.rules.plan.level,
            step=0.1,
        )
        for arm, step in zip(arms, steps, strict=True)
    ]
    return rows, looks


def runs_of(arm, *values):
    return [an_outcome(arm, seed, value) for seed, value in enumerate(values)]


@pytest.fixture
def results():
    broken = [
        an_outcome("cbam:paper", 0, 60.0),
        an_outcome("cbam:paper", 1, 0, "the loss <is> not finite"),
        an_outcome("cbam:paper", 2, 66.0),
    ]
    outcomes = {"plain": runs_of("plain", 80.0, 82.0, 84.0), "cbam": runs_of("cbam", 83.0, 85.1, 86.9)}
    focus = {"grad_cam": [40.0] * 3, "gate": [20.0] * 3, "area": [15.0] * 3}
    rows, looks = rows_of(
        {**outcomes, "cbam:paper": broken},
        [30.0, 45.0, 45.0],
        evidence={"plain": focus | {"gate": [math.nan] * 3}, "cbam": focus, "cbam:paper": focus},
        images={"cbam": Interval(3.0, 1.5, 4.5, 3)},
    )
    return a_study(rows, looks, ["a remark & more"], {"processor": "x <86>", "cores": "2"})


def a_study(rows, looks, remarks=(), machine=None, headline=Classify.headline, **more):
    columns = list(OnObject.columns)
    command = "whatwhere study --out 'a b'"
    found = Results(
        headline,
        columns,
        rows,
        list(remarks),
        command,
        machine or {},
        {"seeds": 3},
        "scenes.",
        61.0,
        looks.rules,
        looks.taken,
        **more,
    )
    return replace(found, methods=describe_methods(found, 3, ()))


def test_rows(results):
    plain, cbam, paper = results.rows
    assert plain.difference is None
    assert cbam.verdict.words == "better"
    assert round(cbam.difference.mean, 6) == 3.0
    assert [round(d, 6) for d in cbam.differences] == [3.0, 3.1, 2.9]
    assert plain.verdict is None
    assert paper.verdict.words == "2 seeds: no verdict below 3"
    assert paper.seeds == [0, 2]
    assert paper.failed == [1]
    assert paper.difference.n == 2
    assert paper.difference.mean == -19.0
    assert "gate" not in plain.evidence
    assert cbam.evidence["gate"].mean == pytest.approx(20.0)


def test_a_notebook_shows_the_table(results):
    shown = results._repr_html_()
    assert shown.count("<tr>") == 4
    assert ">better<" in shown
    assert "<p>a remark &amp; more</p>" in shown


def test_json_and_csv_hold_what_the_rows_hold(results):
    read = json.loads(results.to_json())
    assert [row["headline"]["mean"] for row in read["rows"]] == [row.headline.mean for row in results.rows]
    assert "NaN" not in results.to_json()
    lines = list(csv.DictReader(io.StringIO(results.to_csv())))
    assert [line["arm"] for line in lines] == ["plain", "cbam", "cbam:paper"]
    assert float(lines[1]["difference_low"]) == results.rows[1].difference.low
    assert lines[0]["difference_mean"] == ""
    assert lines[2]["failed"] == "1"
    written = results.to_markdown()
    assert "| cbam | 85.0 ± 4.8 | +3.0 ± 0.2 | ± 1.5 | better |" in written
    assert (lines[1]["verdict_kind"], lines[2]["verdict_kind"], lines[0]["p"]) == ("better", "none", "")
    assert float(lines[1]["with_other_images_low"]) == 1.5
    assert read["rules"]["plan"] == {"counts": [3], "alpha": 0.05, "level": 0.05}
    assert "`whatwhere study --out 'a b'`" in written


def test_latex(results):
    written = results.to_latex()
    assert r"cbam & 85.0 $\pm$ 4.8 & +3.0 $\pm$ 0.2 & $\pm$ 1.5 & better &" in written
    assert r"\begin{tabular}{lrrrlrrrrrrr}" in written
    assert written.count(r" \\") == 4
    assert r"(1 of 3 runs diverged)" in written
    assert "Holm's steps" in written


def test_sentences_say_no_more_than_the_intervals(results):
    sentences = summarise(results)
    assert sentences[0].startswith("The plain network names 82.0 %")
    assert sentences[1].startswith(
        "cbam: better, +3.0 points (95 % interval +2.8 to +3.2, p < 0.001; 3 seeds, ± 1.5 for other test images too); "
        "a training step takes 1.50 times"
    )
    assert sentences[2].startswith("cbam:paper: 2 seeds: no verdict below 3, -19.0 points (95 % interval")


def test_a_metric_of_which_less_is_better():
    pixels = Headline("mae", "mean error", unit="px", digits=2, higher_is_better=False)
    outcomes = {"plain": runs_of("plain", 3.0, 3.1, 3.2), "se": runs_of("se", 2.5, 2.6, 2.75)}
    rows, looks = rows_of(outcomes, [30.0, 30.0], pixels, margin=0.0)
    results = a_study(rows, looks, headline=pixels)
    assert summarise(results)[0] == "The plain network ends at a mean error of 3.10 px (mean of 3 seeds)."
    assert summarise(results)[1].startswith("se: better, -0.48 px (95 % interval")
    assert results.titles[1:4] == ["mean error px", "difference to plain", "verdict"]
    assert results.cells(rows[1])[1:4] == ["2.62 ± 0.31", "-0.48 ± 0.10", "better"]
    assert "mean_error_mean" in results.to_csv()
    assert "same within" not in results.methods


def test_plots_are_images_that_say_in_words_what_they_show(results):
    plots = draw_all(results)
    assert [plot.name for plot in plots] == ["differences", "power", "curves", "time"]
    for plot in plots:
        image = Image.open(io.BytesIO(plot.png))
        assert image.width > 600
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50
    assert "cbam +3.0 (+2.8 to +3.2)" in plots[0].alt
    assert "for other test images too" in plots[0].caption
    assert re.search(r"cbam \d\.\d with 3", plots[1].alt)
    assert "cbam 85.0 %" in plots[2].alt
    assert "cbam 45.0 ms" in plots[3].alt


def test_a_study_of_which_nothing_is_left_is_still_reported():
    failed = {"plain": [an_outcome("plain", 0, 0, "not finite")], "se": [an_outcome("se", 0, 0, "not finite")]}
    rows, looks = rows_of(failed, [1.0, 1.0])
    assert rows[0].headline is None
    results = a_study(rows, looks)
    assert "nothing can be compared" in summarise(results)[0]
    assert (draw_differences(results), draw_power(results)) == (None, None)
    assert draw_curves(results)
    assert draw_time(results)
    assert "nothing can be compared" in make_report(results, draw_all(results), [], [])


def test_without_costs_counts_are_left(results):
    outcomes = {"plain": runs_of("plain", 80.0, 82.0, 84.0), "cbam": runs_of("cbam", 83.0, 85.1, 86.9)}
    rows, looks = rows_of(outcomes, [None, None])
    bare = a_study(rows, looks)
    assert bare.titles[-2:] == ["parameters", "multiply-adds"]
    assert bare.cells(rows[1])[-2:] == ["78,000", "7.00 M"]
    assert draw_time(bare) is None
    assert "training step" not in summarise(bare)[1]
    assert "NaN" not in bare.to_json()
    assert next(csv.DictReader(io.StringIO(bare.to_csv())))["step_ms"] == ""


def test_chance_is_computed():
    """1 / 0.05, and 1 / (1 - 0.95^networks)."""
    assert "one study in 20; of 4, at least one does in about one in 5." in chance(Plan((6,)), 4)
    assert "of 14, at least one does in about one in 2." in chance(Plan((6,)), 14)
    assert "of" not in chance(Plan((6,)), 1).split(".")[0].replace("of 1", "of")
    assert "one study in 49; of 2, at least one does in about one in 25" in chance(Plan((4, 8, 12)), 2)


def test_methods_say_what_was_done(results):
    assert "Each of 3 networks was trained 3 times" in results.methods
    assert "corrected for 2 networks by Holm's steps, gives p ≤ 0.05" in results.methods
    assert "within ±2.0 points if two one-sided t-tests" in results.methods
    assert "was fixed before the first run" in results.methods
    assert "crossed random effects" in results.methods
    looked = replace(results, rules=replace(results.rules, plan=Plan((4, 8, 12))), ended="All were decided.")
    planned, extended = (describe_methods(looked, 12, before) for before in ((), (4, 8)))
    assert "looks at 4, 8 and 12 seeds were fixed before the first run" in planned
    assert "All were decided." in planned
    assert re.search(r"level 0\.020\d at each look", planned)
    assert "given more seeds after it had been looked at with 4 and 8" in extended


def test_what_pairing_saves_is_said(results):
    class Bare:
        evidence = None

    (said,) = [text for text in reading(Bare, results) if "Pairing by seed" in text]
    assert said == f"Pairing by seed takes out {100 * results.saved:.0f} % of the variance of the differences."
    apart, looks = rows_of({"plain": runs_of("plain", 80, 84, 82), "se": runs_of("se", 84, 80, 82)}, [1.0, 1.0])
    (said,) = [text for text in reading(Bare, a_study(apart, looks)) if "Pairing by seed" in text]
    assert "next to nothing" in said


def the_page(results, looks=2):
    png = draw_time(results).png
    shown = [Shown(f"image {i}", {"plain": ("plain says a", png), "cbam": ("cbam says b", png)}) for i in range(looks)]
    return make_report(results, draw_all(results), shown, ["read <so>"])


def test_report_in_a_browser(results, browser, tmp_path):
    page = tmp_path / "report.html"
    page.write_text(the_page(results), encoding="utf-8")
    dom = browser(page)
    assert re.search(r"<td>82\.0 ± 5\.0</td>", dom)
    assert "2 seeds: no verdict below 3 (1 of 3 runs diverged)" in dom
    assert "whatwhere study --out 'a b'" in dom
    assert "x &lt;86&gt;" in dom
    assert dom.count("<img") == dom.count('<img alt="') == 4 + 4
    assert 'alt=""' not in dom
    assert not re.search(r'(?:src|href)="(?!data:)', dom), "needs something beside it"
    says = [dom.index(text) for text in ("cbam: better", "The plain network names", "<table", "Methods")]
    assert says == sorted(says), "verdicts come first"
    rows = re.findall(r"<tr>(?:(?!</tr>).)*says (?:(?!</tr>).)*</tr>", dom, re.DOTALL)
    assert [row.count("<img") for row in rows] == [2, 2], "a row an image, a column a network"
    shot = tmp_path / "shot.png"
    browser(page, screenshot=shot)
    assert len(Image.open(shot).convert("RGB").getcolors(1 << 24)) > 200


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_the_report_is_no_wider_than_the_screen(results, browser, tmp_path, width):
    """Wide tables scroll in themselves; the page does not."""
    frame = f'<iframe id="f" style="width:{width}px;height:900px;border:0" srcdoc="{html.escape(the_page(results))}">'
    script = (
        "onload = () => { const page = document.getElementById('f').contentDocument.documentElement;"
        "document.title = 'scroll ' + page.scrollWidth + ' client ' + page.clientWidth; }"
    )
    page = tmp_path / "frame.html"
    page.write_text(f'<meta charset="utf-8"><title>-</title>{frame}</iframe><script>{script}</script>', "utf-8")
    scroll, client = map(int, re.search(r"<title>scroll (\d+) client (\d+)</title>", browser(page)).groups())
    assert width - 20 <= client <= width
    assert scroll <= client


def test_looks_stand_in_the_report(results):
    plan = Plan((3, 6, 9))
    outcomes = {"plain": runs_of("plain", 80.0, 82.0, 84.0), "cbam": runs_of("cbam", 88.0, 90.1, 91.9)}
    rows, looks = rows_of(outcomes, [30.0, 45.0], plan=plan)
    page = make_report(a_study(rows, looks, ended="All networks were decided with 3 seeds."), [], [], [])
    assert "Looks at 3, 6, 9 seeds" in page
    assert "All networks were decided with 3 seeds." in page
    assert re.search(r"<td>3</td><td class=\"verdict\">\+8\.0 ± \d\.\d: better</td>", page)
    assert page.count('<td class="verdict">–</td>') == 2
    assert "98 % interval" in page
