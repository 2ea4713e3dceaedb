"""Folding channel gates that do not move into the layers beside them."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..cost import Timing, count_multiply_adds, count_parameters
from ..cost.stopwatch import time_in_turn
from ..errors import WhatwhereError
from ..graph.batches import Batches
from ..graph.guard import evaluation_mode
from ..graph.wrappers import unwrap
from ..surgery import attentions
from ..surgery.neighbours import Neighbour, neighbours
from ..tables import ShownAsText, share, table
from .movement import SiteMovement, watch
from .quality import Quality, compare, torch_run
from .rules import Fold, Part, apply, beside, choose, obstacle, proportional


@dataclass(frozen=True)
class Folded:
    """What the channel gates of one site do, and what became of them.

    Attributes:
        module: as in :func:`whatwhere.attentions`.
        attention: its class.
        channels: C of the map.
        mean: the mean gate, over channels and images; nan without channel gates.
        deviation: the largest standard deviation of a channel's gate over the images.
        range: the largest difference of a channel's gate between two images.
        movement: ``deviation / mean``, what the tolerance is for.
        part: ``"all"`` or ``"channel"`` where the attention, or its channel part, can go into the layer before it; else
            "".
        why: why not, or "".
    """

    module: str
    attention: str
    channels: int
    mean: float
    deviation: float
    range: float
    movement: float
    part: Part
    why: str


@dataclass(frozen=True)
class FoldReport(ShownAsText):
    """What :func:`whatwhere.fold` saw and did; ``str(report)`` is a table. Pairs are (before, after).

    Attributes:
        sites: every attention of the network.
        images: over how many images the gates were watched.
        tolerance: as given.
        parameters: of the network.
        multiply_adds: for one image, of convolutions and matrix products.
        inference: time of one batch; None where nothing was folded or ``seconds`` is 0.
        batch: images in that batch.
        quality: ``"before"`` and ``"after"``: accuracy, share of the same answers, largest change of an output.
        dry_run: whether the network was left as it was.
    """

    sites: list[Folded]
    images: int
    tolerance: float
    parameters: tuple[int, int]
    multiply_adds: tuple[int, int]
    inference: tuple[Timing, Timing] | None
    batch: int
    quality: dict[str, Quality]
    dry_run: bool

    @property
    def folded(self) -> list[str]:
        """The sites that were folded (that would be, in a dry run)."""
        return [one.module for one in self.sites if one.part]

    def __str__(self) -> str:
        """Return the sites, then costs and accuracy before and after."""
        rows = []
        for p in self.sites:
            numbers = [f"{x:.4f}" if math.isfinite(x) else "–" for x in (p.mean, p.deviation, p.range, p.movement)]
            fate = {"all": "folded", "channel": "channel part folded, spatial stays", "": f"stays: {p.why}"}[p.part]
            rows.append([p.module, p.attention, str(p.channels), *numbers, fate])
        titles = ["module", "attention", "channels", "mean gate", "sd", "range", "sd / mean", "what became of it"]
        lines = [table(titles, rows, left=(0, 1, 7))]
        verb = "would be folded" if self.dry_run else "folded"
        lines += [
            "",
            f"{len(self.folded)} of {len(self.sites)} {verb}: sd / mean at most {self.tolerance:g} "
            f"over {self.images:,} images",
            f"parameters {self.parameters[0]:,} → {self.parameters[1]:,}",
            f"multiply-adds {self.multiply_adds[0]:,} → {self.multiply_adds[1]:,}",
        ]
        if self.inference:
            a, b = self.inference
            lines.append(
                f"inference {a.median:.2f} [{a.low:.2f} to {a.high:.2f}] → "
                f"{b.median:.2f} [{b.low:.2f} to {b.high:.2f}] ms (median and quartiles, batch of {self.batch})"
            )
        before = self.quality["before"]
        after = self.quality.get("after", before)
        if before.top1 is not None:
            lines.append(f"top-1 {share(before.top1)} → {share(after.top1)} % of {before.images:,} images")
        same = "" if after.same is None else f"; the answer stays the same for {share(after.same)} % of the images"
        lines.append(f"outputs change by at most {after.difference:.1e} of the largest{same}")
        return "\n".join(lines)


def fold(
    model: nn.Module,
    data: Any,
    tolerance: float = 0.05,
    *,
    test: Any = None,
    dry_run: bool = False,
    seconds: float = 1.0,
) -> FoldReport:
    r"""Fold channel gates that hardly move into the layers beside them, in place.

    A channel gate that is the same for every image is a constant factor. It goes into the weight and bias of the
    convolution or batch normalisation whose output it multiplies, or else into the weight of the convolution that takes
    the attention's output, and the attention is removed. A network's own squeeze-and-excitation is folded after
    ``whatwhere.replace(model, "se", "se")``. In SENet gates stand still in most of the last stage (section 6.4 of arXiv
    1709.01507), where the attention also has most of its parameters.

    With :math:`c_{nk}` the gate of channel k for image n, in evaluation mode, a site is folded if

    .. math:: \max_k sd_n(c_{nk}) \;\le\; tolerance \cdot mean_{nk}(c_{nk})

    and every gate becomes its mean over the images. The worst channel counts, not the average one. Its deviation is a
    share of the mean gate of the whole site, not of its own mean, because a gate near 0 hardly matters.

    Where a spatial part follows the channel gate (CBAM), it stays with its weights as the site's attention. Its input
    is still c·x. These are left alone:

    - attention without gates, and gates that are a number for each channel *and* position (BAM, DFC, parallel
      CBAM);
    - a channel gate that follows a spatial one;
    - attention that runs several times in a pass, or is applied to a module's input or to a channels-last map;
    - attention that the network's own code calls, if no layer beside it can take its gates because something else uses
      their maps too;
    - layers that share their weights.

    Everything is tried on a copy of the network first; on any error the network is as it was.

    Args:
        model: a network with attention, of :func:`whatwhere.insert`, :func:`whatwhere.replace` or its own code; on its
            own device, not yet compiled or wrapped.
        data: batches to watch the gates over, at least 16 images and better some hundreds like those that the network
            is for, see :class:`whatwhere.graph.Batches`.
        tolerance: how much a gate may move, as a share of the mean gate; 0 folds only gates that do not move at all.
        test: batches to compare the network before and after on; by default ``data``. With labels the report has
            accuracies.
        dry_run: report what would happen, and leave the network as it is.
        seconds: about how long each of the two networks is timed; 0 leaves that out.

    Returns:
        What moved how much, what was folded, and what that saved and changed; ``print`` it for a table.

    Raises:
        WhatwhereError: no attention, no or too few images, a tolerance below 0, a compiled or wrapped network, gates
            that are not finite.

    Example:
        >>> import torch, whatwhere as ww
        >>> model = ww.build(ww.ModelConfig("small-resnet", attention="se"), size=24)  # no gate moves yet
        >>> ww.fold(model, torch.randn(16, 3, 24, 24), seconds=0).folded
        ['stages.0.0.bn2', 'stages.1.0.bn2', 'stages.2.0.bn2']
    """
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not 0 <= tolerance < math.inf:
        raise WhatwhereError(f"tolerance={tolerance!r}: must be a number from 0 up, such as 0.05")
    _refuse_compiled(model)
    watched = Batches(data)
    tried = watched if test is None else Batches(test, "test")
    with evaluation_mode(model, freeze=True):
        around = _around(model, watched)
        seen, count, inputs = watch(model, watched, {one.layer for layers in around.values() for one in layers})
        shape = watched.first().shape
        twin = copy.deepcopy(model)
        fates = {name: _decide(twin, name, site, around[name], inputs, tolerance) for name, site in seen.items()}
        sites = [_tell(name, site, *fates[name][:2]) for name, site in seen.items()]
        folds = [
            Fold(name, part, site.movement.mean, into)
            for name, site in seen.items()
            for part, _, into in [fates[name]]
            if into is not None and site.movement is not None
        ]
        apply(twin, folds)
        size = (int(shape[1]), int(shape[2]), int(shape[3]))
        runs = {"before": torch_run(model)} | ({"after": torch_run(twin)} if folds else {})
        report = FoldReport(
            sites,
            count,
            tolerance,
            (count_parameters(model), count_parameters(twin)),
            (count_multiply_adds(model, size), count_multiply_adds(twin, size)),
            _time(model, twin, watched, seconds) if folds and seconds > 0 else None,
            int(shape[0]),
            compare(runs, tried),
            dry_run,
        )
    if not dry_run:
        apply(model, folds)
    return report


def _around(model: nn.Module, data: Batches) -> dict[str, list[Neighbour]]:
    """Return for every attention the layers that its gates could go into."""
    there = attentions(model)
    called = any(model.get_submodule(name) is attention for name, attention in there.items())
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    found = neighbours(model, data.first()[:1].to(device)) if called else {}
    return {name: beside(model, name, found) for name in there}


def _decide(
    twin: nn.Module,
    name: str,
    site: SiteMovement,
    layers: list[Neighbour],
    inputs: dict[str, Tensor],
    tolerance: float,
) -> tuple[Part, str, Neighbour | None]:
    """Return which part of an attention is to be folded and into what, or why none; it is tried on ``twin``."""
    why = obstacle(twin, name, site)
    into = None
    if not why:
        into, why = choose(twin, site, layers)
    if into is None or site.movement is None:
        return "", why, None
    if not site.movement.relative <= tolerance:
        return "", "its gates move", None
    layer = twin.get_submodule(into.layer)
    if not proportional(layer, site.movement.mean, inputs.get(into.layer), into.side):
        return "", f"the output of {type(layer).__name__} does not follow its weight and bias", None
    return "channel" if "spatial" in site.kinds else "all", "", into


def _tell(name: str, site: SiteMovement, part: Part, why: str) -> Folded:
    kind, channels, moved = type(site.attention).__name__, site.attention.channels, site.movement
    if moved is None:
        return Folded(name, kind, channels, math.nan, math.nan, math.nan, math.nan, part, why)
    width = float((moved.high - moved.low).max())
    return Folded(
        name, kind, channels, float(moved.mean.mean()), float(moved.deviation.max()), width, moved.relative, part, why
    )


def _time(model: nn.Module, twin: nn.Module, data: Batches, seconds: float) -> tuple[Timing, Timing]:
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    images = data.first().to(device)
    with torch.no_grad():
        times = time_in_turn({"before": lambda: model(images), "after": lambda: twin(images)}, device, seconds)
    return times["before"], times["after"]


def _refuse_compiled(model: nn.Module) -> None:
    if unwrap(model) is not model:
        raise WhatwhereError(f"the model is wrapped in {type(model).__name__}: fold the plain model, then wrap it")
    if any(module._compiled_call_impl is not None or "_orig_mod" in module._modules for module in model.modules()):
        raise WhatwhereError("the model is compiled: fold first, then call torch.compile")
