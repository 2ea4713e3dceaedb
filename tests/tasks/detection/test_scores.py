"""The scores against pycocotools on the same boxes, and VOC's against a transcription of its definition."""

import contextlib
import io
import json
import math

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from whatwhere.errors import WhatwhereError
from whatwhere.tasks.detection.matching import match
from whatwhere.tasks.detection.scores import NUMBERS, DetectionScores
from whatwhere.tasks.detection.voc import average_precision, voc_ap

CLASSES = ["ant", "bee", "cat", "never"]


def random_boxes(rng, count, side=640):
    corner = rng.uniform(0, side - 10, (count, 2))
    sides = np.exp(rng.uniform(np.log(6), np.log(300), (count, 2)))
    return torch.tensor(np.concatenate([corner, np.minimum(corner + sides, side)], 1), dtype=torch.float32)


def scene(rng, number, *, objects=6, found=20, ties=False):
    """One image: boxes near the objects and anywhere, some of them of a wrong class."""
    boxes = random_boxes(rng, objects)
    labels = torch.from_numpy(rng.integers(0, 3, objects))
    truth = {
        "image_id": number,
        "size": (640, 640),
        "name": f"{number}.jpg",
        "boxes": boxes,
        "labels": labels,
        "crowd": torch.from_numpy(rng.random(objects) < 0.15),
        "difficult": torch.from_numpy(rng.random(objects) < 0.15),
        "areas": ((boxes[:, 2:] - boxes[:, :2]).prod(1) * torch.from_numpy(rng.uniform(0.5, 1, objects))).float(),
    }
    near = torch.from_numpy(rng.integers(0, max(objects, 1), found))
    moved = random_boxes(rng, found)
    if objects:
        close = torch.from_numpy(rng.random(found) < 0.7)
        jitter = torch.tensor(rng.normal(0, 4, (found, 4)), dtype=torch.float32)
        moved[close] = boxes[near[close]] + jitter[close]
        moved[:, 2:] = torch.maximum(moved[:, 2:], moved[:, :2] + 1)
        guesses = torch.where(torch.from_numpy(rng.random(found) < 0.8), labels[near], (labels[near] + 1) % 3)
    else:
        guesses = torch.from_numpy(rng.integers(0, 3, found))
    scores = torch.tensor(rng.random(found), dtype=torch.float32)
    if ties:
        scores = (scores * 4).round() / 4
    return {"boxes": moved, "labels": guesses, "scores": scores}, truth


def gathered(pairs, **options):
    scores = DetectionScores(CLASSES, **options)
    scores.update([found for found, _ in pairs], [truth for _, truth in pairs])
    return scores


def reference(truth, predictions):
    """COCO's twelve numbers and the precisions, by its own code."""
    with contextlib.redirect_stdout(io.StringIO()):
        whole = COCO()
        whole.dataset = truth
        whole.createIndex()
        found = whole.loadRes(predictions)
        evaluation = COCOeval(whole, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats, evaluation.eval["precision"]


def same(one, two):
    return (math.isnan(one) and two < 0) or one == pytest.approx(two, abs=1e-9)


CASES = {
    "plain": {},
    "ties": {"ties": True},
    "many boxes": {"found": 150},
    "one object": {"objects": 1, "found": 5},
    "few boxes": {"objects": 10, "found": 1},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_equal_to_pycocotools(case, seed):
    rng = np.random.default_rng(seed)
    pairs = [scene(rng, number, **CASES[case]) for number in (7, 3, 12, 5, 30)]
    pairs.append(scene(rng, 31, objects=0, found=3))
    pairs.append(scene(rng, 32, objects=4, found=0))
    scores = gathered(pairs, category_ids=[2, 5, 9, 11])
    measured = scores.compute()
    stats, precision = reference(json.loads(json.dumps(scores.truth())), json.loads(json.dumps(scores.predictions())))
    for name, wanted in zip(NUMBERS, stats, strict=True):
        assert same(measured[name], wanted), name
    for index, name in enumerate(CLASSES):
        for key, part in (
            (f"map/{name}", precision[:, :, index, 0, -1]),
            (f"ap50/{name}", precision[0, :, index, 0, -1]),
        ):
            known = part[part > -1]
            assert same(measured[key], known.mean() if known.size else -1), key
    assert math.isnan(measured["map/never"])


def test_the_written_files_score_the_same(tmp_path):
    rng = np.random.default_rng(4)
    scores = gathered([scene(rng, number) for number in range(1, 9)])
    measured = scores.compute()
    scores.write(tmp_path)
    truth, predictions = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("truth", "predictions"))
    stats, _ = reference(truth, predictions)
    assert measured["map"] == pytest.approx(stats[0], abs=1e-9)
    assert measured["map"] > 0.05


def test_the_order_of_images_does_not_matter():
    rng = np.random.default_rng(5)
    pairs = [scene(rng, number) for number in range(1, 9)]
    one, two = gathered(pairs).compute(), gathered(pairs[::-1]).compute()
    assert one == pytest.approx(two, nan_ok=True, abs=0)


def test_nothing_found_and_nothing_to_find():
    rng = np.random.default_rng(6)
    measured = gathered([scene(rng, 1, found=0)]).compute()
    assert measured["map"] == measured["ap50"] == measured["voc50"] == 0
    measured = gathered([scene(rng, 1, objects=0)]).compute()
    assert all(math.isnan(measured[name]) for name in ("map", "ap50", "voc50", "map/ant"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": torch.zeros(2, 3)}, r"1.jpg: boxes \(n, 4\)"),
        ({"scores": torch.zeros(3)}, "are needed"),
        ({"boxes": torch.full((2, 4), math.nan)}, "not finite"),
        ({"labels": torch.tensor([0, 4])}, "labels must be from 0 to 3"),
        ({"labels": torch.tensor([-1, 0])}, "labels must be from 0 to 3"),
    ],
)
def test_wrong_boxes(change, message):
    good = {
        "boxes": torch.tensor([[0.0, 0, 5, 5], [1, 1, 8, 8]]),
        "labels": torch.tensor([0, 1]),
        "scores": torch.rand(2),
    }
    _, truth = scene(np.random.default_rng(0), 1)
    with pytest.raises(WhatwhereError, match=message):
        DetectionScores(CLASSES).update([{**good, **change}], [truth])


def slow_voc(images, overlap):
    """VOC's average precision of one class, word by word."""

    def iou(a, b):
        width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
        height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        shared = width * height
        return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)

    boxes = [
        (float(s), i, box)
        for i, (b, scores, _, _) in enumerate(images)
        for s, box in zip(scores, b.tolist(), strict=True)
    ]
    boxes.sort(key=lambda one: -one[0])
    positives = sum(int((~ignored).sum()) for _, _, _, ignored in images)
    taken, curve, hit, alarm = set(), [], 0, 0
    for _, i, box in boxes:
        objects, ignored = images[i][2].tolist(), images[i][3].tolist()
        best = max(range(len(objects)), key=lambda k: iou(box, objects[k]), default=None)
        if best is None or iou(box, objects[best]) < overlap:
            alarm += 1
        elif not ignored[best]:
            hit, alarm = (hit, alarm + 1) if (i, best) in taken else (hit + 1, alarm)
            taken.add((i, best))
        if hit + alarm:
            curve.append((hit / positives, hit / (hit + alarm)))
    area, before = 0.0, 0.0
    for position, (recall, _) in enumerate(curve):
        area += (recall - before) * max(precision for _, precision in curve[position:])
        before = recall
    return area


@pytest.mark.parametrize("seed", range(6))
def test_vocs_average_precision(seed):
    rng = np.random.default_rng(seed)
    images = []
    for number in range(6):
        found, truth = scene(rng, number, objects=int(rng.integers(0, 5)), found=int(rng.integers(0, 9)))
        images.append((found["boxes"], found["scores"], truth["boxes"], truth["difficult"]))
    assert voc_ap(images) == pytest.approx(slow_voc(images, 0.5), abs=1e-12)


def test_average_precisions_by_hand():
    recall, precision = np.array([0.25, 0.5, 0.5, 0.75]), np.array([1.0, 1.0, 2 / 3, 0.75])
    assert average_precision(recall, precision) == pytest.approx(0.5 * 1 + 0.25 * 0.75)
    assert average_precision(recall, precision, points=11) == pytest.approx((6 * 1 + 2 * 0.75) / 11)
    assert average_precision(np.array([]), np.array([])) == 0


def test_a_difficult_object_is_neither_hit_nor_missed():
    box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    easy = torch.tensor([[50.0, 50.0, 60.0, 60.0]])
    both = torch.cat([box, easy])
    only = torch.tensor([True, False])
    assert voc_ap([(both, torch.tensor([0.9, 0.8]), both, only)]) == 1
    assert math.isnan(voc_ap([(box, torch.tensor([0.9]), box, torch.tensor([True]))]))


def test_matching_of_one_image():
    true = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40], [60, 60, 90, 90], [100, 0, 130, 30]])
    labels = torch.tensor([0, 1, 2, 2])
    boxes = torch.tensor([[0.0, 0, 10, 9], [0, 0, 9, 10], [20, 20, 40, 41], [21, 20, 40, 40], [100, 0, 130, 31]])
    guesses = torch.tensor([0, 0, 0, 1, 2])
    scores = torch.tensor([0.6, 0.9, 0.8, 0.7, 0.5])
    ignored = torch.tensor([False, False, False, True])
    found = match(boxes, guesses, scores, true, labels, ignored)
    assert found.hits == [(1, 0), (3, 1)]  # the better of two boxes on one object; the right class
    assert found.false_alarms == [2, 0]
    assert found.misses == [2]
    nothing = match(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), true, labels, ignored)
    assert nothing == ([], [], [0, 1, 2])
    none = torch.zeros(0, 4)
    assert match(boxes, guesses, scores, none, torch.zeros(0, dtype=torch.int64)).false_alarms == [1, 2, 3, 0, 4]


def gather(rank, file, folder):
    """One of two processes that have half of the images each."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    rng = np.random.default_rng(9)
    pairs = [scene(rng, number) for number in range(1, 9)]
    measured = gathered(pairs[rank::2]).compute()
    (folder / f"{rank}.json").write_text(json.dumps(measured))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_measure_what_one_measures(tmp_path):
    torch.multiprocessing.spawn(gather, (tmp_path / "meeting", tmp_path), nprocs=2)
    rng = np.random.default_rng(9)
    wanted = gathered([scene(rng, number) for number in range(1, 9)]).compute()
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found == pytest.approx(wanted, nan_ok=True, abs=0)
