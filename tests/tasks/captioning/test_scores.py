"""The scores of captions that come batch by batch, METEOR's program, and what is written."""

import importlib.util
import json
import shutil
import stat
import sys

import pytest
import torch

from whatwhere.data.captions.tokens import tokenise
from whatwhere.errors import WhatwhereError
from whatwhere.tasks.captioning import meteor as program
from whatwhere.tasks.captioning.measures import bleu, cider_d, rouge_l
from whatwhere.tasks.captioning.meteor import find_meteor, meteor
from whatwhere.tasks.captioning.scores import NUMBERS, CaptionScores

CAPTIONS = [
    "A goat stands on a roof.",
    "Two girls build a tent!",
    "The café is closed",
    "A man's kite isn't high enough (yet)",
    "Geese cross the road",
    "",
]
TRUTHS = [
    ["A goat stands on the roof of a shed.", "A white goat looks down from a roof."],
    ["Two girls build a tent in the woods.", "The girls can't find the poles of their tent."],
    ["A closed café, with chairs on its tables.", "An empty café"],
    ["A man flies a kite.", "A kite isn't high enough to clear the trees.", "A man's red kite"],
    ["Seven geese cross a wet road.", "The geese walk across the road, one after another."],
    ["Nothing but fog."],
]
NAMES = [f"{letter}.jpg" for letter in "abcdef"]
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="needs Java")


def gathered(order, **options):
    """Scores of the images in this order, in batches of two."""
    scores = CaptionScores(**options)
    for start in range(0, len(order), 2):
        batch = order[start : start + 2]
        scores.update(*([part[i] for i in batch] for part in (CAPTIONS, TRUTHS, NAMES)), batch)
    return scores


def test_the_numbers_are_those_of_the_measures():
    candidates = [tokenise(caption) for caption in CAPTIONS]
    references = [[tokenise(text) for text in several] for several in TRUTHS]
    measured = gathered(range(6)).compute()
    assert tuple(measured) == NUMBERS
    assert all(type(value) is float for value in measured.values())
    wanted = [*bleu(candidates, references), rouge_l(candidates, references), cider_d(candidates, references)]
    assert list(measured.values()) == wanted
    assert 0.05 < measured["bleu4"] < measured["bleu1"] < 1


def test_order_and_repetition_of_images_do_not_matter():
    assert gathered([3, 0, 5, 1, 4, 2]).compute() == gathered(range(6)).compute()
    assert gathered([0, 1, 2, 3, 4, 5, 1, 0]).compute() == gathered(range(6)).compute()


def test_reset_and_to():
    scores = gathered([0, 1])
    assert scores.to("cpu") is scores
    scores.compute()
    scores.reset()
    with pytest.raises(WhatwhereError, match="no captions to score"):
        scores.compute()
    with pytest.raises(WhatwhereError, match="call compute first"):
        scores.captions()
    scores.update(CAPTIONS[2:], TRUTHS[2:], NAMES[2:], range(2, 6))
    assert scores.compute() == gathered(range(2, 6)).compute()


def test_numbers_may_be_a_tensor():
    scores = CaptionScores()
    scores.update(CAPTIONS, TRUTHS, NAMES, torch.arange(6))
    assert scores.compute() == gathered(range(6)).compute()


def test_what_is_written(tmp_path):
    scores = gathered([2, 1, 0])
    with pytest.raises(WhatwhereError, match="call compute first"):
        scores.write(tmp_path)
    scores.compute()
    scores.write(tmp_path)
    written = json.loads((tmp_path / "captions.json").read_text(encoding="utf-8"))
    assert written["tokeniser"] == "whatwhere.data.captions.tokens.tokenise"
    assert written["images"] == [
        {"number": i, "name": NAMES[i], "caption": CAPTIONS[i], "references": TRUTHS[i]} for i in range(3)
    ]


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((["a"], [["a"]], ["x.jpg"], [0, 1]), "1 captions, 1 references, 1 names, 2 numbers"),
        ((["a"], [["a"], ["b"]], ["x.jpg"], [0]), "lengths differ"),
        ((["a", "b"], [["a"], []], ["x.jpg", "y.jpg"], [0, 1]), "y.jpg has no references"),
        ((["a"], ["a dog"], ["x.jpg"], [0]), "x.jpg: .* list of texts"),
        (([["a"]], [["a dog"]], ["x.jpg"], [0]), "x.jpg: the caption must be text"),
    ],
)
def test_a_wrong_batch_is_not_added(batch, message):
    scores = gathered(range(6))
    with pytest.raises(WhatwhereError, match=message):
        scores.update(*batch)
    assert scores.compute() == gathered(range(6)).compute()


def test_meteor_without_what_it_needs(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(WhatwhereError, match="missing: the command java"):
        CaptionScores(meteor=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WhatwhereError, match=r"java.* and the package pycocoevalcap \(pip install pycocoevalcap"):
        find_meteor()


PROGRAM = """
for line in sys.stdin:
    kind, *fields = line.rstrip("\\n").split(" ||| ")
    if kind == "SCORE":
        print(len(fields[-1].split()), len(fields) - 1, flush=True)
    else:
        print(*[0.25 for _ in fields], sum(float(field.split()[0]) for field in fields), sep="\\n", flush=True)
"""


def stand_in(folder, monkeypatch, code):
    """Let METEOR's program be a Python program."""
    file = folder / "java"
    file.write_text(f"#!{sys.executable}\nimport sys\nsys.stdin.reconfigure(encoding='utf-8')\n{code}")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(program, "find_meteor", lambda: (str(file), folder / "meteor-1.5.jar"))


@pytest.mark.skipif(sys.platform == "win32", reason="a script with #!")
def test_the_last_number_of_the_program_counts(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, PROGRAM)
    candidates = [["a", "dog"], ["a", "|||", "naïve", "cat"], []]
    assert meteor(candidates, [[["x"]], [["y"], ["z"]], [["w"]]]) == 5


@pytest.mark.skipif(sys.platform == "win32", reason="a script with #!")
@pytest.mark.parametrize("code", ["sys.exit('no memory')", "input(); print('no number'); sys.exit('no memory')"])
def test_a_program_that_fails(tmp_path, monkeypatch, code):
    stand_in(tmp_path, monkeypatch, code)
    with pytest.raises(WhatwhereError, match="METEOR's Java program failed: no memory"):
        meteor([["a", "dog"]] * 3, [[["a", "cat"]]] * 3)


@pytest.mark.slow
@needs_java
def test_meteor_is_the_references():
    module = pytest.importorskip("pycocoevalcap.meteor.meteor")
    plain = [0, 1, 3, 4, 5]  # for other letters the reference's program needs a system that is set to UTF-8
    candidates = {i: [" ".join(tokenise(CAPTIONS[i]))] for i in plain}
    references = {i: [" ".join(tokenise(text)) for text in TRUTHS[i]] for i in plain}
    wanted, _ = module.Meteor().compute_score(references, candidates)
    measured = gathered(plain, meteor=True).compute()
    assert list(measured) == [*NUMBERS, "meteor"]
    assert measured["meteor"] == pytest.approx(wanted, abs=1e-12)


def gather(rank, file, folder):
    """One of two processes that have half of the images each, and one image both."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    measured = gathered([*range(rank, 6, 2), 0]).compute()
    (folder / f"{rank}.json").write_text(json.dumps(measured))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_measure_what_one_measures(tmp_path):
    torch.multiprocessing.spawn(gather, (tmp_path / "meeting", tmp_path), nprocs=2)
    wanted = gathered(range(6)).compute()
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == wanted
