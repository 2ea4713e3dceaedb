import torch
from torch import nn

import whatwhere as ww
from whatwhere.cost import count_multiply_adds, count_parameters, measure_costs


def a_network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )


def test_counts_by_hand():
    assert count_parameters(a_network()) == 3 * 8 * 9 + 8 + 8 * 4 + 4
    assert count_multiply_adds(a_network(), (3, 10, 12)) == 3 * 8 * 9 * 10 * 12 + 8 * 4


def test_measures_every_network_and_leaves_them_alone():
    plain = a_network().train()
    attended = nn.Sequential(plain[0], ww.CBAM(8), *a_network()[1:])
    before = {k: v.clone() for k, v in attended.state_dict().items()}
    rounds = []
    costs = measure_costs(
        {"plain": plain, "cbam": attended},
        torch.randn(16, 3, 24, 24),
        16,
        device="cpu",
        seconds=0.02,
        on_round=lambda: rounds.append(1),
    )
    assert plain.training
    assert all(v.equal(before[k]) for k, v in attended.state_dict().items())
    for cost in costs.values():
        assert 0 < cost.step.low <= cost.step.median <= cost.step.high
        assert 0 < cost.inference.low <= cost.inference.median <= cost.inference.high
        assert cost.step.rounds >= 5
        assert cost.batch_size == 16
    assert costs["cbam"].parameters == count_parameters(attended)
    assert costs["cbam"].multiply_adds > costs["plain"].multiply_adds
    assert len(rounds) == costs["cbam"].step.rounds + costs["cbam"].inference.rounds


def test_memory_counts_what_is_kept_for_the_backward_pass():
    one_map = 16 * 8 * 24 * 24 * 4
    memory = {}
    for n in (1, 5):
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), *(nn.Sigmoid() for _ in range(n)), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        memory[n] = measure_costs({"a": network}, torch.randn(16, 3, 24, 24), 16, device="cpu", seconds=0.01)[
            "a"
        ].memory
    assert 3.5 * one_map < memory[5] - memory[1] < 4.5 * one_map
