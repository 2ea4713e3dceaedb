"""Inserting attention into a network, and removing it again."""

import warnings
from typing import Any

from torch import nn

from ..cost.counts import count_multiply_adds, count_parameters
from ..errors import WhatwhereError
from ..graph.wrappers import check_model, refuse_wrapped
from ..layers import create, entry
from ..placement.find import find
from ..placement.site import At, Stages
from .attach import attach, attached_side, detach, has_lost_hook, replaced_attentions
from .convolutions import CONVOLUTION
from .report import InsertedSite, InsertReport


def insert(
    model: nn.Module,
    name: str,
    at: At | None = None,
    *,
    stages: Stages | None = None,
    identity: bool = True,
    example: Any = None,
    **options: Any,
) -> InsertReport:
    """Put attention into a network, in place.

    Every parameter that the network had keeps its key; the new ones are called ``<module>.attention.*``. With
    ``identity=True`` every attention returns its input exactly at the start (every gate is 1), so the output is what it
    was. On an error the network is as it was.

    The hooks live on modules: convert to ``SyncBatchNorm`` *before* inserting (the conversion replaces modules and
    loses their hooks; :func:`attentions` then raises), and insert before ``torch.compile`` and before wrapping in
    ``DistributedDataParallel``.

    Args:
        model: the network.
        name: one of :func:`whatwhere.names`.
        at: which sites: a glob over the sites of :func:`sites` or over module names, such as ``"layer4.*"``;
            ``"residual"``, ``"stage"`` or ``"norm"``; a list of these or of sites; or a function of a site. By default
            all sites. See :func:`sites`.
        stages: which stages, counted from 0 for the largest map or negative from the end, such as ``(-2, -1)``.
        identity: start as the exact identity; False gives the paper's form.
        example: a tensor (or tuple of arguments) to run the network on once, see :func:`sites`.
        options: options of the attention, such as ``reduction=8``.

    Returns:
        What was put where, with parameters and multiply-adds; ``print`` it for a table.

    Raises:
        WhatwhereError: unknown name or option, no site found, none that ``at`` and ``stages`` choose, a site that has
            attention already, an attention that has no exact identity where ``identity=True``, one that replaces a
            convolution (see :func:`replace`).

    Example:
        >>> import torchvision, whatwhere as ww
        >>> model = torchvision.models.resnet18()
        >>> len(ww.insert(model, "cbam", at="layer4.*").inserted)
        2
    """
    name = entry(name).name
    if entry(name).replaces:
        raise WhatwhereError(
            f"{name!r} replaces a 3×3 convolution, and has no place behind a module: "
            f"whatwhere.replace(model, {CONVOLUTION!r}, {name!r}, at=...)"
        )
    if identity and not entry(name).exact_identity:
        raise WhatwhereError(
            f"{name!r} changes its input from the start, so the network's output would change: say identity=False to "
            "insert it all the same"
        )
    refuse_wrapped(model)
    chosen = find(model, example, at, stages)
    taken = [site.module for site in chosen if attached_side(model.get_submodule(site.module)) is not None]
    if taken:
        raise WhatwhereError(
            f"there is attention already at {', '.join(taken)}: whatwhere.remove(model) first, or "
            "choose other sites with at="
        )
    made, inserted, counted = [], [], dict[tuple[int, tuple[int, int]], int]()
    for site in chosen:
        attention = create(name, site.channels, identity=identity, device=site.device, dtype=site.dtype, **options)
        cost = (site.channels, site.size)
        if cost not in counted:
            counted[cost] = count_multiply_adds(attention, (site.channels, *site.size))
        made.append(attention)
        inserted.append(
            InsertedSite(
                site.module, site.kind, name, site.channels, site.size, count_parameters(attention), counted[cost]
            )
        )
    for site, attention in zip(chosen, made, strict=True):
        module = model.get_submodule(site.module)
        attach(module, attention.train(module.training), site.side)
    return InsertReport(inserted)


def remove(model: nn.Module) -> int:
    """Take out everything that :func:`insert` put in, and return how many there were.

    The network's output is then bit for bit what it was before; weights that were trained in between stay as they are
    now. Attention that is part of the network's own code is left alone. So is attention that :func:`replace` put in the
    place of the network's own modules, which are not kept: a warning names it.

    Example:
        >>> import torchvision, whatwhere as ww
        >>> model = torchvision.models.resnet18()
        >>> report = ww.insert(model, "se")
        >>> ww.remove(model)
        8
    """
    check_model(model)
    modules = [module for module in model.modules() if attached_side(module) is not None or has_lost_hook(module)]
    for module in modules:
        detach(module)
    if left := replaced_attentions(model):
        some = ", ".join(f"{name} (was {what})" for name, what in list(left.items())[:5])
        warnings.warn(
            f"what whatwhere.replace put in the place of the network's own modules stays, because these were not kept: "
            f"{some}{', …' if len(left) > 5 else ''}. To have them back, build the network again",
            stacklevel=2,
        )
    return len(modules)
