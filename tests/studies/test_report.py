import csv
import io
import json
import math
import re

import pytest
from PIL import Image

from whatwhere.cost import Cost, Timing
from whatwhere.studies import Results
from whatwhere.studies.jobs import Outcome
from whatwhere.studies.plots import draw_curves, draw_time
from whatwhere.studies.report import make_report, summarise
from whatwhere.studies.results import make_row
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


@pytest.fixture
def results():
    plain = [an_outcome("plain", s, v) for s, v in enumerate((80.0, 82.0, 84.0))]
    better = [an_outcome("cbam", s, v) for s, v in enumerate((82.0, 84.1, 85.9))]
    broken = [
        an_outcome("cbam:paper", 0, 60.0),
        an_outcome("cbam:paper", 1, 0, "the loss <is> not finite"),
        an_outcome("cbam:paper", 2, 66.0),
    ]
    focus = {"grad_cam": [40.0] * 3, "gate": [20.0] * 3, "area": [15.0] * 3}
    rows = [
        make_row("plain", "no attention", plain, plain, a_cost(30.0), focus | {"gate": [math.nan] * 3}),
        make_row("cbam", "channel, then spatial", better, plain, a_cost(45.0), focus),
        make_row("cbam:paper", "the paper's form", broken, plain, a_cost(45.0), focus),
    ]
    machine = {"processor": "x <86>", "cores": "2"}
    return a_study(rows, ["a remark & more"], machine)


def a_study(rows, remarks=(), machine=None, headline=Classify.headline):
    columns = list(OnObject.columns)
    command = "whatwhere study --out 'a b'"
    return Results(headline, columns, rows, list(remarks), command, machine or {}, {"seeds": 3}, "scenes", 61.0)


def test_rows(results):
    plain, cbam, paper = results.rows
    assert plain.difference is None
    assert cbam.verdict == "better"
    assert round(cbam.difference.mean, 6) == 2.0
    assert paper.seeds == [0, 2]
    assert paper.failed == [1]
    assert paper.difference.n == 2
    assert paper.difference.mean == -19.0
    assert "gate" not in plain.evidence
    assert cbam.evidence["gate"].mean == pytest.approx(20.0)


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
    assert "| cbam | 84.0 ± 4.8 | +2.0 ± 0.2 | better |" in written
    assert "`whatwhere study --out 'a b'`" in written


def test_sentences_say_no_more_than_the_intervals(results):
    sentences = summarise(results)
    assert sentences[0].startswith("The plain network names 82.0 %")
    assert sentences[1].startswith(
        "cbam: better, +2.0 points (95 % interval +1.8 to +2.2); a training step takes 1.50 times"
    )


def test_a_metric_of_which_less_is_better():
    pixels = Headline("mae", "mean error", unit="px", digits=2, higher_is_better=False)
    plain = [an_outcome("plain", s, v) for s, v in enumerate((3.0, 3.1, 3.2))]
    less = [an_outcome("se", s, v) for s, v in enumerate((2.5, 2.6, 2.75))]
    rows = [
        make_row(arm, "", outcomes, plain, a_cost(30.0), {}, higher_is_better=False)
        for arm, outcomes in (("plain", plain), ("se", less))
    ]
    results = a_study(rows, headline=pixels)
    assert rows[1].verdict == "better"
    assert summarise(results)[0] == "The plain network ends at a mean error of 3.10 px (mean of 3 seeds)."
    assert summarise(results)[1].startswith("se: better, -0.48 px (95 % interval -0.56 to -0.41)")
    assert results.titles[1] == "mean error px"
    assert results.cells(rows[1])[1:4] == ["2.62 ± 0.31", "-0.48 ± 0.07", "better"]
    assert "mean_error_mean" in results.to_csv()


def test_plots_are_images(results):
    for png in (draw_curves(results), draw_time(results)):
        image = Image.open(io.BytesIO(png))
        assert image.width > 600
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50


def test_a_study_of_which_nothing_is_left_is_still_reported(results):
    failed = [an_outcome("plain", 0, 0, "not finite")]
    row = make_row("plain", "", failed, failed, a_cost(1.0), {})
    assert row.headline is None
    assert "nothing can be compared" in summarise(a_study([row]))[0]
    assert draw_curves(a_study([row]))
    assert draw_time(a_study([row]))


def test_report_in_a_browser(results, browser, tmp_path):
    page = tmp_path / "report.html"
    page.write_text(
        make_report(results, [("curves", draw_curves(results))], [("a look", draw_time(results))], ["read <so>"])
    )
    dom = browser(page)
    assert re.search(r"<td>82\.0 ± 5\.0</td>", dom)
    assert "no difference found (1 of 3 runs diverged)" in dom or "worse (1 of 3 runs diverged)" in dom
    assert "whatwhere study --out 'a b'" in dom
    assert "x &lt;86&gt;" in dom
    assert dom.count("<img") == 2
    assert not re.search(r'(?:src|href)="(?!data:)', dom), "needs something beside it"
    shot = tmp_path / "shot.png"
    browser(page, screenshot=shot)
    assert len(Image.open(shot).convert("RGB").getcolors(1 << 24)) > 200
