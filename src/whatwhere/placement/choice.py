"""Choosing among the sites for attention: what ``at=`` and ``stages=`` mean."""

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import WhatwhereError, closest
from .finder import Finder, Found
from .site import At, Site, Stages

_MANY = 60  # sites that an error lists at most
_ALLOWED = (
    "at= takes a glob over sites or modules such as 'layer4.*', one of 'residual', 'stage' and 'norm', "
    "a list of these or of sites, or a function from a site to True or False"
)


def choose(finder: Finder, at: At | None, stages: Stages | None) -> list[Site]:
    """Return the sites that ``at`` and ``stages`` choose, in order of execution, with their stages numbered.

    Raises:
        WhatwhereError: something that was asked for is not there.
    """
    offered = finder.default
    if at is None:
        if not offered:
            raise WhatwhereError(finder.nothing())
        chosen = offered
    else:
        wishes: list[Any] = list(at) if isinstance(at, Sequence) and not isinstance(at, str) else [at]
        if not wishes:
            raise WhatwhereError(f"at={at!r} chooses nothing: leave it out for all sites. {_ALLOWED}")
        granted = [found for wish in wishes for found in _grant(finder, wish)]
        chosen = list({found[1].module: found for found in reversed(granted)}.values())
    order = _order([*offered, *chosen])
    return _of_stages(_numbered(sorted(chosen, key=lambda found: found[0]), order), order, stages)


def _order(found: Sequence[Found]) -> list[tuple[int, int]]:
    """Return the sizes of sites from the most pixels to the fewest: the position of a size is its stage."""
    return sorted({site.size for _, site in found}, key=lambda size: (-size[0] * size[1], size))


def _numbered(found: Sequence[Found], order: list[tuple[int, int]]) -> list[Site]:
    return [site.in_stage(order.index(site.size)) for _, site in found]


def _grant(finder: Finder, wish: Any) -> list[Found]:
    """Return what one element of ``at`` chooses."""
    if isinstance(wish, Site):
        return [_same(finder, wish)]
    if isinstance(wish, str):
        kinds: dict[str, Callable[[], list[Found]]] = {
            "residual": finder.residual,
            "stage": finder.stage,
            "norm": finder.norm,
        }
        if wish not in kinds:
            return _matching(finder, wish)
        found = kinds[wish]()
        if not found:
            raise WhatwhereError(f"at={wish!r}: {finder.nothing(wish)}")
        return found
    if callable(wish):
        if not finder.default:
            raise WhatwhereError(finder.nothing())
        numbered = _numbered(finder.default, _order(finder.default))
        found = [here for here, site in zip(finder.default, numbered, strict=True) if wish(site)]
        if not found:
            raise WhatwhereError(f"at={wish!r} is true of none of the sites: {_list(_offered(finder))}")
        return found
    raise WhatwhereError(f"at={wish!r} is a {type(wish).__name__}. {_ALLOWED}")


def _matching(finder: Finder, pattern: str) -> list[Found]:
    """Return the sites that match a glob; if none does, the modules that match and return a map."""
    found = [(value, site) for value, site in finder.default if fnmatch.fnmatchcase(site.module, pattern)]
    if found:
        return found
    found, reasons = finder.named(pattern)
    if found:
        return found
    if reasons:
        why = "; ".join(f"{name} {reason}" for name, reason in list(reasons.items())[:5])
        raise WhatwhereError(f"at={pattern!r} matches modules, but attention cannot go there: {why}. {_offer(finder)}")
    near = closest(pattern, [*_offered(finder), *finder.modules])
    raise WhatwhereError(f"no site and no module matches at={pattern!r}. {_offer(finder)}{near}")


def _same(finder: Finder, wish: Site) -> Found:
    """Return the site of this network that is the same as a given one, which may come from another copy of it."""
    for found in (*finder.default, *finder.residual(), *finder.stage()):
        if (found[1].module, found[1].side) == (wish.module, wish.side):
            return found
    named, reasons = finder.named(wish.module) if wish.side == "output" else ([], {})
    if named:
        return named[0]
    reason = f": it {reasons[wish.module]}" if wish.module in reasons else ""
    raise WhatwhereError(
        f"at= names the site {wish.module!r}, which this network does not have{reason}. {_offer(finder)}"
    )


def _of_stages(found: list[Site], order: list[tuple[int, int]], stages: Stages | None) -> list[Site]:
    """Return the sites that are in ``stages``, counted from 0 or, negative, from the end."""
    if stages is None:
        return found
    wanted = [stages] if isinstance(stages, int) else list(stages)
    there = ", ".join(f"{number} ({size[0]}×{size[1]})" for number, size in enumerate(order))
    wrong = [n for n in wanted if not isinstance(n, int) or isinstance(n, bool) or not -len(order) <= n < len(order)]
    if wrong or not wanted:
        what = f"no stage {wrong[0]!r}" if wrong else "that chooses nothing"
        raise WhatwhereError(f"stages={stages!r}: {what}. The stages are {there}; negative numbers count from the end")
    numbers = {number % len(order) for number in wanted}
    kept = [site for site in found if site.stage in numbers]
    if not kept:
        raise WhatwhereError(
            f"stages={stages!r}: none of the chosen sites is there. The stages are {there}; the chosen sites are in "
            f"{', '.join(map(str, sorted({site.stage for site in found})))}"
        )
    return kept


def _offered(finder: Finder) -> list[str]:
    return [site.module for _, site in finder.default]


def _offer(finder: Finder) -> str:
    offered = _offered(finder)
    return f"The sites are: {_list(offered)}" if offered else "No site is found without at="


def _list(modules: list[str]) -> str:
    rest = f", … ({len(modules) - _MANY} more)" if len(modules) > _MANY else ""
    return ", ".join(modules[:_MANY]) + rest
