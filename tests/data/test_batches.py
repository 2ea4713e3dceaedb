import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from whatwhere.data import EpochBatches, MemoryDataset
from whatwhere.errors import WhatwhereError

lengths = st.integers(0, 300)
sizes = st.integers(1, 40)
small = st.integers(0, 1000)


@given(lengths, sizes, small, small)
def test_every_image_comes_once_an_epoch(length: int, size: int, seed: int, epoch: int) -> None:
    batches = list(EpochBatches(length, size, seed=seed, epoch=epoch))
    assert sorted(itertools.chain(*batches)) == list(range(length))
    assert all(len(batch) == size for batch in batches[:-1])
    assert len(batches) == len(EpochBatches(length, size, seed=seed, epoch=epoch))


@given(lengths, sizes, small, small, st.data())
def test_a_resumed_epoch_is_the_rest_of_the_whole_one(
    length: int, size: int, seed: int, epoch: int, data: st.DataObject
) -> None:
    whole = list(EpochBatches(length, size, seed=seed, epoch=epoch))
    start = data.draw(st.integers(0, len(whole)))
    rest = EpochBatches(length, size, seed=seed)
    list(rest)  # what was iterated before leaves no trace
    torch.manual_seed(seed + 1)
    rest.set_epoch(epoch, start)
    assert len(rest) == len(whole) - start
    assert list(rest) == list(rest) == whole[start:]


@given(lengths, sizes, small)
def test_drop_last_leaves_out_only_what_is_not_full(length: int, size: int, seed: int) -> None:
    if 0 < length < size:
        with pytest.raises(WhatwhereError, match="do not fill a batch"):
            EpochBatches(length, size, drop_last=True)
        return
    whole, full = (list(EpochBatches(length, size, seed=seed, drop_last=drop)) for drop in (False, True))
    assert full == [batch for batch in whole if len(batch) == size]


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(next(iter(EpochBatches(200, 200, seed=s, epoch=e)))) for s in range(5) for e in range(5)}
    assert len(orders) == 25


def test_without_shuffling_the_order_is_the_sets() -> None:
    assert list(EpochBatches(5, 2, shuffle=False, epoch=3)) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 0}, {"length": -1}, {"seed": -1}, {"epoch": -1}, {"start": 4}, {"start": -1}],
)
def test_what_makes_no_sense_is_an_error(options: dict[str, int]) -> None:
    with pytest.raises(WhatwhereError):
        EpochBatches(**{"length": 5, "batch_size": 2, **options})


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_loader_takes_it(workers: int) -> None:
    images = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 3, 4, 4).contiguous()
    dataset = MemoryDataset(images, ["even", "odd"], torch.arange(10) % 2)
    loader = DataLoader(
        dataset, batch_sampler=EpochBatches(10, 4, seed=3), collate_fn=lambda batch: batch, num_workers=workers
    )
    batches = list(loader)
    assert [batch["index"].tolist() for batch in batches] == list(EpochBatches(10, 4, seed=3))
    for batch in batches:
        assert torch.equal(batch["images"][:, 0, 0, 0].long(), batch["index"])
        assert torch.equal(batch["labels"], batch["index"] % 2)
