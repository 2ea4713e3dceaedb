import json

import pytest

from whatwhere.errors import WhatwhereError
from whatwhere.training.folder import RunFolder, differences

RUN = {"task": "t", "config": {"a": 1, "deep": {"b": [1, 2]}}, "recipe": {"lr": 0.1, "workers": 0}}


def test_rows_are_cut_and_a_torn_line_is_left_out(tmp_path):
    folder = RunFolder(tmp_path)
    for step in (1, 2, 3):
        folder.append({"kind": "step", "step": step, "loss": float("inf") if step == 2 else 0.5})
    with folder.metrics.open("a") as file:
        file.write('{"kind": "epoch", "st')
    assert [row["step"] for row in folder.rows()] == [1, 2, 3]
    assert folder.rows("epoch") == []
    folder.cut(2)
    lines = folder.metrics.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"kind": "step", "step": 1, "loss": 0.5},
        {"kind": "step", "step": 2, "loss": None},
    ]


def test_differences_are_named_by_field():
    other = {"task": "t", "config": {"a": 1, "deep": {"b": [1, 3]}, "new": None}, "recipe": {"lr": 0.1, "workers": 4}}
    assert differences(RUN, other) == [
        "config.deep.b: [1, 2] there, [1, 3] here",
        "config.new: (absent) there, null here",
    ]


def test_check_explains_what_is_in_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WhatwhereError, match="is a file"):
        RunFolder(tmp_path / "file").check(RUN, resume=False)
    folder = RunFolder(tmp_path / "run")
    folder.check(RUN, resume=False)
    folder.check(RUN, resume=True)
    folder.write_config(RUN)
    folder.check(RUN, resume=True)
    with pytest.raises(WhatwhereError, match="--resume"):
        folder.check(RUN, resume=False)
    folder.config.write_text("{")
    with pytest.raises(WhatwhereError, match="damaged"):
        folder.check(RUN, resume=True)
    folder.config.unlink()
    folder.last.write_text("")
    with pytest.raises(WhatwhereError, match=r"no config\.json"):
        folder.check(RUN, resume=True)


def test_one_run_at_a_time(tmp_path):
    with RunFolder(tmp_path).lock():
        with pytest.raises(WhatwhereError, match="another process is training"), RunFolder(tmp_path).lock():
            pass
        with RunFolder(tmp_path / "other").lock():
            pass
    with RunFolder(tmp_path).lock():
        pass
