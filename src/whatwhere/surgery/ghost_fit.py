"""Ghost convolutions that give, as nearly as they can, the maps of the convolutions whose place they take."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import WhatwhereError
from ..graph.batches import Batches
from ..graph.forward import unfused
from ..graph.statistics import has_statistics
from ..graph.values import Trace
from ..layers.ghost_conv import GhostConv
from .attach import replace_module
from .cheap_fit import CheapFits, PairSums, Positions, pair_up

FEWEST = 16
"""Images that a fit needs at least."""
_SHRINK = 1e-2  # of the mean variance of the inputs: how strongly a refitted filter is held at what it was


@dataclass(frozen=True)
class Fitted:
    """A ghost convolution, and the share of the variance of the old maps that it does not make, from 0 to 1."""

    ghost: GhostConv
    unexplained: float


def fit_weights(conv: nn.Conv2d, ratio: int, size: int) -> Fitted:
    """Fit a ghost convolution to a convolution by its weights alone, as if its input were white noise."""
    return _assemble(conv, CheapFits.of_filters(conv, size), ratio, size)


def fit_maps(
    model: nn.Module,
    names: Sequence[str],
    record: Trace,
    ratio: int,
    size: int,
    images: Tensor,
    keep: float | None,
    tick: Callable[[], None],
) -> tuple[nn.Module, dict[str, Fitted]]:
    """Fit ghost convolutions to the maps of a trained network, one after the other as the network runs them.

    Each is fitted to the maps that the *old* network has there, from the input that the *new* network has there by
    then. So it also makes up for what the ones before it changed. For each:

    1. Its filters are refitted by least squares to make the old maps from the new input.
    2. Every map is fitted by a cheap operation from every other, those explained best are given up (:func:`pair_up`).
    3. What follows goes on with the maps of the ghost convolution. Batch normalisations change their running statistics
       so that each gives maps of the same mean and variance as in the old network.

    All images run as one batch, so each network runs once.

    Args:
        model: the old network, in evaluation mode.
        names: of the convolutions.
        record: one pass of the network.
        ratio: of the ghost convolutions.
        size: side of the cheap operations.
        images: as the network takes them, on its device.
        keep: leave a convolution that loses more than this share of its maps' variance.
        tick: called after each convolution.

    Returns:
        The new network, and what was fitted in it by name, also what was not kept.
    """
    once = {name for name, times in record.times().items() if times == 1}
    norms = [name for name, m in model.named_modules() if name in once and has_statistics(m)]
    targets, moments = _watch(model, names, norms, images)
    new = copy.deepcopy(model)
    fitted: dict[str, Fitted] = {}
    changed = False

    def renew(name: str) -> Any:
        def hook(norm: nn.BatchNorm2d, args: tuple[Tensor, ...]) -> None:
            if changed:
                _renew(norm, moments[name], _moments(args[0]))

        return hook

    def fit(name: str) -> Any:
        def hook(conv: nn.Conv2d, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            nonlocal changed
            x, (positions, wanted) = args[0], targets.pop(name)
            refitted = copy.deepcopy(conv)
            refitted._forward_hooks.clear()
            maps = output
            if changed:
                _refit(refitted, x, positions, wanted, _normalised(record, name))
                maps = refitted(x)
            sums = PairSums(size)
            sums.add(positions.neighbourhoods(maps, size), wanted.double())
            fitted[name] = _assemble(refitted, sums.fits(), ratio, size)
            tick()
            if keep is not None and fitted[name].unexplained > keep:
                return output
            changed = True
            out: Tensor = fitted[name].ghost(x)
            return out

        return hook

    modules = dict(new.named_modules())
    handles = [modules[name].register_forward_hook(fit(name)) for name in names]
    handles += [modules[name].register_forward_pre_hook(renew(name)) for name in norms]
    try:
        with torch.no_grad(), unfused(new):
            new(images)
    finally:
        for handle in handles:
            handle.remove()
    for name, one in fitted.items():
        if keep is None or one.unexplained <= keep:
            replace_module(new, modules[name], one.ghost)
    return new, fitted


def gather(data: Batches, device: torch.device) -> Tensor:
    """Return all images of some batches as one, on a device.

    Raises:
        WhatwhereError: fewer than :data:`FEWEST`, or of several shapes.
    """
    parts = [images for images, _ in data]
    shapes = {tuple(part.shape[1:]) for part in parts}
    if len(shapes) > 1:
        raise WhatwhereError(f"{data.name} has images of several shapes, {shapes}: a fit takes images of one shape")
    count = sum(len(part) for part in parts)
    if count < FEWEST:
        raise WhatwhereError(
            f"{data.name} has {count} images, and a fit needs at least {FEWEST}: give a hundred or more like those "
            "that the network is for, or no data to fit by the weights alone"
        )
    return torch.cat(parts).to(device)


def _watch(
    model: nn.Module, names: Sequence[str], norms: Sequence[str], images: Tensor
) -> tuple[dict[str, tuple[Positions, Tensor]], dict[str, tuple[Tensor, Tensor]]]:
    """Return the maps of a network at some convolutions, at positions drawn at random, and mean and variance of what
    goes into some batch normalisations.
    """
    found: dict[str, tuple[Positions, Tensor]] = {}
    moments: dict[str, tuple[Tensor, Tensor]] = {}
    generator = torch.Generator().manual_seed(0)

    def note(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            positions = Positions.draw(output, generator)
            found[name] = (positions, positions.values(output).to(output.dtype))

        return hook

    def measure(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            moments[name] = _moments(args[0])

        return hook

    handles = [model.get_submodule(name).register_forward_hook(note(name)) for name in names]
    handles += [model.get_submodule(name).register_forward_pre_hook(measure(name)) for name in norms]
    try:
        with torch.no_grad(), unfused(model):
            model(images)
    except Exception as error:
        raise WhatwhereError(
            f"{type(model).__name__} failed on the {len(images)} images of data, {tuple(images.shape[1:])} in one "
            f"batch: {type(error).__name__}: {error}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return found, moments


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of every channel."""
    variance, mean = torch.var_mean(x.double(), [axis for axis in range(x.ndim) if axis != 1], correction=0)
    return mean, variance


def _renew(norm: Any, old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]) -> None:
    """Change the running statistics of a batch normalisation so that what came in with the old mean and variance and
    now comes in with the new ones goes out with the mean and variance that it had.
    """
    scale = ((new[1] + norm.eps) / (old[1] + norm.eps)).sqrt()
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    norm.running_mean.copy_(new[0] - scale * (old[0] - mean))
    norm.running_var.copy_((scale.square() * (variance + norm.eps) - norm.eps).clamp(min=0))


def _normalised(record: Trace, name: str) -> bool:
    """Whether what a convolution makes goes straight into a batch normalisation, where a constant does not matter."""
    output = next(call.output for call in record.calls if call.name == name)
    users = [value for value in record.values if output in value.parents]
    return bool(users) and all("batch_norm" in value.op for value in users)


def _refit(conv: nn.Conv2d, x: Tensor, positions: Positions, wanted: Tensor, normalised: bool) -> None:
    """Change the filters of a convolution so that it makes the wanted maps from ``x``, by ridge regression around the
    filters that it has.
    """
    patches, targets = _patches(conv, x, positions), wanted.double()
    means, target_means = patches.mean(0), targets.mean(0)
    if conv.bias is not None or normalised:
        patches, targets = patches - means, targets - target_means
    products = patches.T @ patches / len(patches)
    before = conv.weight.flatten(1).T.double()
    missing = patches.T @ (targets - patches @ before) / len(patches)
    products.diagonal().add_((_SHRINK * products.diagonal().mean()).clamp(min=torch.finfo(torch.float32).tiny))
    after = before + torch.linalg.solve(products, missing)
    if not after.isfinite().all():
        raise WhatwhereError("there are maps with NaN or infinity: nothing can be fitted to them")
    conv.weight.copy_(after.T.reshape(conv.weight.shape))
    if conv.bias is not None:
        conv.bias.copy_(target_means - means @ after)


def _patches(conv: nn.Conv2d, x: Tensor, at: Positions) -> Tensor:
    """Return what a convolution multiplies its filters by at some positions, ``(P, inputs · kernel)`` in float64."""
    padded = nn.functional.pad(x, conv._reversed_padding_repeated_twice, _PAD_MODES[conv.padding_mode])
    rows, columns = at.row * conv.stride[0], at.column * conv.stride[1]
    taps = [
        padded[at.image, :, rows + a * conv.dilation[0], columns + b * conv.dilation[1]]
        for a in range(conv.kernel_size[0])
        for b in range(conv.kernel_size[1])
    ]
    return torch.stack(taps, 2).flatten(1).double()


_PAD_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


def _assemble(conv: nn.Conv2d, fits: CheapFits, ratio: int, size: int) -> Fitted:
    """Make the ghost convolution that gives up the maps that others explain best."""
    source = pair_up(fits.explained, ratio)
    n = conv.out_channels
    primary = [i for i in range(n) if i not in source]
    place = {i: number for number, i in enumerate(primary)}
    order = [place.get(i, -1) for i in range(n)]
    ghost = GhostConv.like(conv, ratio, size, ordered=True)
    served = dict.fromkeys(primary, 0)
    with torch.no_grad():
        ghost.conv1.weight.copy_(conv.weight[primary])
        if conv.bias is not None and ghost.conv1.bias is not None:
            ghost.conv1.bias.copy_(conv.bias[primary])
        ghost.conv2.weight.zero_()
        assert ghost.conv2.bias is not None
        ghost.conv2.bias.zero_()
        for target, made_from in source.items():
            number = place[made_from] * (ratio - 1) + served[made_from]
            served[made_from] += 1
            ghost.conv2.weight[number, 0] = fits.weights[made_from, :, target].view(size, size).to(conv.weight.dtype)
            ghost.conv2.bias[number] = fits.bias(made_from, target)
            order[target] = len(primary) + number
        assert ghost.order is not None
        ghost.order.copy_(torch.tensor(order))
    lost = [1 - float(fits.explained[made_from, target]) for target, made_from in source.items()]
    return Fitted(ghost, (sum(lost) + float(fits.missed[primary].sum())) / n)
