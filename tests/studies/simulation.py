"""What the simulations of error rates share: simulated studies, and how far a rate may be from the stated one."""

import numpy as np

SIZES = [3000]
UNEQUAL = (1.0, 0.5, 1.0, 3.0, 1.0)  # spreads of plain and of four networks
EQUAL = (1.0,) * 5


def error(rate, draws, width=3.5):
    """Width times the Monte Carlo error of a rate: one correct test in 2,000 fails."""
    return width * (rate * (1 - rate) / draws) ** 0.5


def assert_rate(found, rate, draws):
    """A rate that is as stated."""
    assert abs(found - rate) < error(rate, draws), f"{found:.4f} is not {rate} ± {error(rate, draws):.4f}"


def assert_at_most(found, rate, draws, at_least=0.0):
    """A rate that is kept, and is not far below, so that the test sees a method that never says anything."""
    assert at_least <= found < rate + error(rate, draws), f"{found:.4f} > {rate} + {error(rate, draws):.4f}"


def studies(generator, count, seeds, spreads, effects=(0.0,) * 4, shared=1.0):
    """Differences to plain ``(count, networks, seeds)``: what a seed gives to all, and noise of each network."""
    own = generator.standard_normal((count, len(spreads), seeds)) * np.asarray(spreads)[:, None]
    values = own + shared * generator.standard_normal((count, 1, seeds))
    return values[:, 1:] - values[:, :1] + np.asarray(effects)[:, None]
