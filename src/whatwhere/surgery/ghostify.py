"""Replacing the convolutions of a network by ghost convolutions, and undoing it."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import WhatwhereError, closest
from ..graph.batches import Batches
from ..graph.guard import evaluation_mode
from ..graph.statistics import has_statistics
from ..graph.trace import trace
from ..graph.values import Trace
from ..graph.wrappers import check_model, refuse_wrapped
from ..layers.checks import check_odd
from ..layers.ghost_conv import GhostConv, check_ratio
from .attach import replace_module
from .ghost_fit import Fitted, fit_maps, fit_weights, gather
from .ghost_measure import measure
from .ghost_report import FittedTo, GhostifyReport
from .ghost_sites import choose_convolutions

Start = Literal["fit", "random"]


def ghostify(
    model: nn.Module,
    ratio: int = 2,
    at: str | Sequence[str] = "*",
    *,
    data: Any = None,
    start: Start = "fit",
    keep: float | None = None,
    cheap_kernel_size: int = 3,
    example: Any = None,
    seconds: float = 0.05,
    on_site: Callable[[int], None] | None = None,
) -> GhostifyReport:
    r"""Replace convolutions by ghost convolutions, in place: of n maps only ⌈n / ratio⌉ are computed, and depthwise
    convolutions make the others from these, see :class:`whatwhere.layers.GhostConv`.

    Three starts:

    - ``start="fit"`` with ``data``, for a trained network. Convolution by convolution, in the order in which they run,
      all its filters are refitted by least squares to make the old network's maps from what now comes in; then the maps
      that others explain best by a depthwise convolution are given up, one after the other, and these depthwise
      convolutions get the least-squares weights. The running statistics of batch normalisations behind change so that
      their maps keep the mean and the variance that they had.
    - ``start="fit"`` without ``data``: the same choice and fit from the filters alone, as if every input were white
      noise. 1×1 filters can only be fitted by a scaled copy then.
    - ``start="random"``: new weights in both parts, as in the official code, for training from the beginning.

    Replaced are plain convolutions in one group that make at least ``ratio`` maps and run once in a pass. Left alone
    are those that take the network's input, that make its output (also if it is only pooled, resized or activated
    afterwards), that make maps of one position, or that belong to an attention or a ghost module already. The report
    names what was left, and why.

    Ghost convolutions cost about ``1 / ratio`` of the multiply-adds. Their time is another matter: a depthwise
    convolution and one more copy of the map may take longer than what they save. The report has both.

    Args:
        model: the network.
        ratio: how many maps there are for each computed one, from 2.
        at: which convolutions: a glob over their names such as ``"layer3.*"``, or a list of these.
        data: images to fit to, 16 at least and better a hundred or more like those that the network is for, see
            :class:`whatwhere.graph.Batches`. No labels are needed. They run as one batch.
        start: ``"fit"`` or ``"random"``.
        keep: leave a convolution as it is if its ghost would miss more than this share of the variance of its maps (of
            the filters, without data), from 0 to 1. None replaces all.
        cheap_kernel_size: side of the depthwise convolutions, odd.
        example: a tensor (or tuple of arguments) to run the network on, see :func:`whatwhere.sites`; by default the
            first images of ``data``.
        seconds: about how long each convolution and its ghost are timed; 0 leaves that out.
        on_site: called after each fitted convolution with the number of those to come.

    Returns:
        Parameters, multiply-adds, time and change of the maps, convolution by convolution; ``print`` it for a table.

    Raises:
        WhatwhereError: a ratio or an option that cannot be, no convolution that can be replaced (the message says why
            not), no or too few images or images that the network does not take, maps that are not finite, a wrapped or
            compiled network. The network is then as it was.

    Paper:
        GhostNet, CVPR 2020, arXiv 1911.11907. The fit is ours.

    Example:
        >>> import torch, torchvision, whatwhere as ww
        >>> model = torchvision.models.resnet18(num_classes=10)
        >>> report = ww.ghostify(model, ratio=2, at="layer4.*", data=torch.randn(16, 3, 64, 64), seconds=0)
        >>> len(report.sites), report.multiply_adds[1] < 0.51 * report.multiply_adds[0]
        (5, True)
        >>> ww.unghostify(model)
        5
    """
    check_ratio(ratio)
    check_odd("cheap_kernel_size", cheap_kernel_size)
    if start not in ("fit", "random"):
        raise WhatwhereError(f"start={start!r}: must be 'fit' or 'random'{closest(str(start), ('fit', 'random'))}")
    if start == "random" and (data is not None or keep is not None):
        raise WhatwhereError("start='random' fits nothing: leave data= and keep= out, or take start='fit'")
    if keep is not None and not (isinstance(keep, (int, float)) and 0 <= keep <= 1):
        raise WhatwhereError(f"keep={keep!r}: must be a share from 0 to 1, such as 0.2, or None")
    refuse_wrapped(model, "ghostify")
    if any(p.is_meta for p in model.parameters()):
        raise WhatwhereError(
            "the model is on the meta device and computes nothing: give it memory with model.to_empty(device=...) first"
        )
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    images = None if data is None else gather(Batches(data), device)
    if images is not None and example is None:
        example = images[:2]
    record = trace(model, example)
    names, left = choose_convolutions(model, record, at, ratio)
    ticks = [len(names)]

    def tick() -> None:
        ticks[0] -= 1
        if on_site is not None:
            on_site(ticks[0])

    learning = {name: model.get_parameter(f"{name}.weight").requires_grad for name in names}
    with evaluation_mode(model, freeze=True):
        new, fitted = _fit(model, names, record, ratio, cheap_kernel_size, start, images, keep, tick)
        for name, one in fitted.items():
            if keep is not None and one.unexplained > keep:
                left[name] = f"its ghost would miss {one.unexplained:.3f} of the variance of its maps"
        made = [name for name in names if name not in left]
        fitted_to: FittedTo = "random" if start == "random" else "weights" if images is None else "maps"
        report = measure(model, new, made, fitted, left, fitted_to, example, seconds)
    for name in made:
        conv, ghost = model.get_submodule(name), fitted[name].ghost
        ghost.train(conv.training).requires_grad_(learning[name])
        replace_module(model, conv, ghost)
        vars(ghost)[_OLD] = (conv,)  # in a tuple, so that it is no child: no parameter, no key of the state dict
    for name, module in model.named_modules():
        if has_statistics(module):
            _take_statistics(module, new.get_submodule(name))
    return report


def unghostify(model: nn.Module) -> int:
    """Put the convolutions that :func:`ghostify` replaced back, and return how many there were.

    They come back with the weights that they had, on the device and in the dtype of what replaced them, and so do the
    running statistics of batch normalisations that had changed. Weights of other layers that were trained in
    between stay as they are now.

    Raises:
        WhatwhereError: a ghost convolution whose old convolution is not there, as after loading the network from a
            file. The network is then as it was.

    Example:
        >>> import torch, whatwhere as ww
        >>> model = ww.build(ww.ModelConfig("small-resnet"))
        >>> report = ww.ghostify(model, start="random", example=torch.randn(1, 3, 32, 32), seconds=0)
        >>> ww.unghostify(model)
        8
    """
    check_model(model)
    ghosts = {name: module for name, module in model.named_modules() if isinstance(module, GhostConv)}
    lost = [name for name, ghost in ghosts.items() if _OLD not in vars(ghost)]
    if lost:
        raise WhatwhereError(
            f"the convolution that was at {', '.join(lost[:5])} is not there any more: the network was built with its "
            "ghost convolutions, or loaded from a file. Build the plain network and load its weights"
        )
    for ghost in ghosts.values():
        (conv,) = vars(ghost)[_OLD]
        like = ghost.conv1.weight
        replace_module(model, ghost, conv.to(device=like.device, dtype=like.dtype).train(ghost.training))
    for module in model.modules():
        before = vars(module).pop(_STATISTICS, None)
        if before is not None:
            with torch.no_grad():
                for name, value in before.items():
                    module.get_buffer(name).copy_(value)
    return len(ghosts)


def put_ghost(
    model: nn.Module, name: str, ratio: int, cheap_kernel_size: int, ordered: bool, *, meta: bool = False
) -> None:
    """Replace one convolution by a ghost convolution with new weights, as when a network is built from a file.

    With ``meta`` the ghost convolution is on the meta device, whatever the size that a file claims for it.

    Raises:
        WhatwhereError: there is no convolution of that name, or it cannot be replaced.
    """
    conv = dict(model.named_modules()).get(name)
    if type(conv) is not nn.Conv2d:
        raise WhatwhereError(f"{type(model).__name__} has no convolution {name!r}: was it built otherwise?")
    device = torch.device("meta") if meta else None
    try:
        ghost = GhostConv.like(conv, ratio, cheap_kernel_size, ordered=ordered, device=device)
    except (RuntimeError, TypeError, MemoryError) as error:  # PyTorch says TypeError of what does not fit 64 bits
        raise WhatwhereError(f"no ghost convolution of cheap_kernel_size={cheap_kernel_size} fits {name}") from error
    replace_module(model, conv, ghost)


_OLD = "replaced_convolution"
_STATISTICS = "statistics_before_ghostify"


def _fit(
    model: nn.Module,
    names: list[str],
    record: Trace,
    ratio: int,
    size: int,
    start: Start,
    images: Tensor | None,
    keep: float | None,
    tick: Callable[[], None],
) -> tuple[nn.Module, dict[str, Fitted]]:
    """Return the new network, and its ghost convolutions by name with those that lose too much."""
    if images is not None:
        return fit_maps(model, names, record, ratio, size, images, keep, tick)
    new = copy.deepcopy(model)
    fitted = {}
    for name in names:
        conv: Any = new.get_submodule(name)
        if start == "random":
            fitted[name] = Fitted(GhostConv.like(conv, ratio, size), float("nan"))
        else:
            fitted[name] = fit_weights(conv, ratio, size)
        if keep is None or fitted[name].unexplained <= keep:
            replace_module(new, conv, fitted[name].ghost)
        tick()
    return new, fitted


def _take_statistics(module: Any, other: Any) -> None:
    """Take over the running statistics of another batch normalisation, and remember what they were."""
    pairs = {name: (getattr(module, name), getattr(other, name)) for name in ("running_mean", "running_var")}
    if any(not torch.equal(old, new) for old, new in pairs.values()):
        vars(module).setdefault(_STATISTICS, {name: old.clone() for name, (old, _) in pairs.items()})
        with torch.no_grad():
            for old, new in pairs.values():
                old.copy_(new)
