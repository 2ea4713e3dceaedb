"""How close two forms of a model are: their outputs, their answers, their accuracy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..graph.batches import Batches
from ..graph.difference import difference

Run = Callable[[Tensor], list[Tensor]]
"""A form of a model: images ``(N, C, H, W)`` on the CPU to its outputs on the CPU."""


@dataclass(frozen=True)
class Quality:
    """What one form of a model makes of some images.

    Attributes:
        images: how many.
        top1: share of right answers, from 0 to 1; None where there are no labels or no class scores.
        same: share of images that get the first form's answer; None where there are no class scores.
        difference: the largest difference to the first form's outputs, as a share of the largest value.
    """

    images: int
    top1: float | None
    same: float | None
    difference: float


def torch_run(model: nn.Module) -> Run:
    """Return a model as a :data:`Run`, on its own device."""
    device = next((t.device for t in (*model.parameters(), *model.buffers())), torch.device("cpu"))

    def run(images: Tensor) -> list[Tensor]:
        with torch.no_grad():
            result = model(images.to(device))
        return [leaf.cpu() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]

    return run


def compare(runs: Mapping[str, Run], data: Batches) -> dict[str, Quality]:
    """Run every form of a model over the same images, and compare each to the first."""
    count, labelled = 0, 0
    right, same, largest = dict.fromkeys(runs, 0), dict.fromkeys(runs, 0), dict.fromkeys(runs, 0.0)
    scored = data.class_scores
    for images, labels in data:
        outputs = {name: run(images.cpu()) for name, run in runs.items()}
        want = next(iter(outputs.values()))
        count += len(images)
        labelled += 0 if labels is None else len(labels)
        for name, got in outputs.items():
            largest[name] = max(largest[name], difference(got, want))
            if not (scored := scored and _scores(got, len(images)) and _scores(want, len(images))):
                continue
            answers = got[0].argmax(1)
            same[name] += int((answers == want[0].argmax(1)).sum())
            right[name] += 0 if labels is None else int((answers == labels.cpu()).sum())
    return {
        name: Quality(
            count,
            right[name] / count if scored and count and labelled == count else None,
            same[name] / count if scored and count else None,
            largest[name],
        )
        for name in runs
    }


def _scores(outputs: Sequence[Tensor], count: int) -> bool:
    return len(outputs) == 1 and outputs[0].ndim == 2 and outputs[0].shape[0] == count
