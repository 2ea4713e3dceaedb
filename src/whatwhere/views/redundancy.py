"""How many maps of a layer are nearly a cheap function of another map of the same layer."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WhatwhereError, closest, require
from ..graph.batches import Batches
from ..graph.forward import unfused
from ..graph.guard import evaluation_mode
from ..graph.statistics import renew_statistics as renew
from ..graph.trace import trace
from ..graph.wrappers import unwrap
from ..surgery.cheap_fit import CheapFits, PairSums, Positions
from .redundancy_figure import PAIRS, draw
from .redundancy_result import After, BestSources, LayerRedundancy, Pair, Redundancy
from .redundancy_sites import Measured, choose_maps

FEWEST = 16
"""Images that are needed at least."""
_SIZE = 3


def redundancy(
    model: nn.Module,
    data: Any,
    at: str | Sequence[str] = "*",
    *,
    after: After = "activation",
    renew_statistics: bool = False,
    beside: Mapping[str, Redundancy] | None = None,
    name: str = "this network",
    on_batch: Callable[[int], None] | None = None,
) -> Redundancy:
    """Measure how many maps of each convolution are nearly a cheap function of another map of the same convolution.

    Each map is fitted by least squares from every other map of its layer, over positions drawn at random from all
    images: by one factor (a scaled copy), and by a depthwise 3×3 convolution, both with a constant added. R² is the
    share of the map's variance that the best of them makes. Maps that are the same everywhere are counted apart.

    R² is measured on the positions that the fit is made on, and it is the best of all other maps. Both push it up where
    there are few positions and many maps; a network with random weights, measured on the same images, shows by how
    much (``beside``, with ``renew_statistics``).

    The model runs in evaluation mode, once over the data (twice with ``renew_statistics``) and then on the first image;
    afterwards it is as before. For a layer of n maps, 72 n² bytes are kept while it runs.

    Args:
        model: any network with convolutions.
        data: images as the model takes them, 16 at least and better a hundred or more; a tensor or batches, see
            :class:`whatwhere.graph.Batches`. No labels are needed.
        at: which convolutions: a glob over their names such as ``"layer3.*"``, or a list of these. Those that make one
            map, or maps of one position, are left out. Of one that runs several times, the first run is measured.
        after: ``"convolution"``, or ``"activation"``: the map after the batch normalisations and activations that
            follow, as long as nothing else takes it in between. Where these are no modules, and no module returns what
            they make, it is the output of the convolution.
        renew_statistics: first let batch normalisations take their running statistics from these images. For a network
            with random weights: its statistics are 0 and 1, so that its maps keep a large common part which training
            would take out at the first step, and follow from one another far better than they would then.
        beside: other results by name, whose curves are drawn beside this one's, such as that of the untrained network.
        name: what the figure calls this network, where there are others beside it.
        on_batch: called after each batch with the number of images so far.

    Returns:
        R² map by map and its medians, the table, and the ``figure``; see :class:`Redundancy`.

    Raises:
        WhatwhereError: fewer than 16 images, images that the model does not take, nothing to measure, too few positions
            for the fit, maps that are not finite, or no matplotlib.

    Paper:
        GhostNet, CVPR 2020, arXiv 1911.11907, Figure 1, shows such pairs of maps in a ResNet-50. The measure is ours.

    Example:
        >>> import torch, torchvision, whatwhere as ww
        >>> model = torchvision.models.resnet18()
        >>> found = ww.redundancy(model, torch.randn(16, 3, 64, 64), at="layer1.0.*")
        >>> [(layer.module, layer.measured_at, layer.maps, layer.size) for layer in found.layers]
        [('layer1.0.conv1', 'layer1.0.relu', 64, (16, 16)), ('layer1.0.conv2', 'layer1.0.bn2', 64, (16, 16))]
        >>> copied, filtered = found.share(0.5)
        >>> copied <= filtered
        True
    """
    if after not in ("activation", "convolution"):
        hint = closest(str(after), ("activation", "convolution"))
        raise WhatwhereError(f"after={after!r}: must be 'activation' or 'convolution'{hint}")
    require(look=("matplotlib",))
    root = unwrap(model)
    batches = Batches(data)
    first = batches.first()
    device = next((p.device for p in root.parameters()), torch.device("cpu"))
    sums: dict[str, PairSums] = {}
    sizes: dict[str, tuple[int, int]] = {}
    generator = torch.Generator().manual_seed(0)

    def add(one: Measured, maps: Tensor) -> None:
        positions = Positions.draw(maps, generator)
        neighbours = positions.neighbourhoods(maps, _SIZE)
        sums.setdefault(one.module, PairSums(_SIZE)).add(neighbours, neighbours[:, :, _SIZE**2 // 2])
        sizes.setdefault(one.module, (maps.shape[2], maps.shape[3]))

    count = 0
    with evaluation_mode(root, freeze=True), torch.inference_mode(False), torch.no_grad(), unfused(root):
        example = first[:1].to(device)
        _run(root, example, batches.name)
        if renew_statistics:
            renew(root, (images.to(device) for images, _ in batches))
        measured = choose_maps(root, trace(root, example), at, after)
        with _listening(root, measured, add):
            for images, _ in batches:
                _run(root, images.to(device), batches.name)
                count += len(images)
                if on_batch is not None:
                    on_batch(count)
        if count < FEWEST:
            raise WhatwhereError(
                f"{batches.name} has {count} images, and this needs at least {FEWEST}: give a hundred or more like "
                "those that the network is for"
            )
        layers, ranked = list[LayerRedundancy](), dict[str, list[_Ranked]]()
        for one in measured:
            layer, ranked[one.module] = _summarise(one, sums.pop(one.module), sizes[one.module])
            layers.append(layer)
        pairs: dict[str, list[Pair]] = {}

        def show(one: Measured, maps: Tensor) -> None:
            pairs[one.module] = _show(ranked[one.module], maps[0].double().cpu())

        with _listening(root, measured, show):
            _run(root, example, batches.name)
    found = Redundancy(layers, after, count, pairs, example[0].float().cpu())
    object.__setattr__(found, "figure", draw(found, beside or {}, name))
    return found


def _run(model: nn.Module, images: Tensor, name: str) -> None:
    try:
        model(images)
    except WhatwhereError:
        raise
    except Exception as error:
        raise WhatwhereError(
            f"{type(model).__name__} fails on the images of {name}, {images.dtype} {tuple(images.shape)}: "
            f"{type(error).__name__}: {error}. Give images as the network takes them"
        ) from error


@contextlib.contextmanager
def _listening(
    model: nn.Module, measured: Sequence[Measured], listener: Callable[[Measured, Tensor], None]
) -> Iterator[None]:
    """Give a listener the maps that are measured, whenever the model runs inside the block."""
    at: dict[str, dict[int, Measured]] = {}
    for one in measured:
        at.setdefault(one.at, {})[one.call] = one
    calls = dict.fromkeys(at, 0)

    def listen(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            one = at[name].get(calls[name])
            calls[name] += 1
            if one is not None and isinstance(output, Tensor):
                listener(one, output)

        return hook

    # In front of other hooks: what the module itself made, before an attention that is attached to it.
    handles = [model.get_submodule(name).register_forward_hook(listen(name), prepend=True) for name in at]
    handles.append(model.register_forward_pre_hook(lambda *_: calls.update(dict.fromkeys(at, 0))))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Ranked:
    """A map that another explains well, and the depthwise convolution that makes it."""

    def __init__(self, fits: CheapFits, source: int, target: int) -> None:
        self.source, self.target = source, target
        self.r2 = float(fits.explained[source, target])
        self.weight = fits.weights[source, :, target].view(1, 1, _SIZE, _SIZE).cpu()
        self.bias = fits.bias(source, target).view(1).cpu()


def _summarise(one: Measured, sums: PairSums, size: tuple[int, int]) -> tuple[LayerRedundancy, list[_Ranked]]:
    """Return the numbers of one layer, and its best explained maps, the best first."""
    fits = sums.fits()
    dead = fits.constant
    best = []
    for r2 in (fits.copied, fits.explained):
        value, source = fits.best_sources(r2.masked_fill(dead[:, None], 0))
        best.append(BestSources(value.masked_fill(dead, torch.nan).cpu(), source.masked_fill(dead, -1).cpu()))
    layer = LayerRedundancy(one.module, one.at, len(dead), size, sums.count, int(dead.sum()), *best)

    variance = (sums.squares / sums.count - fits.target.square()).cpu()
    strong = variance >= variance[~dead.cpu()].median() if layer.constant < layer.maps else ~dead.cpu()
    ranked, used = list[_Ranked](), set[int]()
    sources: list[int] = best[1].source.tolist()
    for target in best[1].r2.masked_fill(~strong | dead.cpu(), -1).argsort(descending=True).tolist():
        source = sources[target]
        if strong[target] and source >= 0 and not used & {source, target}:
            used |= {source, target}
            ranked.append(_Ranked(fits, source, target))
    return layer, ranked if layer.maps - layer.constant > 1 else []


def _show(ranked: list[_Ranked], maps: Tensor) -> list[Pair]:
    """Return the best pairs as an image shows them, first those whose map is not nearly empty in that image."""
    spread = maps.flatten(1).std(1)
    enough = spread[spread > 0].median() if bool((spread > 0).any()) else 0
    ordered = sorted(ranked, key=lambda pair: (bool(spread[[pair.target, pair.source]].min() < enough), -pair.r2))
    pairs = []
    for one in sorted(ordered[:PAIRS], key=lambda pair: -pair.r2):
        made = F.conv2d(maps[one.source][None, None], one.weight, one.bias, padding=_SIZE // 2)[0, 0]
        parts = (part.float() for part in (maps[one.source], maps[one.target], made))
        pairs.append(Pair(one.source, one.target, one.r2, *parts))
    return pairs
