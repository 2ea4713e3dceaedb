import pytest

from whatwhere.data import EpochBatches
from whatwhere.training.batches import Shard, loader, mix


def test_mix_depends_on_every_part():
    seeds = [mix("step", 0, 1, 2, 3), mix("step", 0, 1, 3, 2), mix("augment", 0, 1, 2, 3), mix("step", 0, 12, 3)]
    assert len(set(seeds)) == 4
    assert mix("step", 0, 1, 2, 3) == seeds[0]
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(("n", "processes"), [(21, 2), (3, 4), (16, 4), (17, 1)])
def test_shards_cover_every_image_once_and_stay_in_step(n, processes):
    shards = [list(Shard(EpochBatches(n, 8, shuffle=False), rank, processes)) for rank in range(processes)]
    assert len({len(shard) for shard in shards}) == 1
    assert sorted(i for shard in shards for batch in shard for i in batch) == list(range(n))


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_keeps_order_and_reports_each_broken_image_once(toy, workers):
    images = toy(n=12, broken=(1, 4, 5, 6, 7)).train_set
    loaded = list(loader(images, Shard(EpochBatches(12, 4, shuffle=False)), workers))
    assert [None if item.batch is None else item.batch["index"].tolist() for item in loaded] == [
        [0, 2, 3],
        [],
        [8, 9, 10, 11],
    ]
    assert [item.size for item in loaded] == [3, 0, 4]
    assert sorted(b.path for item in loaded for b in item.broken) == [f"blob {i}" for i in (1, 4, 5, 6, 7)]
