import multiprocessing
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from whatwhere.data import DetectionDataConfig, DetectionDataset, EpochBatches, Problem, open_detection
from whatwhere.data.broken import BrokenImages
from whatwhere.errors import WhatwhereError

from .conftest import GOOD, MODES, opened, pass_over, voc_object, write_image, write_lists, write_voc

both = pytest.mark.parametrize("memory_gb", MODES.values(), ids=MODES)


def many(root: Path, train: int = 9, test: int = 3) -> Path:
    for i in range(train + test):
        write_voc(root, f"{i:02d}", [GOOD, ("dog", (1, 1, 10 + i, 20))], size="")
        write_image(root / "JPEGImages" / f"{i:02d}.jpg", 60 + 7 * i, 90 - 5 * i, seed=i)
    write_lists(root, train=[f"{i:02d}" for i in range(train)], val=[f"{i:02d}" for i in range(train, train + test)])
    return root


def spoil(root: Path) -> list[str]:
    """Damage four of the training images in ways that a look at the header does not show, or does."""
    images = root / "JPEGImages"
    (images / "00.jpg").write_bytes(b"")
    (images / "02.jpg").write_text("this is text")
    for name in ("03", "05"):
        content = (images / f"{name}.jpg").read_bytes()
        (images / f"{name}.jpg").write_bytes(content[: len(content) * 2 // 3])
    return [str(images / f"{name}.jpg") for name in ("00", "02", "03", "05")]


def test_decoding_now_and_later_gives_the_same(tmp_path: Path) -> None:
    root = many(tmp_path)
    now, later = (opened(root, size=64, memory_gb=gb).train for gb in MODES.values())
    assert (now.pixels is None, later.pixels is None) == (False, True)
    one, other = (dataset.__getitems__([4, 0, 7]) for dataset in (now, later))
    assert one.keys() == other.keys()
    for key, value in one.items():
        for a, b in zip(value, other[key], strict=True):
            assert torch.equal(a, b), key


@both
def test_a_batch(tmp_path: Path, memory_gb: float) -> None:
    train, _ = opened(many(tmp_path), size=64, memory_gb=memory_gb)
    batch = train.__getitems__([8, 1])
    assert batch["index"].tolist() == [8, 1]
    assert batch["index"].dtype == torch.int64
    for image, boxes, labels, index in zip(batch["images"], batch["boxes"], batch["labels"], [8, 1], strict=True):
        truth = train.truth(index)
        height, width = truth["size"]
        assert (image.dtype, boxes.dtype, labels.dtype) == (torch.uint8, torch.float32, torch.int64)
        assert max(image.shape[1:]) == 64
        assert abs(image.shape[2] / image.shape[1] - width / height) < 0.05
        scale = torch.tensor([image.shape[2] / width, image.shape[1] / height] * 2)
        assert torch.allclose(boxes, truth["boxes"] * scale)
        assert torch.equal(labels, truth["labels"])
    for key in ("crowd", "difficult"):
        assert [one.dtype for one in batch[key]] == [torch.bool] * 2


def test_the_truth_needs_no_pixels(tmp_path: Path) -> None:
    root = many(tmp_path)
    train, _ = opened(root, memory_gb=0)
    (root / "JPEGImages" / "01.jpg").unlink()
    truth = train.truth(1)
    assert truth["boxes"].tolist() == [[4, 4, 25, 30], [0, 0, 11, 20]]
    assert (truth["size"], truth["image_id"], truth["name"]) == ((85, 67), 2, train.name(1))


def test_broken_images_are_reported_and_listed_when_decoded_now(tmp_path: Path) -> None:
    root = many(tmp_path)
    bad = spoil(root)
    with pytest.warns(RuntimeWarning, match="4 problems in images and annotations") as caught:
        train, test = opened(root, quiet=False)
    assert len(caught) == 1
    assert all(path in str(caught[0].message) for path in bad)
    assert sorted(one.path for one in train.broken) == bad
    assert {one.path: one.reason for one in train.broken}[bad[0]] == "empty file"
    assert all(one.reason for one in train.broken)
    assert not test.broken
    assert pass_over(train) == [0, 1, 2, 3, 4]


def test_broken_images_leave_their_batch_when_decoded_later(tmp_path: Path) -> None:
    root = many(tmp_path)
    bad = spoil(root)
    train, _ = opened(root, memory_gb=0)
    assert [one.path for one in train.broken] == bad[:2]  # what the headers show
    assert len(train) == 7
    with pytest.warns(RuntimeWarning, match="left out a broken image") as caught:
        batch = train.__getitems__(list(range(7)))
    assert len(caught) == 2
    assert [Path(train.name(i)).stem for i in batch["index"].tolist()] == ["01", "04", "06", "07", "08"]
    assert len(batch["images"]) == len(batch["boxes"]) == 5
    assert [one.path for one in train.broken] == bad
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # reported once
        empty = train.__getitems__([1])
    assert empty["images"] == []
    assert (empty["index"].shape, empty["index"].dtype) == ((0,), torch.int64)


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_what_workers_find_broken_is_known_outside(tmp_path: Path, start: str) -> None:
    if start not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {start} here")
    root = many(tmp_path)
    bad = spoil(root)
    train, _ = opened(root, memory_gb=0)
    loader = DataLoader(
        train,
        batch_sampler=EpochBatches(7, 3),
        collate_fn=dict,
        num_workers=1,
        multiprocessing_context=start,
    )
    came = sorted(index for batch in loader for index in batch["index"].tolist())
    assert [Path(train.name(i)).stem for i in came] == ["01", "04", "06", "07", "08"]
    assert [one.path for one in train.broken] == bad
    assert "truncated" in train.broken[-1].reason


def test_broken_images_find_their_reason_where_another_process_found_them() -> None:
    names = ["a", "b", "c"]
    here = BrokenImages(names, lambda index: "" if index == 2 else f"reason {index}")
    with pytest.warns(RuntimeWarning, match="left out a broken image: b: damaged"):
        here.add(1, "damaged")
    there = BrokenImages(names, lambda index: "" if index == 2 else f"reason {index}")
    there._bad = here._bad  # what a worker shares
    there.add(2, "for a moment", warn=False)
    assert [(one.path, one.reason) for one in there.found()] == [("c", "for a moment"), ("b", "reason 1")]
    assert [(one.path, one.reason) for one in here.found()] == [("b", "damaged"), ("c", "could not be read at first")]
    assert (0 in here, 1 in here, 2 in here) == (False, True, True)


def test_a_data_set_can_be_pickled(tmp_path: Path) -> None:
    train, _ = opened(many(tmp_path), memory_gb=0)
    again: DetectionDataset = pickle.loads(pickle.dumps(train))
    assert torch.equal(again.__getitems__([2])["images"][0], train.__getitems__([2])["images"][0])


def names(dataset: DetectionDataset) -> list[str]:
    return [Path(dataset.name(i)).stem for i in range(len(dataset))]


@both
def test_limits_hold_to_the_seed_and_keep_the_order(tmp_path: Path, memory_gb: float) -> None:
    root = many(tmp_path)
    drawn = [
        names(opened(root, train_limit=4, test_limit=2, data_seed=seed, memory_gb=memory_gb).train)
        for seed in (0, 0, 1, 2, 3)
    ]
    assert drawn[0] == drawn[1]
    assert len(set(map(tuple, drawn))) > 1
    assert all(len(one) == 4 and one == sorted(one) for one in drawn)
    assert len(opened(root, train_limit=99).train) == 9


@pytest.mark.parametrize("options", [{"size": 0}, {"train_limit": 0}, {"test_limit": -1}])
def test_numbers_that_make_no_sense(tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(WhatwhereError, match=f"{next(iter(options))} must be at least 1"):
        opened(many(tmp_path, 2, 1), **options)


def test_folders_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(WhatwhereError, match=r"there is no .*nowhere.*Pascal VOC.*COCO.*YOLO"):
        opened(tmp_path / "nowhere")
    (tmp_path / "cats").mkdir()
    with pytest.raises(WhatwhereError, match=r"it has cats; expected Pascal VOC.*COCO.*YOLO"):
        opened(tmp_path)
    with pytest.raises(WhatwhereError, match="it has nothing"):
        opened(tmp_path / "cats")
    with pytest.raises(WhatwhereError, match="names nothing"):
        opened()
    with pytest.raises(WhatwhereError, match="cannot be mixed"):
        opened("scenes", tmp_path)


def test_nothing_to_learn_from(tmp_path: Path) -> None:
    write_voc(tmp_path, "a", voc_object("cat", (30, 5, 10, 9)))
    write_voc(tmp_path, "b", [GOOD])
    write_lists(tmp_path, train=["a"], val=["b"])
    with pytest.raises(WhatwhereError, match=r"(?s)no image to learn from has an object that is in order.*inverted"):
        opened(tmp_path)


def test_the_warning_names_the_first_ten(tmp_path: Path) -> None:
    write_voc(tmp_path, "a", voc_object("cat", (5, 5, 9, 9)) + voc_object("cat", (30, 5, 10, 9)) * 14)
    write_voc(tmp_path, "b", [GOOD])
    write_lists(tmp_path, train=["a"], val=["b"])
    with pytest.warns(RuntimeWarning, match=r"14 problems in images and annotations") as caught:
        opened(tmp_path, quiet=False)
    lines = str(caught[0].message).splitlines()
    named = [line for line in lines if "a.xml, object " in line]
    assert len(named) == 10
    assert "a.xml, object 2 (cat): the box" in named[0]
    assert lines[-1].strip() == "and 4 more"


def test_the_warning_counts_by_reason(tmp_path: Path) -> None:
    write_voc(tmp_path, "a", voc_object("cat", (5, 5, 9, 9)) + voc_object("cat", (30, 5, 10, 9)) * 14)
    write_voc(tmp_path, "b", [GOOD])
    write_lists(tmp_path, train=["a"], val=["b"])
    with pytest.warns(RuntimeWarning) as caught:
        opened(tmp_path, quiet=False)
    assert any("14" in line and "inverted" in line for line in str(caught[0].message).splitlines())


def test_data_in_order_is_opened_without_a_word(tmp_path: Path) -> None:
    root = many(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train, test = opened(root, quiet=False)
    assert not train.problems
    assert not test.problems


def test_the_description(tmp_path: Path) -> None:
    root = many(tmp_path)
    write_voc(root, "03", "", size="")
    words = opened(root).describe()
    for part in (
        "9 images with 16 objects",
        "1 images without any",
        "3 images with 6 objects",
        "2 classes",
        "cat, dog",
    ):
        assert part in words
    assert "320 pixels" in words


@pytest.mark.parametrize(("given", "flip"), [(None, True), (False, False), (True, True)])
def test_flip(tmp_path: Path, given: bool | None, flip: bool) -> None:
    assert opened(many(tmp_path, 2, 1), flip=given).train.flip is flip


def test_a_problem_reads_well() -> None:
    assert str(Problem("a.xml", "object 3 (RBC)", "empty")) == "a.xml, object 3 (RBC): empty"
    assert str(Problem("a.xml", "", "broken")) == "a.xml: broken"


def test_paths_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many(tmp_path / "data", 2, 1)
    (tmp_path / "scenes").mkdir()
    monkeypatch.chdir(tmp_path)
    assert DetectionDataConfig(("data",)).absolute().data == (str(tmp_path / "data"),)
    for word in ("scenes", "scenes:size=64", "nowhere"):
        assert DetectionDataConfig((word,)).absolute().data == (word,)
    assert len(open_detection(DetectionDataConfig(("data",)), progress=False).train) == 2
