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


item_lengths = st.lists(st.integers(1, 12), max_size=200)


@given(item_lengths, sizes, small, small)
def test_batches_are_of_neighbouring_lengths(each: list[int], size: int, seed: int, epoch: int) -> None:
    batches = list(EpochBatches(len(each), size, seed=seed, epoch=epoch, lengths=each))
    assert sorted(itertools.chain(*batches)) == list(range(len(each)))
    assert len(batches) == -(-len(each) // size)
    assert sum(len(batch) < size for batch in batches) <= 1
    of_batches = sorted([each[item] for item in batch] for batch in batches)
    for one, following in itertools.pairwise(sorted(of_batches, key=lambda found: (min(found), max(found)))):
        assert max(one) <= min(following)  # what is between two lengths of a batch is in this batch


@given(st.dictionaries(st.integers(1, 20), st.integers(1, 5), min_size=1), st.integers(1, 6), small)
def test_batches_are_of_one_length_where_items_fill_them(counts: dict[int, int], size: int, seed: int) -> None:
    each = [length for length, count in counts.items() for _ in range(count * size)]
    batches = list(EpochBatches(len(each), size, seed=seed, lengths=each))
    assert all(len({each[item] for item in batch}) == 1 for batch in batches)


@given(item_lengths, sizes, small, small, st.data())
def test_a_resumed_epoch_by_length_is_the_rest_of_the_whole_one(
    each: list[int], size: int, seed: int, epoch: int, data: st.DataObject
) -> None:
    drop = len(each) >= size and data.draw(st.booleans())
    whole = list(EpochBatches(len(each), size, seed=seed, epoch=epoch, lengths=each, drop_last=drop))
    start = data.draw(st.integers(0, len(whole)))
    rest = EpochBatches(len(each), size, seed=seed, lengths=torch.tensor(each), drop_last=drop)
    list(rest)
    torch.manual_seed(seed + 1)
    rest.set_epoch(epoch, start)
    assert len(rest) == len(whole) - start
    assert list(rest) == list(rest) == whole[start:]


@given(st.lists(st.integers(1, 12), min_size=10, max_size=100), st.integers(1, 10), small)
def test_drop_last_leaves_out_as_few_items_as_without_lengths(each: list[int], size: int, seed: int) -> None:
    batches = list(EpochBatches(len(each), size, seed=seed, drop_last=True, lengths=each))
    used = list(itertools.chain(*batches))
    assert len(used) == len(set(used)) == len(each) // size * size
    assert {len(batch) for batch in batches} == {size}


def test_what_drop_last_leaves_out_is_drawn_and_not_the_longest() -> None:
    each = list(range(23))
    out = [
        set(each) - set(itertools.chain(*EpochBatches(23, 5, epoch=epoch, drop_last=True, lengths=each)))
        for epoch in range(60)
    ]
    assert all(len(one) == 3 for one in out)
    assert set().union(*out) == set(each)


def test_the_order_of_batches_is_shuffled_and_so_are_items_of_one_length() -> None:
    each = [1 + item // 10 for item in range(100)]
    epochs = [list(EpochBatches(100, 10, epoch=epoch, lengths=each)) for epoch in range(20)]
    assert len({tuple(each[batch[0]] for batch in batches) for batches in epochs}) == 20
    assert len({each[batches[0][0]] for batches in epochs}) > 5
    assert len({tuple(next(batch for batch in batches if 0 in batch)) for batches in epochs}) == 20


def test_batches_by_length_differ_by_seed() -> None:
    orders = {str(list(EpochBatches(40, 4, seed=s, epoch=e, lengths=[1] * 40))) for s in range(5) for e in range(5)}
    assert len(orders) == 25


def test_lengths_change_nothing_without_shuffling() -> None:
    assert list(EpochBatches(5, 2, shuffle=False, lengths=[5, 4, 3, 2, 1])) == [[0, 1], [2, 3], [4]]


def test_one_length_for_each_item() -> None:
    for each in ([1, 2], [1, 2, 3, 4]):
        with pytest.raises(WhatwhereError, match=rf"one number for each of the 3 items, it has {len(each)}"):
            EpochBatches(3, 1, lengths=each)
    assert list(EpochBatches(0, 3, lengths=[])) == []
