import pytest
import torch
from torch import Tensor

from whatwhere.data import augment_detection
from whatwhere.errors import WhatwhereError

Batch = tuple[list[Tensor], list[Tensor], list[Tensor]]


def batch(count: int = 6, height: int = 48, width: int = 64, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = [torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator) for _ in range(count)]
    corners = [torch.rand(5, 4, generator=generator) * torch.tensor([30.0, 20.0, 30.0, 25.0]) for _ in range(count)]
    boxes = [torch.cat([c[:, :2], c[:, :2] + 3 + c[:, 2:]], 1) for c in corners]
    limit = torch.tensor([width, height, width, height], dtype=torch.float32)
    return images, [torch.minimum(b, limit) for b in boxes], [torch.arange(5) for _ in range(count)]


def light(parts: Batch, seed: int, *, flip: bool = True) -> Batch:
    return augment_detection(*parts, "light", flip=flip, generator=torch.Generator().manual_seed(seed))


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(x, y) for one, two in zip(a, b, strict=True) for x, y in zip(one, two, strict=True))


def test_the_state_of_the_generator_says_everything() -> None:
    parts = batch()
    first = light(parts, 3)
    torch.manual_seed(99)
    torch.rand(7)
    assert same(first, light(parts, 3))
    assert [image.shape for image in first[0]] != [image.shape for image in light(parts, 4)[0]]
    generator = torch.Generator().manual_seed(3)
    once, again = (augment_detection(*parts, "light", flip=True, generator=generator) for _ in range(2))
    assert same(first, once)
    assert not same(once, again)


def test_torchs_own_random_numbers_stay_as_they_are() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    light(batch(), 1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_is_given_stays_as_it_is() -> None:
    parts = batch()
    copy: Batch = tuple([one.clone() for one in part] for part in parts)  # type: ignore[assignment]
    light(parts, 1)
    assert same(parts, copy)


@pytest.mark.parametrize(
    ("height", "width"),
    [
        (48, 64),
        (64, 48),
        (64, 64),
        (1, 64),
        (64, 3),
    ],
)
def test_shapes_types_and_boxes(height: int, width: int) -> None:
    parts = batch(12, height, width)
    parts = (parts[0], [b.clamp(max=torch.tensor([width, height] * 2)) for b in parts[1]], parts[2])
    shapes = set()
    for seed in range(6):
        for image, boxes, labels in zip(*light(parts, seed), strict=True):
            assert image.dtype == torch.uint8
            assert type(image) is type(boxes) is type(labels) is Tensor
            assert image.shape[0] == 3
            assert 1 <= image.shape[1] <= height
            assert 1 <= image.shape[2] <= width
            assert boxes.shape == (len(labels), 4)
            limit = torch.tensor([image.shape[2], image.shape[1]] * 2)
            assert bool((boxes >= 0).all() and (boxes <= limit + 1e-3).all())
            assert bool((boxes[:, 2:] - boxes[:, :2] >= 1).all())
            shapes.add(tuple(image.shape))
    assert len(shapes) > 1


def marked(height: int = 96, width: int = 128) -> Batch:
    """A black image with one white rectangle, and its box."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[:, 30:70, 40:60] = 255
    return [image], [torch.tensor([[40.0, 30.0, 60.0, 70.0]])], [torch.tensor([1])]


def test_boxes_stay_on_their_objects() -> None:
    mirrored = set()
    for seed in range(40):
        (image,), (boxes,), _ = light(marked(), seed)
        white = (image[0] > 100).nonzero()
        found = torch.tensor([white[:, 1].min(), white[:, 0].min(), white[:, 1].max() + 1, white[:, 0].max() + 1])
        assert torch.allclose(boxes[0], found.float(), atol=1.5), seed
        mirrored.add(bool(boxes[0, 0] > 64))
    assert mirrored == {False, True}


@pytest.mark.parametrize(
    ("height", "width"),
    [
        (96, 96),
        (96, 128),
        (128, 96),
    ],
)
def test_scales_lie_around_1(height: int, width: int) -> None:
    image, box = torch.zeros(3, height, width, dtype=torch.uint8), torch.tensor([[40.0, 40.0, 60.0, 60.0]])
    _, boxes, _ = light(([image] * 200, [box] * 200, [torch.tensor([0])] * 200), 0)
    scales = torch.cat([(one[:, 2] - one[:, 0]) / 20 for one in boxes])
    assert 0.72 <= float(scales.min()) <= 0.80
    assert 1.26 <= float(scales.max()) <= 1.36


def test_without_flip_nothing_is_mirrored() -> None:
    for seed in range(30):
        (image,), _, _ = light(
            (
                [torch.tensor([0, 255], dtype=torch.uint8).repeat_interleave(32).expand(3, 64, 64)],
                [torch.zeros(0, 4)],
                [torch.zeros(0, dtype=torch.int64)],
            ),
            seed,
            flip=False,
        )
        assert float(image[0, :, :4].float().mean()) < float(image[0, :, -4:].float().mean())


def test_boxes_that_are_nearly_cut_off_go_with_their_labels() -> None:
    corner = torch.tensor([[0.0, 0.0, 14.0, 14.0], [20.0, 20.0, 44.0, 44.0]])
    images = [torch.zeros(3, 64, 64, dtype=torch.uint8)] * 60
    _, boxes, labels = light((images, [corner] * 60, [torch.tensor([7, 8])] * 60), 0, flip=False)
    counts = {tuple(one.tolist()) for one in labels}
    assert counts == {(7, 8), (8,)}
    assert all(len(b) == len(n) for b, n in zip(boxes, labels, strict=True))


def test_tiny_boxes_go() -> None:
    images, tiny = [torch.zeros(3, 64, 64, dtype=torch.uint8)] * 8, torch.tensor([[30.0, 30.0, 30.5, 50.0]])
    _, boxes, labels = light((images, [tiny] * 8, [torch.tensor([0])] * 8), 0)
    assert [len(one) for one in boxes] == [len(one) for one in labels] == [0] * 8


def test_images_without_boxes_and_empty_batches() -> None:
    nothing = ([torch.zeros(3, 40, 64, dtype=torch.uint8)], [torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.int64)])
    _, boxes, labels = light(nothing, 0)
    assert (boxes[0].shape, labels[0].shape) == ((0, 4), (0,))
    assert light(([], [], []), 0) == ([], [], [])


def test_none_and_what_is_refused() -> None:
    parts = batch()
    generator = torch.Generator()
    before = generator.get_state()
    assert same(augment_detection(*parts, "none", flip=True, generator=generator), parts)
    assert torch.equal(before, generator.get_state())
    with pytest.raises(WhatwhereError, match="got 'lihgt'; did you mean 'light'"):
        augment_detection(*parts, "lihgt", flip=True, generator=generator)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu_the_same_is_drawn() -> None:
    parts = batch()
    there: Batch = tuple([one.cuda() for one in part] for part in parts)  # type: ignore[assignment]
    for here, far in zip(light(parts, 3)[1], light(there, 3)[1], strict=True):
        assert far.is_cuda
        assert torch.allclose(here, far.cpu(), atol=1e-3)
