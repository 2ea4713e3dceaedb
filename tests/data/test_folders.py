import multiprocessing
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from whatwhere.data import EpochBatches, MemoryDataset, open_folder
from whatwhere.data.folders import FolderDataset
from whatwhere.data.limits import evenly
from whatwhere.errors import WhatwhereError

from .conftest import encoded, noise_image

Write = Callable[..., Path]
LATER = {"memory_gb": 0.0, "progress": False}
NOW = {"progress": False}
both = pytest.mark.parametrize("how", [NOW, LATER], ids=["now", "later"])


@both
def test_images_labels_and_names(folder: Write, how: dict) -> None:
    root = folder(train={"dog": 3, "cat": 2}, val={"cat": 1, "dog": 2})
    train, test = open_folder(root, size=16, **how)
    assert isinstance(train, MemoryDataset if how is NOW else FolderDataset)
    assert train.classes == test.classes == ("cat", "dog")
    assert train.labels.tolist() == [0, 0, 1, 1, 1]
    assert test.labels.tolist() == [0, 1, 1]
    assert train.name(2) == str(root / "train" / "dog" / "000.png")
    assert (train.size, train.flip, train.boxes, train.broken) == (16, True, None, [])
    batch = train.__getitems__([4, 0])
    assert batch["images"].shape == (2, 3, 16, 16)
    assert batch["images"].dtype == torch.uint8
    assert batch["labels"].tolist() == [1, 0]
    assert batch["index"].tolist() == [4, 0]


def test_decoding_now_and_later_gives_the_same(folder: Write) -> None:
    root = folder(train={"a": 4, "b": 5}, test={"a": 2, "b": 2})
    for now, later in zip(open_folder(root, size=24, **NOW), open_folder(root, size=24, **LATER), strict=True):
        every = list(range(len(now)))
        for key, value in now.__getitems__(every).items():
            assert torch.equal(value, later.__getitems__(every)[key])


def test_val_is_taken_before_test_and_deeper_images_are_found(folder: Write) -> None:
    root = folder(train={"a": 2, "b": 2}, val={"a": 1, "b": 1}, test={"a": 5, "b": 5})
    (root / "train" / "a" / "deep" / "er").mkdir(parents=True)
    noise_image().save(root / "train" / "a" / "deep" / "er" / "x.JPG", "JPEG")
    (root / "train" / "a" / "notes.txt").write_text("not an image, and not meant to be")
    (root / "train" / ".hidden").mkdir()
    train, test = open_folder(root, size=8, **NOW)
    assert (len(train), len(test)) == (5, 2)
    assert not train.broken


def spoil(root: Path) -> list[Path]:
    """Damage four of six training images of class a."""
    files = sorted((root / "train" / "a").iterdir())
    files[0].write_bytes(b"")
    files[2].write_text("this is text")
    files[3].write_bytes(files[3].read_bytes()[:200])
    files[5].write_bytes(encoded(noise_image(0, 300, 300))[:900])
    return [files[0], files[2], files[3], files[5]]


def test_broken_images_are_reported_counted_skipped_and_listed(folder: Write) -> None:
    root = folder(train={"a": 6, "b": 3}, val={"a": 1, "b": 1})
    bad = spoil(root)
    with pytest.warns(RuntimeWarning, match="left out 4 broken images") as caught:
        train, test = open_folder(root, size=16, **NOW)
    assert all(str(path) in str(caught[0].message) for path in bad)
    assert [one.path for one in train.broken] == [str(path) for path in bad]
    assert train.broken[0].reason == "empty file"
    assert all(one.reason for one in train.broken)
    assert not test.broken
    assert len(train) == len(train.images) == len(train.labels) == 5
    assert train.labels.tolist() == [0, 0, 1, 1, 1]
    assert [Path(train.name(i)).name for i in range(5)] == ["001.png", "004.png", "000.png", "001.png", "002.png"]


def test_broken_images_leave_their_batch_when_decoded_later(folder: Write) -> None:
    root = folder(train={"a": 6, "b": 3}, val={"a": 1, "b": 1})
    bad = spoil(root)
    train, _ = open_folder(root, size=16, **LATER)
    assert len(train) == 9
    with pytest.warns(RuntimeWarning, match="left out a broken image") as caught:
        batch = train.__getitems__(list(range(9)))
    assert len(caught) == 4
    assert batch["index"].tolist() == [1, 4, 6, 7, 8]
    assert batch["labels"].tolist() == [0, 0, 1, 1, 1]
    assert len(batch["images"]) == 5
    assert [one.path for one in train.broken] == [str(path) for path in bad]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # reported once
        assert train.__getitems__([0, 2])["images"].shape == (0, 3, 16, 16)
    with pytest.raises(OSError, match=r"000\.png cannot be read"):
        train[0]


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_what_workers_find_broken_is_known_outside(folder: Write, start: str) -> None:
    if start not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {start} here")
    root = folder(train={"a": 6, "b": 3}, val={"a": 1, "b": 1})
    bad = spoil(root)
    train, _ = open_folder(root, size=16, **LATER)
    loader = DataLoader(
        train,
        batch_sampler=EpochBatches(9, 4),
        collate_fn=dict,
        num_workers=1,
        multiprocessing_context=start,
    )
    assert sorted(index for batch in loader for index in batch["index"].tolist()) == [1, 4, 6, 7, 8]
    assert [one.path for one in train.broken] == [str(path) for path in bad]
    assert train.broken[0].reason == "empty file"


def test_the_size(folder: Write) -> None:
    root = folder(width=40, height=32, train={"a": 2, "b": 2}, val={"a": 1, "b": 1})
    assert open_folder(root, size=20, default_size=64, **NOW).train.size == 20
    assert open_folder(root, default_size=64, **NOW).train.size == 64
    assert open_folder(root, **NOW).train.size == 32
    noise_image(0, 50, 50).save(root / "train" / "a" / "other.png")
    assert open_folder(root, **NOW).test.size == 224


@pytest.mark.parametrize(("count", "limit"), [((9, 9, 9), 6), ((9, 2, 9), 10), ((20, 20, 20), 20), ((5, 5), 99)])
def test_limits_are_even_and_hold_to_the_seed(count: tuple[int, ...], limit: int) -> None:
    labels = np.repeat(np.arange(len(count)), count)
    kept = evenly(labels, limit, seed=3)
    assert len(kept) == min(limit, len(labels))
    assert len(set(kept.tolist())) == len(kept)
    assert (np.diff(kept) > 0).all()
    drawn = np.bincount(labels[kept], minlength=len(count))
    for mine, most in zip(drawn, count, strict=True):
        assert mine == most or mine >= drawn.max() - 1
    assert np.array_equal(kept, evenly(labels, limit, seed=3))
    if limit < len(labels):
        assert any(not np.array_equal(kept, evenly(labels, limit, seed=s)) for s in range(4, 9))


@both
def test_limits_on_folders(folder: Write, how: dict) -> None:
    root = folder(train={"a": 8, "b": 8}, val={"a": 6, "b": 6})
    train, test = open_folder(root, size=8, train_limit=6, test_limit=4, seed=1, **how)
    assert train.labels.bincount().tolist() == [3, 3]
    assert test.labels.bincount().tolist() == [2, 2]
    again = open_folder(root, size=8, train_limit=6, test_limit=4, seed=1, **how).train
    assert [again.name(i) for i in range(6)] == [train.name(i) for i in range(6)]
    with pytest.raises(WhatwhereError, match="train_limit=1 leaves some of the 2 classes"):
        open_folder(root, train_limit=1, **how)


def refuse(root: Path, message: str) -> None:
    for how in (NOW, LATER):
        with pytest.raises(WhatwhereError, match=message):
            open_folder(root, size=8, **how)


def test_folders_that_cannot_be_trained_on(folder: Write, tmp_path: Path) -> None:
    refuse(tmp_path / "none", "there is no folder .*none; expected DIR/train/CLASS")
    root = folder(train={"a": 2, "b": 2}, val={"a": 1, "b": 1})
    shutil.move(root / "val", root / "validation")
    refuse(root, "has no folder val/ or test/, it has train, validation; expected")
    shutil.move(root / "validation", root / "val")
    shutil.move(root / "train", root / "training")
    refuse(root, "has no folder train/, it has")
    refuse(root / "val", "has no folder train/ or val/")
    shutil.move(root / "training", root / "train")
    shutil.rmtree(root / "val" / "b")
    refuse(root, "val has only one class, 'a'")
    (root / "val" / "bee").mkdir()
    refuse(root, "class 'bee' has no images")
    noise_image().save(root / "val" / "bee" / "x.png")
    refuse(root, "same classes, but 'b' only in train/; 'bee' only in val/")
    shutil.rmtree(root / "val" / "bee")
    shutil.rmtree(root / "val" / "a")
    refuse(root, "val has no classes: put")


def test_a_class_that_is_all_broken(folder: Write) -> None:
    root = folder(train={"a": 2, "b": 2}, val={"a": 2, "b": 2})
    for file in (root / "val" / "b").iterdir():
        file.write_bytes(b"")
    refuse(root, r"class 'b' has no image that can be read: all 2 tried in .*val.b are broken, .*empty file")


@pytest.mark.parametrize("options", [{"size": 0}, {"default_size": -3}, {"train_limit": 0}, {"test_limit": -1}])
def test_numbers_that_make_no_sense(folder: Write, options: dict[str, int]) -> None:
    root = folder(train={"a": 1, "b": 1}, val={"a": 1, "b": 1})
    with pytest.raises(WhatwhereError, match=f"{next(iter(options))} must be at least 1"):
        open_folder(root, **options, **NOW)
