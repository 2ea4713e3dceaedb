import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

import whatwhere as ww
from benchmarks import growth, layer, network, overhead
from benchmarks.checking import Check
from benchmarks.conditions import TUNED
from benchmarks.contenders import layer_contenders
from benchmarks.growth import fit_slope
from benchmarks.layer_calls import MEASURES
from benchmarks.layer_tables import make_summary
from benchmarks.network_calls import MEASURES as NETWORK_MEASURES
from benchmarks.network_calls import Arm, network_arms, network_call
from benchmarks.peers import attach_peer
from benchmarks.report import geometric_mean, number
from benchmarks.setting import Setting

# networks


def test_peers_are_attached_where_attention_is_inserted():
    model, twin = an_ordinary_network(), an_ordinary_network()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = model.eval()(x)
        report = ww.insert(twin, "se")
        assert attach_peer(model, lambda channels: Scale(channels), x) == len(report.inserted)
        attached = [name.removesuffix(".peer") for name, m in model.named_modules() if isinstance(m, Scale)]
        assert attached == [placed.module for placed in report.inserted]
        assert [m.channels for m in model.modules() if isinstance(m, Scale)] == [p.channels for p in report.inserted]
        assert not torch.allclose(model(x), before)


class Scale(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        return 2 * x


def an_ordinary_network():
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    return torchvision.models.resnet18(weights=None, num_classes=10)


@pytest.mark.parametrize("measure", NETWORK_MEASURES)
def test_eager_networks_agree_with_their_twins(measure):
    plain, images = an_ordinary_network(), torch.randn(2, 3, 32, 32)
    results = {}
    for arm in network_arms().values():
        if not arm.compile:
            results[arm] = network_call(arm, arm.build(plain, images), measure, images)()
    check = Check(
        {arm.name: network_call(arm.twin, arm.twin.build(plain, images), measure, images)() for arm in results}
    )
    for arm, result in results.items():
        check(arm.name, result)
    assert check.errors.keys() == {arm.name for arm in results}
    assert not torch.allclose(results[Arm()], results[Arm("cbam")])  # the gates move


# numbers and words


def test_slope_and_its_error():
    slope, error = fit_slope([1, 2, 4, 8], [3.0, 6.0, 12.0, 24.0])
    assert slope == pytest.approx(1)
    assert error == pytest.approx(0, abs=1e-9)
    x = [1.0, 2.0, 3.0]  # logs 0, 1, 2 → 0, 1, 0.5: slope 0.25, residuals -0.25, 0.5, -0.25
    slope, error = fit_slope([2.718281828459045**v for v in (0, 1, 2)], [2.718281828459045**v for v in (0, 1, 0.5)])
    assert slope == pytest.approx(0.25)
    assert error == pytest.approx((0.375 / 1 / 2) ** 0.5)
    assert fit_slope(x[:2], x[:2])[1] is None


def test_numbers():
    assert [number(v) for v in (1234.5, 99.94, 1.0, 0.01234, 0)] == ["1234", "99.9", "1.00", "0.0123", "0"]
    assert geometric_mean([1, 4, 16]) == pytest.approx(4)


def test_summary_takes_batch_8_and_large_maps():
    def row(contender, batch, side, ms, measure="forward"):
        where = {
            "batch": batch,
            "shape": f"1×{side}",
            "height": side,
            "width": side,
            "layout": "nchw",
            "measure": measure,
        }
        return {**where, "contender": contender, "median_ms": ms}

    rows = [row("copy", 8, 56, 1.0), row("ours-cbam", 8, 56, 3.0), row("timm-cbam", 8, 56, 6.0)]
    rows += [row("copy", 8, 7, 1.0), row("ours-cbam", 8, 7, 10.0), row("timm-cbam", 8, 7, 80.0)]
    rows += [row("ours-cbam", 1, 56, 1.0), row("timm-cbam", 1, 56, 99.0), row("ours-se", 8, 56, None)]
    found = {line["what"]: line for line in make_summary(rows, [])}
    ratio = found["timm-cbam ÷ ours-cbam, forward"]
    assert (ratio["geometric_mean"], ratio["lowest"], ratio["highest"]) == (pytest.approx(4), 2, 8)
    assert (ratio["cases"], ratio["batch"]) == (2, 8)
    assert found["ours-cbam ÷ copy, forward, maps of at least 28×28"]["highest"] == 3
    assert not any("ours-se" in what for what in found)


def test_contenders_are_chosen_by_pattern():
    names = ["copy", "ours-se", "ours-se+compile"]
    assert Setting().choose(names) == names
    assert Setting(quick=True).choose(names) == ["copy", "ours-se"]
    assert Setting(quick=True, contenders=("*+compile", "copy")).choose(names) == ["copy", "ours-se+compile"]
    with pytest.raises(ww.WhatwhereError, match="ours-sa"):
        Setting(contenders=("ours-sa",)).choose(names)


# the programs


def read(path):
    content = json.loads(path.with_name(path.name + ".json").read_text())
    assert content["complete"]
    conditions = content["conditions"]
    assert conditions["threads"] == torch.get_num_threads()
    assert conditions["versions"]["torch"] == torch.__version__.split("+")[0]
    assert conditions["allocator"] == "default"
    assert {"machine", "environment", "commit", "load", "page_faults_of_64_MiB"} <= set(conditions)
    assert content["settings"]["quick"] is True
    assert "| contender |" in path.with_name(path.name + ".md").read_text()
    for row in content["times"]:
        assert row["failure"] is None, row
        assert row["median_ms"] > 0
        assert len(row["samples_ms"]) == row["rounds"] >= 2
        assert row["relative_error"] is not None
        assert row["backend"] in ("cpu", "cuda", "reference")
    return content


def test_layer(tmp_path, capsys):
    assert layer.main(["--quick", "--shapes", "8x6x5", "--out", str(tmp_path / "layer")]) == 0
    content = read(tmp_path / "layer")
    eager = [c.name for c in layer_contenders().values() if not c.compile]
    keys = {(row["measure"], row["layout"], row["contender"]) for row in content["times"]}
    assert keys == {(m, lay, n) for m in MEASURES for lay in ("nchw", "channels_last") for n in eager}
    saved = {(row["contender"], row["layout"]): row for row in content["saved"]}
    assert saved["copy", "nchw"]["bytes"] == 0
    for kind in ("se", "cbam"):
        assert saved[f"timm-{kind}", "nchw"]["of_the_map"] >= 1
    assert {row["what"] for row in content["summary"]} >= {
        "timm-cbam ÷ ours-cbam, forward",
        "timm-se ÷ ours-se, forward",
    }
    assert "timm-cbam ÷ ours-cbam" in capsys.readouterr().out


def test_layer_in_half_precision(tmp_path):
    words = [
        "--quick",
        "--shapes",
        "8x6x5",
        "--layouts",
        "nchw",
        "--dtype",
        "bfloat16",
        "--out",
        str(tmp_path / "layer"),
    ]
    assert layer.main(words) == 0
    assert {row["dtype"] for row in read(tmp_path / "layer")["times"]} == {"bfloat16"}


def test_growth(tmp_path, capsys):
    assert growth.main(["--quick", "--layouts", "nchw", "--out", str(tmp_path / "growth")]) == 0
    content = read(tmp_path / "growth")
    assert {row["factor"] for row in content["times"]} == {"N", "C", "H·W"}
    assert all(row["slope"] is not None and row["standard_error"] is not None for row in content["slopes"])
    assert "slope" in capsys.readouterr().out


def test_overhead(tmp_path, capsys):
    assert overhead.main(["--quick", "--channels", "24", "--out", str(tmp_path / "overhead")]) == 0
    rows = read(tmp_path / "overhead")["times"]
    assert [row["contender"] for row in rows] == list(overhead.TAILS)
    assert all(row["failure"] is None for row in rows)
    assert "4×4" in capsys.readouterr().out


def test_network(tmp_path, capsys):
    pytest.importorskip("torchvision")
    words = ["--quick", "--networks", "resnet18", "--out", str(tmp_path / "network")]
    assert network.main(words) == 0
    content = read(tmp_path / "network")
    eager = {name for name, arm in network_arms().items() if not arm.compile}
    left_out = {key.split(", ")[1] for key in content["left_out"]}
    assert left_out <= {name for name in eager if "+fuse" in name}
    assert {row["contender"] for row in content["times"]} == eager - left_out
    steps = {row["contender"]: row for row in content["times"] if row["measure"] == "step"}
    assert steps["timm-cbam"]["kept_bytes"] > steps["plain"]["kept_bytes"] > 0
    assert "÷ plain" in capsys.readouterr().out


def test_what_cannot_be_is_said(tmp_path, capsys):
    assert layer.main(["--quick", "--shapes", "8x6", "--out", str(tmp_path / "a")]) == 2
    assert "CxHxW" in capsys.readouterr().err
    assert network.main(["--quick", "--networks", "resnet", "--out", str(tmp_path / "a")]) == 2
    assert "resnet" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_compiled_contenders(tmp_path):
    words = ["--quick", "--shapes", "8x6x5", "--layouts", "nchw", "--contenders", "*", "--out", str(tmp_path / "layer")]
    assert layer.main(words) == 0
    content = read(tmp_path / "layer")
    assert {row["contender"] for row in content["times"]} == set(layer_contenders())
    assert all(row["graph_breaks"] == 0 for row in content["times"])


@pytest.mark.slow
def test_the_tuned_allocator_starts_the_program_anew(tmp_path, root):
    out = tmp_path / "layer"
    words = ["--quick", "--shapes", "8x6x5", "--contenders", "copy", "--allocator", "tuned", "--out", str(out)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    command = [sys.executable, "-m", "benchmarks.layer", *words]
    subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True, timeout=200)
    conditions = json.loads((tmp_path / "layer.json").read_text())["conditions"]
    assert conditions["allocator"] == "tuned"
    assert conditions["environment"].items() >= TUNED.items()
    if sys.platform == "linux":
        assert conditions["page_faults_of_64_MiB"] < 100
