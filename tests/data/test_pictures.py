import pytest
import torch

from whatwhere.data import Broken, MemoryPictures


@pytest.fixture
def pictures() -> MemoryPictures:
    images = torch.arange(4 * 3 * 2 * 2, dtype=torch.uint8).view(4, 3, 2, 2)
    return MemoryPictures(images, ["a", "b"], torch.tensor([0, 1, 1, 0]), broken=[Broken("x.jpg", "empty file")])


def test_a_batch_has_what_was_asked_for_in_that_order(pictures: MemoryPictures) -> None:
    batch = pictures.__getitems__([3, 1, 3])
    assert batch.keys() == {"images", "labels", "index"}
    assert torch.equal(batch["images"], pictures.images[[3, 1, 3]])
    assert batch["labels"].tolist() == [0, 1, 0]
    assert batch["index"].tolist() == [3, 1, 3]
    assert (batch["images"].dtype, batch["labels"].dtype, batch["index"].dtype) == (
        torch.uint8,
        torch.int64,
        torch.int64,
    )


def test_an_empty_batch(pictures: MemoryPictures) -> None:
    assert pictures.__getitems__([])["images"].shape == (0, 3, 2, 2)


def test_one_picture(pictures: MemoryPictures) -> None:
    assert torch.equal(pictures[-1]["images"], pictures.images[3])
    assert [one["index"].item() for one in pictures] == [0, 1, 2, 3]
    with pytest.raises(IndexError):
        pictures[4]


def test_attributes(pictures: MemoryPictures) -> None:
    assert (len(pictures), pictures.size, pictures.classes, pictures.flip) == (4, 2, ("a", "b"), True)
    assert pictures.broken == [("x.jpg", "empty file")]
    assert (pictures.boxes, pictures.sentences) == (None, None)
    assert pictures.name(2) == "picture 2"
    pictures.broken.clear()
    assert len(pictures.broken) == 1
