import pytest
import torch

from whatwhere.surgery import FuseReport, InsertReport, ReplaceReport, insert
from whatwhere.surgery.report import InsertedSite, ReplacedSite


def test_the_report_counts_what_was_added():
    model = pytest.importorskip("torchvision").models.resnet18(weights=None)
    before = sum(p.numel() for p in model.parameters())
    report = insert(model, "se", example=torch.rand(1, 3, 64, 64))
    assert report.parameters == sum(p.numel() for p in model.parameters()) - before
    widths = (64, 64, 128, 128, 256, 256, 512, 512)
    assert report.multiply_adds == sum(2 * width * (width // 16) for width in widths)  # the two layers of each MLP
    text = str(report).splitlines()
    assert text[0].split() == ["module", "kind", "attention", "channels", "map", "parameters", "multiply-adds"]
    assert text[2].split()[:5] == ["layer1.0.bn2", "residual", "se", "64", "16×16"]
    assert text[-1].startswith("8 sites")
    assert f"{report.parameters:,}" in text[-1]


def test_a_notebook_shows_reports_as_tables():
    report = InsertReport([InsertedSite("a.<b>", "residual", "se", 64, (16, 16), 512, 512)])
    shown = report._repr_html_()
    assert shown.count("<tr>") == 3
    assert "a.&lt;b&gt;" in shown
    assert "<b>" not in shown
    replaced = ReplaceReport([ReplacedSite("a", "SEModule", "cbam", 8, None, True, (1, 2), (3, 4))], 0.25, {"c": "no"})
    shown = replaced._repr_html_()
    assert "<p>the output changes by 2.5e-01 of its largest value</p><p>left alone: c: no</p>" in shown
    assert "1 → 2" in shown
    assert "<pre" in FuseReport(["layer1"], [], {})._repr_html_()
