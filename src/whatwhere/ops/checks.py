"""What the ops accept. It is checked before a backend is chosen, so that every backend answers alike."""

from collections.abc import Iterable, Sequence

from torch import Tensor

from ..errors import WhatwhereError, closest

_FORMS = {
    "channel": "(N, C, 1, 1)",
    "spatial": "(N, 1, H, W)",
    "full": "(N, C, H, W)",
    "residual": "(N, C, H, W)",
}


def check_map(x: Tensor) -> None:
    """Raise unless ``x`` has four axes."""
    if x.dim() != 4:
        raise WhatwhereError(f"a map is (N, C, H, W), got a tensor of shape {tuple(x.shape)}")


def check_beside(name: str, other: Tensor | None, x: Tensor) -> None:
    """Raise unless ``other``, the gate or residual called ``name``, goes with the map ``x``.

    Each of its four sizes has to be that of its form or 1, which is repeated.
    """
    if other is None:
        return
    n, c, h, w = x.shape
    wanted = (n, 1 if name == "spatial" else c, *((1, 1) if name == "channel" else (h, w)))
    if other.shape != wanted and not _spreads(other, wanted):
        raise WhatwhereError(
            f"{name} has shape {tuple(other.shape)}, for a map of shape {tuple(x.shape)}: "
            f"{name} is {_FORMS[name]}, here {wanted}; a size of 1 is repeated"
        )
    if other.device != x.device:
        raise WhatwhereError(f"the map is on {x.device} and {name} on {other.device}: move one of them")


def check_pools(pools: Sequence[str], known: Iterable[str]) -> None:
    """Raise unless ``pools`` names at least one pool, and known ones only."""
    for pool in pools:
        if pool not in known:
            raise WhatwhereError(
                f"unknown pool {pool!r} in pools={pools!r}: any of {', '.join(known)}{closest(str(pool), known)}"
            )
    if isinstance(pools, str) or not pools:
        raise WhatwhereError(f"pools={pools!r}: a sequence of at least one of {', '.join(known)}")


def check_filter(maps: Tensor, weight: Tensor) -> None:
    """Raise unless ``weight`` is ``(O, P, k, k)`` with odd k for ``maps`` ``(N, P, H, W)``."""
    check_map(maps)
    fits = weight.dim() == 4 and weight.shape[1] == maps.shape[1]
    if not fits or weight.shape[2] != weight.shape[3] or weight.shape[2] % 2 == 0:
        raise WhatwhereError(
            f"weight has shape {tuple(weight.shape)}, for maps of shape {tuple(maps.shape)}: "
            f"weight is (O, P, k, k) with odd k and P = {maps.shape[1]}"
        )
    if weight.device != maps.device:
        raise WhatwhereError(f"the maps are on {maps.device} and weight on {weight.device}: move one of them")


def _spreads(other: Tensor, wanted: tuple[int, ...]) -> bool:
    """Whether a tensor of four axes can be repeated to a shape."""
    return other.dim() == 4 and all(size == most or size == 1 for size, most in zip(other.shape, wanted, strict=True))
