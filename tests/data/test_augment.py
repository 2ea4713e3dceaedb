import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from whatwhere.data import augment
from whatwhere.data.augment import Moves, draw_moves, move
from whatwhere.errors import WhatwhereError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def reference(image: torch.Tensor, down: int, right: int, mirror: bool) -> torch.Tensor:
    """Pad and crop, with PyTorch's own reflection."""
    image = image.flip(-1) if mirror else image
    height, width = image.shape[-2:]
    v, h = height // 8, width // 8
    padded = torch.nn.functional.pad(image[None].double(), (h, h, v, v), mode="reflect")[0]
    return padded[:, v - down : v - down + height, h - right : h - right + width].to(image.dtype)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(9, 3, 16, 24), (5, 1, 33, 17), (2, 3, 48, 48)])
def test_light_equals_pad_and_crop(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    images = torch.randint(0, 256, shape, generator=generator(1)).to(dtype)
    moves = draw_moves(shape[0], *shape[2:], flip=True, generator=generator(2))
    moved = move(images, moves)
    assert moved.dtype == dtype
    for i, (down, right, mirror) in enumerate(zip(*(part.tolist() for part in moves), strict=True)):
        assert torch.equal(moved[i], reference(images[i], down, right, mirror))
    assert torch.equal(moved, augment(images, "light", flip=True, generator=generator(2)))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99), st.booleans())
def test_every_pixel_comes_from_its_own_image(height: int, width: int, seed: int, flip: bool) -> None:
    images = torch.stack([torch.full((3, height, width), value, dtype=torch.uint8) for value in (3, 200)])
    assert torch.equal(augment(images, "light", flip=flip, generator=generator(seed)), images)


def test_shifts_reach_an_eighth_either_way_and_no_farther() -> None:
    moves = draw_moves(4000, 48, 64, flip=False, generator=generator())
    assert sorted(set(moves.down.tolist())) == list(range(-6, 7))
    assert sorted(set(moves.right.tolist())) == list(range(-8, 9))
    assert not moves.mirror.any()


def test_flip_mirrors_half_of_them_and_changes_nothing_else() -> None:
    plain, flipped = (draw_moves(4000, 48, 48, flip=flip, generator=generator()) for flip in (False, True))
    assert 0.45 < flipped.mirror.float().mean() < 0.55
    assert torch.equal(plain.down, flipped.down)
    assert torch.equal(plain.right, flipped.right)


def test_no_move_is_the_same_image() -> None:
    images = torch.rand(2, 3, 5, 7)
    nothing = torch.zeros(2, dtype=torch.int64)
    assert torch.equal(move(images, Moves(nothing, nothing, nothing.bool())), images)
    twice = Moves(nothing, nothing, torch.ones(2, dtype=torch.bool))
    assert torch.equal(move(move(images, twice), twice), images)


def test_chance_comes_from_the_generator_alone() -> None:
    images = torch.rand(8, 3, 32, 32)
    torch.manual_seed(1)
    one = augment(images, "light", flip=True, generator=generator(5))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    other = augment(images, "light", flip=True, generator=generator(5))
    assert torch.equal(one, other)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(one, augment(images, "light", flip=True, generator=generator(6)))


def test_empty_and_channels_last_batches() -> None:
    assert augment(torch.empty(0, 3, 8, 8), "light", flip=True, generator=generator()).shape == (0, 3, 8, 8)
    images = torch.rand(4, 3, 16, 16)
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(*(augment(x, "light", flip=True, generator=generator()) for x in (images, last)))


def test_none_gives_the_images_and_draws_nothing() -> None:
    images, chance = torch.rand(2, 3, 8, 8), generator()
    before = chance.get_state()
    assert augment(images, "none", flip=True, generator=chance) is images
    assert torch.equal(before, chance.get_state())


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(WhatwhereError, match=r"light, none, got 'ligth'; did you mean 'light'"):
        augment(torch.rand(1, 3, 8, 8), "ligth", flip=True, generator=generator())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_every_device_moves_the_same() -> None:
    images = torch.randint(0, 256, (16, 3, 48, 48), dtype=torch.uint8)
    here = augment(images, "light", flip=True, generator=generator())
    there = augment(images.cuda(), "light", flip=True, generator=generator())
    assert torch.equal(here, there.cpu())
    with pytest.raises(WhatwhereError, match="CPU generator"):
        augment(images.cuda(), "light", flip=True, generator=torch.Generator("cuda"))
