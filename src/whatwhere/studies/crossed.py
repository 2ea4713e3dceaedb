"""The interval of a difference for other seeds and other test images, from scores of single images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..training.folder import RunFolder
from .statistics import FEWEST, Interval, Numbers, t_quantile


def crossed_interval(scores: NDArray[np.floating], level: float = 0.95, step: float = 0.0) -> Interval | None:
    r"""Return the mean with an interval that holds for other seeds *and* other test images of the same kind.

    Seeds and images are crossed random effects: every seed is measured on the same images. With the mean squares of
    seeds, of images and of the rest, :math:`\mathrm{var} = (M_S + \max(M_I - M_{SI}, 0)) / (SI)`, and Student's t has
    :math:`(S-1)\,((M_S + \max(M_I - M_{SI}, 0)) / M_S)^2` degrees of freedom. This is the analysis of studies with
    several readers and cases, with seeds as the readers. Percentiles of a crossed bootstrap, the other way, hold the
    true difference too seldom with three to six seeds that scatter, and too often where they do not, because they count
    the rest three times (Owen, Annals of Applied Statistics 1, 2007); a simulation in the tests compares the two.

    Args:
        scores: differences of the two networks ``(S, I)``, seeds by images.
        level: as in :func:`whatwhere.studies.interval`.
        step: the smallest change that a mean over images can show.

    Returns:
        The interval, never narrower than the one for other seeds on the same images; None below three seeds or two
        images.

    References: Dorfman, Berbaum and Metz, Investigative Radiology 27 (1992); Hillis, Statistics in Medicine 26 (2007).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> found = crossed_interval(rng.normal(size=(4, 1)) + 5 * rng.normal(size=(1, 100)))
        >>> found.n, bool(found.low < 0 < found.high)
        (4, True)
    """
    x = np.asarray(scores, dtype=np.float64)
    seeds, images = x.shape
    if seeds < FEWEST or images < 2:
        return None
    mean = float(x.mean())
    by_seed, by_image = x.mean(1), x.mean(0)
    of_seeds = images * max(float(by_seed.var(ddof=1)), step**2 / 6)
    of_images = seeds * float(by_image.var(ddof=1))
    rest = float(((x - by_seed[:, None] - by_image + mean) ** 2).sum()) / ((seeds - 1) * (images - 1))
    total = of_seeds + max(of_images - rest, 0.0)
    if of_seeds <= 1e-24 * max(images, total):
        return None
    degrees = (seeds - 1) * (total / of_seeds) ** 2
    half = t_quantile((1 + level) / 2, degrees) * (total / (seeds * images)) ** 0.5
    alone = t_quantile((1 + level) / 2, seeds - 1) * (of_seeds / (seeds * images)) ** 0.5
    half = max(half, alone)
    return Interval(mean, mean - half, mean + half, seeds)


class ImageScores:
    """The scores of single test images that finished runs left in their folders, seeds by images.

    Args:
        folders: of each arm the folders of its finished runs, by seed.
        scale: what a score is multiplied by, as the headline metric is.
    """

    def __init__(self, folders: Mapping[str, Mapping[int, Path]], scale: float) -> None:
        self.scale = scale
        self.found: dict[str, dict[int, dict[str, Numbers]]] = {
            arm: {seed: found for seed, path in by_seed.items() if (found := RunFolder(path).read_scores()) is not None}
            for arm, by_seed in folders.items()
        }

    @property
    def step(self) -> float:
        """What one image more that is right changes in a mean; 0 where scores are not only 0 and 1, or not there."""
        tables = [found for by_seed in self.found.values() for found in by_seed.values()]
        if not tables or not all(np.isin(found["score"], (0, 1)).all() for found in tables):
            return 0.0
        return self.scale / max(1, min(len(found["score"]) for found in tables))

    def differences(self, arm: str, baseline: str, seeds: Sequence[int]) -> Numbers | None:
        """Return the differences ``(S, I)`` on the images that all these runs could read; None if one has no scores."""
        sides = [self.found.get(name, {}) for name in (arm, baseline)]
        if not seeds or any(seed not in side for side in sides for seed in seeds):
            return None
        tables = [side[seed] for side in sides for seed in seeds]
        common = tables[0]["index"]
        for table in tables[1:]:
            common = np.intersect1d(common, table["index"])
        rows = [table["score"][np.searchsorted(table["index"], common)] for table in tables]
        return self.scale * (np.stack(rows[: len(seeds)]) - np.stack(rows[len(seeds) :]))
