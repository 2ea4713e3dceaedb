import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from whatwhere.data import CaptionDataset, CaptionSplits, EpochBatches, Vocabulary
from whatwhere.data.captions.dataset import Described, read_described
from whatwhere.data.captions.scenes import Facts
from whatwhere.data.dataset import Broken
from whatwhere.data.detection.objects import Problem

VOCABULARY = Vocabulary(["a", "dog", "cat", "runs"])
CAPTIONS = (("a dog runs", "a cat"), ("dog",), ("a horse runs a dog", "cat", "a"))
WORDS = [[2, 3, 5, 0], [2, 4, 0], [3, 0], [2, 1, 5, 2, 3, 0], [4, 0], [2, 0]]
SIZE = 8


def written(root: Path, broken: tuple[int, ...] = ()) -> list[Described]:
    """Write three images of one grey each, some of them broken."""
    images = []
    for number, captions in enumerate(CAPTIONS):
        path = root / f"{number}.png"
        Image.new("RGB", (12, 10), (50 * number,) * 3).save(path)
        if number in broken:
            path.write_bytes(b"no image")
        images.append(Described(str(path), captions))
    return images


def in_memory(**options: Any) -> CaptionDataset:
    images = [Described(f"scene {number}", captions) for number, captions in enumerate(CAPTIONS)]
    pixels = (50 * torch.arange(3, dtype=torch.uint8)).view(3, 1, 1, 1).expand(3, 3, SIZE, SIZE).contiguous()
    return CaptionDataset(images, VOCABULARY, SIZE, **{"sentences": True, "pixels": pixels, **options})


def greys(batch: dict[str, Any]) -> list[int]:
    assert batch["images"].shape == (len(batch["index"]), 3, SIZE, SIZE)
    assert batch["images"].dtype == torch.uint8
    return [int(one) // 50 for one in batch["images"].float().mean((1, 2, 3))]


def both(root: Path, **options: Any) -> list[CaptionDataset]:
    return [in_memory(**options), CaptionDataset(written(root), VOCABULARY, SIZE, **{"sentences": True, **options})]


def test_items_are_sentences_with_their_images(tmp_path: Path) -> None:
    for dataset in both(tmp_path):
        assert len(dataset) == 6
        assert dataset.lengths == [len(words) for words in WORDS]
        assert [dataset.image_of(item) for item in range(6)] == [0, 0, 1, 2, 2, 2]
        assert [dataset.caption(item) for item in range(6)] == [one for captions in CAPTIONS for one in captions]
        assert dataset.name(5) == dataset.images[2].path
        batch = dataset.__getitems__([3, 1, 2, 1])
        assert set(batch) == {"index", "images", "words", "lengths"}
        assert batch["index"].tolist() == [3, 1, 2, 1]
        assert greys(batch) == [2, 0, 1, 0]
        assert batch["lengths"].tolist() == [6, 3, 2, 3]
        assert batch["words"].tolist() == [[*WORDS[item], *[0] * (6 - len(WORDS[item]))] for item in (3, 1, 2, 1)]
        assert batch["words"].dtype == batch["lengths"].dtype == batch["index"].dtype == torch.int64


def test_items_are_images_with_all_their_sentences(tmp_path: Path) -> None:
    for dataset in both(tmp_path, sentences=False):
        assert len(dataset) == 3
        assert dataset.lengths is None
        assert [dataset.image_of(item) for item in range(3)] == [0, 1, 2]
        assert dataset.caption(2) == CAPTIONS[2][0]
        batch = dataset.__getitems__([2, 0])
        assert set(batch) == {"index", "images"}
        assert (batch["index"].tolist(), greys(batch)) == ([2, 0], [2, 0])


def test_an_empty_batch(tmp_path: Path) -> None:
    for dataset in both(tmp_path):
        batch = dataset.__getitems__([])
        assert {name: tuple(value.shape) for name, value in batch.items()} == {
            "index": (0,),
            "images": (0, 3, SIZE, SIZE),
            "words": (0, 1),
            "lengths": (0,),
        }


def values(start: int = 0) -> dict[str, Any]:
    maps = np.arange(start, start + 12, dtype=np.float16).reshape(3, 2, 2)
    return {"map": maps, "flat": np.zeros((3, 1), np.float16)}


@pytest.mark.parametrize("mirrored", [False, True])
def test_values_in_place_of_images(mirrored: bool) -> None:
    dataset = in_memory()
    dataset.use_values(values(), values(100) if mirrored else None, [True] * 3)
    assert dataset.broken == []
    batch = dataset.__getitems__([5, 0, 2])
    assert "images" not in batch
    assert batch["values"]["map"].dtype == torch.float16
    assert batch["values"]["map"][:, 0, 0].tolist() == [8, 0, 4]
    assert batch["values"]["flat"].shape == (3, 1)
    assert ("mirrored" in batch) == mirrored
    if mirrored:
        assert batch["mirrored"]["map"][:, 0, 0].tolist() == [108, 100, 104]
    assert batch["lengths"].tolist() == [2, 4, 2]


def test_values_of_images_that_could_not_be_read_are_left_out(tmp_path: Path) -> None:
    dataset = CaptionDataset(written(tmp_path, broken=(1,)), VOCABULARY, SIZE, sentences=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            dataset.use_values(values(), None, np.array([True, False, True]))
    assert [(one.path, one.reason[:12]) for one in dataset.broken] == [(str(tmp_path / "1.png"), "not an image")]
    batch = dataset.__getitems__([2, 4, 2, 0])
    assert batch["index"].tolist() == [4, 0]
    assert batch["values"]["map"][:, 0, 0].tolist() == [8, 0]
    assert batch["words"].tolist() == [[4, 0, 0, 0], [2, 3, 5, 0]]
    empty = dataset.__getitems__([2])
    assert empty["values"]["map"].shape == (0, 2, 2)
    assert empty["words"].shape == (0, 1)


def test_an_image_that_can_be_read_by_now_has_no_values_all_the_same(tmp_path: Path) -> None:
    dataset = CaptionDataset(written(tmp_path), VOCABULARY, SIZE, sentences=False)
    dataset.use_values(values(), None, [True, True, False])
    assert [(Path(one.path).name, one.reason) for one in dataset.broken] == [("2.png", "could not be read at first")]
    assert dataset.__getitems__([2, 1])["index"].tolist() == [1]


def test_values_on_the_disk(tmp_path: Path) -> None:
    np.save(tmp_path / "map.npy", values()["map"])
    dataset = in_memory(sentences=False)
    dataset.use_values({"map": np.load(tmp_path / "map.npy", mmap_mode="r")}, None, np.ones(3, bool))
    found = dataset.__getitems__([2, 1])["values"]["map"]
    assert found.tolist() == values()["map"][[2, 1]].tolist()
    found += 1  # a copy: the file is not written


def test_a_broken_image_leaves_its_batch_and_is_reported_once(tmp_path: Path) -> None:
    dataset = CaptionDataset(written(tmp_path, broken=(1,)), VOCABULARY, SIZE, sentences=True)
    assert dataset.broken == []
    with pytest.warns(RuntimeWarning, match=r"left out a broken image: .*1.png: not an image of a known kind") as seen:
        batch = dataset.__getitems__([2, 4, 0, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = dataset.__getitems__([2])
    assert len(seen) == 1
    assert (batch["index"].tolist(), greys(batch), batch["lengths"].tolist()) == ([4, 0], [2, 0], [2, 4])
    assert again["images"].shape == (0, 3, SIZE, SIZE)
    assert [one.path for one in dataset.broken] == [str(tmp_path / "1.png")]
    assert len(dataset) == 6


def test_what_a_worker_finds_broken_is_known_outside(tmp_path: Path) -> None:
    dataset = CaptionDataset(written(tmp_path, broken=(0,)), VOCABULARY, SIZE, sentences=True)
    order = EpochBatches(len(dataset), 2, lengths=dataset.lengths)
    loader: Any = DataLoader(dataset, batch_sampler=order, collate_fn=lambda batch: batch, num_workers=1)
    found = sorted(item for batch in loader for item in batch["index"].tolist())
    assert found == [2, 3, 4, 5]
    assert [one.path for one in dataset.broken] == [str(tmp_path / "0.png")]


def test_images_that_were_found_broken_before_come_first(tmp_path: Path) -> None:
    dataset = CaptionDataset(
        written(tmp_path, broken=(2,)), VOCABULARY, SIZE, sentences=False, broken=[Broken("before.png", "empty")]
    )
    with pytest.warns(RuntimeWarning):
        dataset.__getitems__([2])
    assert [Path(one.path).name for one in dataset.broken] == ["before.png", "2.png"]


def test_all_images_broken(tmp_path: Path) -> None:
    dataset = CaptionDataset(written(tmp_path, broken=(0, 1, 2)), VOCABULARY, SIZE, sentences=True)
    with pytest.warns(RuntimeWarning) as seen:
        batch = dataset.__getitems__(list(range(6)))
    assert len(seen) == len(dataset.broken) == 3
    assert len(batch["index"]) == len(batch["images"]) == len(batch["words"]) == 0


def test_a_dataset_without_images() -> None:
    dataset = CaptionDataset([], VOCABULARY, SIZE, sentences=True)
    assert (len(dataset), dataset.lengths, dataset.broken) == (0, [], [])


def test_reading_one_image(tmp_path: Path) -> None:
    image = written(tmp_path)[1]
    found = read_described(image, 6)
    assert isinstance(found, torch.Tensor)
    assert found.unique().tolist() == [50]
    (tmp_path / "1.png").unlink()
    assert read_described(image, 6) == "there is no such file"


def test_in_words() -> None:
    train, test = in_memory(problems=[Problem("a", "b", "c")]), in_memory(sentences=False)
    assert train.problems == [Problem("a", "b", "c")]
    assert CaptionSplits(train, test).describe() == (
        "3 images with 6 sentences to learn from; 3 images with 6 sentences to test on; 6 words, end and unknown "
        "included; side 8 pixels"
    )
    facts = Facts(("red", "one"), "left", ("blue", "two"))
    test.images[0] = Described("scene 0", ("a",), facts, unseen=True)
    text = CaptionSplits(train, test).describe()
    assert "5 sentences to test on, 1 of them with a combination that is not learned from;" in text
