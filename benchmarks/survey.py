"""Does attention work in an architecture? Insert it, compare outputs, train a little, and say what was found."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from whatwhere.cost.counts import count_parameters, counting
from whatwhere.graph.difference import difference
from whatwhere.graph.guard import evaluation_mode
from whatwhere.surgery.attach import attentions
from whatwhere.surgery.insert import insert
from whatwhere.surgery.report import InsertReport

from .architectures import Architecture

TOLERANCE = 1e-5
_BATCH = 2
_CLASSES = 3  # labels and boxes of the trial stay within these


@dataclass
class Row:
    """What was found for one architecture.

    Attributes:
        architecture: which.
        residual: sites at the ends of residual branches.
        stage: sites at the ends of stages.
        module: modules of a decoder that were named.
        parameters: added, as a share of the plain network's.
        multiply_adds: added, as a share of the plain network's, on images of this size.
        change: largest change of the output by the insertion, as a share of the largest output.
        failures: what does not hold, in words.
    """

    architecture: Architecture
    residual: int = 0
    stage: int = 0
    module: int = 0
    parameters: float = 0.0
    multiply_adds: float = 0.0
    change: float = float("nan")
    failures: list[str] = field(default_factory=list)


def survey(architecture: Architecture, attention: str = "cbam") -> Row:
    """Try one architecture with random weights: sites, cost, identity, and two steps of training.

    Scales that start at 0 or near it (the last normalisation of a block, layer scales) are set to 1 first, as in a
    trained network: otherwise the branches would not count, and any attention would seem to change nothing.

    It fails if the sites are not as many as the architecture says; if the output changes by more than 1e-5 of its
    largest value; if a loss is not finite; if a parameter of an attention gets no finite gradient, or all of one
    attention's gradients are 0.
    """
    row = Row(architecture)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        try:
            _fill(row, attention)
        except Exception as error:
            row.failures.append(f"{type(error).__name__}: {error}".split("\n")[0])
    return row


def _fill(row: Row, attention: str) -> None:
    architecture = row.architecture
    model = architecture.build()
    _wake(model)
    images = torch.rand(_BATCH, 3, architecture.size, architecture.size)
    detects = architecture.library == "torchvision.detection"
    example: Any = ([images[0]],) if detects else images[:1]
    parameters, (before, multiply_adds) = count_parameters(model), _outputs(model, example, detects)
    report = insert(model, attention, architecture.at, example=example)
    after, _ = _outputs(model, example, detects)
    kinds = [one.kind for one in report.inserted]
    row.residual, row.stage, row.module = (kinds.count(kind) for kind in ("residual", "stage", "module"))
    row.parameters, row.multiply_adds = report.parameters / parameters, report.multiply_adds / multiply_adds
    row.change = difference(after, before)
    for kind in ("residual", "stage", "module"):
        found, wanted = getattr(row, kind), getattr(architecture, kind)
        if found != wanted:
            row.failures.append(f"{found} {kind} sites instead of {wanted}")
    if not row.change <= TOLERANCE:
        row.failures.append(f"the output changed by {row.change:.1e}")
    row.failures += _train(model, images, detects, report)


def _outputs(model: nn.Module, example: Any, detects: bool) -> tuple[list[Tensor], int]:
    """Return the outputs in evaluation mode, of a detector its backbone's maps (boxes are sorted and cut off), and the
    multiply-adds.
    """
    seen: list[Any] = []
    part: Any = model.backbone if detects else model
    handle = part.register_forward_hook(lambda _, __, output: seen.append(output))
    try:
        with evaluation_mode(model), torch.no_grad(), counting() as counted:
            model(*example) if isinstance(example, tuple) else model(example)
    finally:
        handle.remove()
    tensors = [leaf for leaf in tree_leaves(seen) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    return tensors, counted()


def _wake(model: nn.Module) -> None:
    """Set scales (parameters of one axis, no biases) that are nearly 0 to 1."""
    for name, parameter in model.named_parameters():
        scale = parameter.numel() == max(parameter.shape, default=1) and not name.endswith(("bias", "beta"))
        if scale and parameter.detach().abs().max() < 1e-3:
            nn.init.ones_(parameter)


def _train(model: nn.Module, images: Tensor, detects: bool, report: InsertReport) -> list[str]:
    """Take two steps of SGD; return what went wrong. In the first only the last layers of an attention that starts as 1
    can learn.
    """
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    moved: set[str] = set()
    failures = []
    for step in (1, 2):
        loss = _loss(model, images, detects)
        if not torch.isfinite(loss):
            failures.append(f"the loss of step {step} is {loss.item()}")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for site, attention in attentions(model).items():
            for name, parameter in attention.named_parameters():
                if parameter.grad is None or not torch.isfinite(parameter.grad).all():
                    failures.append(f"no finite gradient in step {step} for {site}.attention.{name}")
                elif parameter.grad.abs().max() > 0:
                    moved.add(site)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    still = [one.module for one in report.inserted if one.module not in moved]
    return [*failures, *(f"all gradients are 0 at {site}" for site in still)]


def _loss(model: nn.Module, images: Tensor, detects: bool) -> Tensor:
    if detects:
        side = float(images.shape[-1])
        boxes = torch.tensor([[0.1, 0.1, 0.6, 0.7], [0.3, 0.2, 0.9, 0.9]]) * side
        targets = [{"boxes": boxes, "labels": torch.tensor([1, 2])} for _ in images]
        losses: dict[str, Tensor] = model(list(images), targets)
        return torch.stack(list(losses.values())).sum()
    outputs = [leaf for leaf in tree_leaves(model(images)) if isinstance(leaf, Tensor)]
    labels = torch.arange(len(images)) % _CLASSES
    scores = [output.mean((2, 3)) if output.dim() == 4 else output for output in outputs]
    return torch.stack([F.cross_entropy(score, labels) for score in scores]).sum()
