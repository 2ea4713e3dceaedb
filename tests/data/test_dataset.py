import pytest
import torch

from whatwhere.data import Broken, MemoryDataset


@pytest.fixture
def dataset() -> MemoryDataset:
    images = torch.arange(4 * 3 * 2 * 2, dtype=torch.uint8).view(4, 3, 2, 2)
    return MemoryDataset(images, ["a", "b"], torch.tensor([0, 1, 1, 0]), broken=[Broken("x.jpg", "empty file")])


def test_a_batch_has_what_was_asked_for_in_that_order(dataset: MemoryDataset) -> None:
    batch = dataset.__getitems__([3, 1, 3])
    assert batch.keys() == {"images", "labels", "index"}
    assert torch.equal(batch["images"], dataset.images[[3, 1, 3]])
    assert batch["labels"].tolist() == [0, 1, 0]
    assert batch["index"].tolist() == [3, 1, 3]
    assert (batch["images"].dtype, batch["labels"].dtype, batch["index"].dtype) == (
        torch.uint8,
        torch.int64,
        torch.int64,
    )


def test_an_empty_batch(dataset: MemoryDataset) -> None:
    assert dataset.__getitems__([])["images"].shape == (0, 3, 2, 2)


def test_one_image(dataset: MemoryDataset) -> None:
    assert torch.equal(dataset[-1]["images"], dataset.images[3])
    assert [one["index"].item() for one in dataset] == [0, 1, 2, 3]
    with pytest.raises(IndexError):
        dataset[4]


def test_attributes(dataset: MemoryDataset) -> None:
    assert (len(dataset), dataset.size, dataset.classes, dataset.flip) == (4, 2, ("a", "b"), True)
    assert dataset.broken == [("x.jpg", "empty file")]
    assert (dataset.boxes, dataset.sentences) == (None, None)
    assert dataset.name(2) == "image 2"
    dataset.broken.clear()
    assert len(dataset.broken) == 1
