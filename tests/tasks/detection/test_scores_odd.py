"""The scores on data that is made to be awkward, through files, and over processes of which one has no images."""

import contextlib
import io
import json
import logging
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from whatwhere.tasks.detection.scores import NUMBERS, DetectionScores

CLASSES = ["ant", "bee", "never"]


def scene(rng, number, *, objects, found, grid=False):
    """One image of awkward boxes: few classes, scores with ties, areas on the limits, on a grid exact overlaps."""

    def boxes(count):
        step = 20.0 if grid else 1e-3
        corner = (rng.uniform(0, 200, (count, 2)) / step).round() * step
        sides = (rng.uniform(0, 120, (count, 2)) / step).round().clip(1) * step
        return torch.tensor(np.concatenate([corner, corner + sides], 1), dtype=torch.float32)

    true = boxes(objects)
    near = boxes(found)
    if objects:
        copied = torch.from_numpy(rng.random(found) < 0.5)
        near[copied] = true[torch.from_numpy(rng.integers(0, objects, found))][copied]
    areas = (true[:, 2:] - true[:, :2]).prod(1)
    on_limit = torch.from_numpy(rng.random(objects) < 0.3)
    areas[on_limit] = torch.from_numpy(rng.choice([1024.0, 9216.0], objects)).float()[on_limit]
    flags = [torch.from_numpy(rng.random(objects) < 0.2) for _ in range(2)]
    truth = {"image_id": number, "size": (400, 400), "name": f"{number}.jpg", "boxes": true, "areas": areas}
    truth |= {"labels": torch.from_numpy(rng.integers(0, 2, objects)), "crowd": flags[0], "difficult": flags[1]}
    scores = torch.tensor(rng.random(found), dtype=torch.float32)
    if rng.random() < 0.5:
        scores = (scores * 4).round() / 4
    return {"boxes": near, "labels": torch.from_numpy(rng.integers(0, 2, found)), "scores": scores}, truth


def pairs_of(seed, count=6):
    rng = np.random.default_rng(seed)
    return [
        scene(rng, number, objects=int(rng.integers(0, 9)), found=int(rng.choice([0, 1, 12, 260])), grid=bool(seed % 2))
        for number in range(1, count + 1)
    ]


def gathered(pairs, **options):
    scores = DetectionScores(CLASSES, **options)
    scores.update([found for found, _ in pairs], [truth for _, truth in pairs])
    return scores


def contents_of(pairs, ids):
    """The same images in COCO's format, written here."""

    def corner_and_sides(box):
        x1, y1, x2, y2 = box.double().tolist()
        return [x1, y1, x2 - x1, y2 - y1]

    truth = {"info": {}, "images": [{"id": one["image_id"], "width": 400, "height": 400} for _, one in pairs]}
    truth["categories"] = [{"id": number, "name": name} for number, name in zip(ids, CLASSES, strict=True)]
    rows = [(one, k) for _, one in pairs for k in range(len(one["labels"]))]
    truth["annotations"] = [
        {
            "id": number,
            "image_id": one["image_id"],
            "category_id": ids[int(one["labels"][k])],
            "bbox": corner_and_sides(one["boxes"][k]),
            "area": float(one["areas"][k]),
            "iscrowd": int(one["crowd"][k]),
        }
        for number, (one, k) in enumerate(rows, 1)
    ]
    found = [
        {
            "image_id": one["image_id"],
            "category_id": ids[int(boxes["labels"][k])],
            "bbox": corner_and_sides(boxes["boxes"][k]),
            "score": float(boxes["scores"][k]),
        }
        for boxes, one in pairs
        for k in range(len(boxes["labels"]))
    ]
    return truth, found


def by_pycocotools(truth, predictions):
    """All numbers by COCO's own code, of contents or of files; nan in place of its -1."""
    with contextlib.redirect_stdout(io.StringIO()):
        whole = COCO(str(truth) if not isinstance(truth, dict) else None)
        if isinstance(truth, dict):
            whole.dataset = truth
            whole.createIndex()
        evaluation = COCOeval(whole, whole.loadRes(predictions), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = {one["id"]: one["name"] for one in whole.dataset["categories"]}
    wanted = dict(zip(NUMBERS, evaluation.stats, strict=True))
    for column, number in enumerate(evaluation.params.catIds):
        own = evaluation.eval["precision"][:, :, column, 0, -1]
        wanted[f"map/{names[number]}"] = own.mean()
        wanted[f"ap50/{names[number]}"] = own[0].mean()
    return {key: math.nan if value < 0 else float(value) for key, value in wanted.items()}


def without_voc(measured):
    return {key: value for key, value in measured.items() if key != "voc50"}


@given(st.integers(0, 10**6))
@settings(max_examples=25)
def test_equal_to_pycocotools(seed):
    pairs = pairs_of(seed)
    pairs.append(scene(np.random.default_rng(seed), 99, objects=2, found=2))  # pycocotools cannot do without any box
    ids = [3, 17, 90]
    measured = gathered(pairs, category_ids=ids).compute()
    wanted = by_pycocotools(*contents_of(pairs, ids))
    assert without_voc(measured) == pytest.approx(wanted, nan_ok=True, abs=1e-9)


@pytest.mark.parametrize("seed", [2, 3])
def test_every_number_of_the_written_files(tmp_path, seed):
    scores = gathered(pairs_of(seed))
    measured = scores.compute()
    scores.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.json", "truth.json"]
    wanted = by_pycocotools(tmp_path / "truth.json", str(tmp_path / "predictions.json"))
    assert without_voc(measured) == pytest.approx(wanted, nan_ok=True, abs=1e-9)
    assert measured["map"] > 0


def test_boxes_come_through_the_file_exactly(tmp_path):
    pairs = pairs_of(4)
    scores = gathered(pairs)
    scores.compute()
    scores.write(tmp_path)
    rows = json.loads((tmp_path / "predictions.json").read_text())
    written = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in (row["bbox"] for row in rows)], dtype=torch.float64)
    assert torch.equal(written.float(), torch.cat([found["boxes"] for found, _ in pairs]))
    assert torch.equal(torch.tensor([row["score"] for row in rows]), torch.cat([found["scores"] for found, _ in pairs]))


def test_nothing_is_printed(capfd, caplog):
    with caplog.at_level(logging.INFO), warnings.catch_warnings():
        warnings.simplefilter("error")
        for pairs in (pairs_of(5), [scene(np.random.default_rng(0), 1, objects=2, found=0)], []):
            gathered(pairs).compute()
    assert tuple(capfd.readouterr()) == ("", "")
    assert caplog.text == ""


def test_no_images_and_no_objects_are_nan_and_no_boxes_are_zero():
    rng = np.random.default_rng(0)
    assert all(math.isnan(value) for value in DetectionScores(CLASSES).compute().values())
    assert all(math.isnan(value) for value in gathered([scene(rng, 1, objects=0, found=9)]).compute().values())
    box = {"boxes": torch.tensor([[0.0, 0, 20, 20]]), "labels": torch.tensor([1]), "areas": torch.tensor([400.0])}
    no = torch.tensor([False])
    truth = {"image_id": 1, "size": (99, 99), "name": "a", "crowd": no, "difficult": no, **box}
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
    measured = gathered([(nothing, truth)]).compute()
    zero = {"map", "ap50", "ap75", "ap_small", "ar1", "ar10", "ar100", "ar_small", "voc50", "map/bee", "ap50/bee"}
    assert {key for key, value in measured.items() if value == 0} == zero
    assert all(math.isnan(value) for key, value in measured.items() if key not in zero)


def test_images_can_be_added_after_compute_and_forgotten():
    pairs = pairs_of(6)
    scores = gathered(pairs[:3]).to("cpu")
    scores.compute()
    scores.update([found for found, _ in pairs[3:]], [truth for _, truth in pairs[3:]])
    assert scores.compute() == pytest.approx(gathered(pairs).compute(), nan_ok=True, abs=0)
    scores.reset()
    assert math.isnan(scores.compute()["map"])
    assert scores.predictions() == []


def share(rank, file, folder):
    """One of two processes; the second has no images."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    scores = gathered(pairs_of(7) if rank == 0 else [])
    measured = scores.compute()
    (folder / f"{rank}").mkdir()
    scores.write(folder / f"{rank}")
    (folder / f"{rank}" / "measured.json").write_text(json.dumps(measured))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_a_process_without_images_has_the_same_numbers_and_files(tmp_path):
    torch.multiprocessing.spawn(share, (tmp_path / "meeting", tmp_path), nprocs=2)
    alone = gathered(pairs_of(7))
    wanted = alone.compute()
    alone.write(tmp_path)
    for rank in ("0", "1"):
        measured = json.loads((tmp_path / rank / "measured.json").read_text())
        assert measured == pytest.approx(wanted, nan_ok=True, abs=0)
        for name in ("predictions.json", "truth.json"):
            assert (tmp_path / rank / name).read_text() == (tmp_path / name).read_text()
