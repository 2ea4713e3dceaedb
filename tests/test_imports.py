"""Modules of one's own: named once, imported here and in the processes of a study."""

import json
import os
import subprocess
import sys

import pytest
import torch
import torchvision

import whatwhere as ww
from whatwhere import cli, imports
from whatwhere.layers import ATTENTIONS

CODE = """
import torch, whatwhere as ww

@ww.register("own-{name}", title="own", formula="c = σ(s)", kind="channel")
class Own(ww.GatedAttention):
    def __init__(self, channels, *, identity=False, device=None, dtype=None):
        super().__init__(channels)
        self.identity = identity
        self.s = torch.nn.Parameter(torch.zeros(1, channels, 1, 1, device=device, dtype=dtype))

    def gates(self, x):
        return ww.Gates(channel=((2 if self.identity else 1) * self.s.sigmoid()).expand(x.shape[0], -1, 1, 1))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return a function that writes a module; afterwards nothing is known of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(imports.VARIABLE, "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    written = []

    def write(name, code=CODE):
        written.append(name)
        path = tmp_path / f"{name}.py"
        path.write_text(code.replace("{name}", name.rpartition("_")[2]), encoding="utf-8")
        return path

    yield write
    for name in written:
        sys.modules.pop(name, None)
        ATTENTIONS.discard(f"own-{name.rpartition('_')[2]}")


@pytest.mark.parametrize("how", ["name", "path", "relative"])
def test_a_module_by_name_and_by_path(own, how, capsys):
    path = own(f"mine_{how}")
    word = {"name": path.stem, "path": str(path), "relative": path.name}[how]
    assert cli.main(["names", "--import", word]) == 0
    assert f"own-{how}" in capsys.readouterr().out
    assert imports.named() == ((path.stem,) if how == "name" else (str(path),))
    imports.import_modules([word])  # once more changes nothing
    assert len(imports.named()) == 1


def test_what_lies_beside_a_file_can_be_imported_from_it(own, tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    own("helper_of_it", "VALUE = 3\n").rename(tmp_path / "sub" / "helper_of_it.py")
    path = own("user_of_it", "from helper_of_it import VALUE\nassert VALUE == 3\n")
    imports.import_modules([str(path.rename(tmp_path / "sub" / "user_of_it.py"))])
    assert sys.modules["user_of_it"].VALUE == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--import"], "--import needs the name of a module"),
        (["--import", "--markdown"], "--import needs the name of a module"),
        (["--import=no_such_module"], "there is no such module"),
        (["--import", "nowhere/x.py"], "there is no such file"),
        (["--import", "raises_it.py"], "fails in line 3: ZeroDivisionError"),
        (["--import", "broken_it.py"], "fails in line 1: SyntaxError"),
        (["--import", "json.py"], "there is a module json already"),
    ],
    ids=" ".join,
)
def test_mistakes(own, words, says, capsys):
    own("raises_it", "\n\n1 / 0\n")
    own("broken_it", "def\n")
    path = own("json_it", "")
    path.rename(path.with_name("json.py"))
    assert cli.main(["names", *words]) == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_an_unknown_name_says_how_to_make_one_known():
    with pytest.raises(
        ww.WhatwhereError, match=r"import its module first \(command line: --import MODULE or FILE.py\)"
    ):
        ww.create("zzzz", 8)


def test_a_file_of_an_attention_that_is_not_imported_says_which_import_is_missing(own, tmp_path):
    path = own("gone_later")
    imports.import_modules([str(path)])
    model = torchvision.models.resnet18()
    ww.insert(model, "own-later", example=torch.zeros(1, 3, 64, 64))
    file = ww.save(model, tmp_path / "m.safetensors")
    cls = ATTENTIONS["own-later"].cls
    ATTENTIONS.discard("own-later")
    other = torchvision.models.resnet18()
    for read in (lambda: ww.load_model(file), lambda: ww.load(other, file)):
        with pytest.raises(ww.WhatwhereError, match=r"first `import gone_later` \(command line: --import gone_later"):
            read()
    told = {"title": "own", "formula": "x", "kind": "channel"}
    ww.register("own-later", **told)(cls)
    assert len(ww.attentions(ww.load_model(file))) == 8


@pytest.mark.slow
def test_a_study_and_a_look_in_other_processes(own, tmp_path):
    path = own("far_away")
    images = ["--data", "scenes:size=20:train=60:test=30", "--epochs", "1", "--batch-size", "20", "--seeds", "1"]

    def run(*words, code=0):
        made = subprocess.run(
            [sys.executable, "-m", "whatwhere", *words], capture_output=True, text=True, env=dict(os.environ)
        )
        assert made.returncode == code, made.stdout + made.stderr
        return " ".join((made.stdout + made.stderr).split())

    out = tmp_path / "study"
    words = ["--attention", "own-away", "--no-control", "--no-costs", "--images", "0", "--out", str(out)]
    run("study", *images, *words, "--import", "far_away.py")
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert [row["arm"] for row in rows] == ["plain", "own-away"]
    run_dir = out / "own-away" / "seed-0"
    assert f"--import {path}" in run("look", "test:1", "--run", str(run_dir), code=2)
    run("look", "test:1", "--run", str(run_dir), "--import", "far_away")
    assert f"a study, with the runs {run_dir}" in run("look", "test:1", "--run", str(out), code=2)
