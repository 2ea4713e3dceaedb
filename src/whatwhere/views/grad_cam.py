"""Grad-CAM: which positions of an image speak for a class."""

import contextlib
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import WhatwhereError, closest, need
from ..graph.guard import evaluation_mode
from ..graph.wrappers import unwrap


def grad_cam(
    model: nn.Module,
    images: Tensor,
    targets: Sequence[int] | Tensor | None = None,
    layer: str | nn.Module | None = None,
) -> Tensor:
    r"""Return the Grad-CAM of each image, by the ``grad-cam`` package.

    .. math:: \max\Big(0, \sum_c \Big(\frac{1}{HW}\sum_p \frac{\partial\,y_t}{\partial A_{cp}}\Big) A_c\Big)

    for the map A that ``layer`` returns and the score y of class t, resized to the image and scaled to [0, 1]. The
    model runs in evaluation mode; its modes, gradients, flags and hooks are afterwards as before. Selvaraju et al.,
    Grad-CAM, ICCV 2017, arXiv 1610.02391.

    Args:
        model: a classifier, images → ``(N, classes)``.
        images: ``(N, C, H, W)``, normalised as the model expects them.
        targets: the class of each image; by default the one that the model predicts.
        layer: a module of the model, or its name; by default the last one that returns a map with more than one
            position (after an attention that is inserted there).

    Returns:
        ``float32 (N, H, W)`` in [0, 1] on the CPU; all 0 where no position speaks for the class.

    Raises:
        WhatwhereError: the model is no classifier or has no map, the layer is unknown or returns no map, a target is no
            class, or the ``grad-cam`` package is missing.

    Example:
        >>> import torch, torchvision
        >>> from whatwhere.views import grad_cam
        >>> grad_cam(torchvision.models.resnet18().train(), torch.randn(2, 3, 64, 64)).shape
        torch.Size([2, 64, 64])
    """
    package = need("pytorch_grad_cam", "look")
    model_targets = need("pytorch_grad_cam.utils.model_targets", "look")
    root = unwrap(model)
    if images.dim() != 4 or not len(images) or not images.is_floating_point():
        raise WhatwhereError(f"normalised images (N, C, H, W) are needed, got {images.dtype} {tuple(images.shape)}")
    first = next(root.parameters(), None)
    if first is None:
        raise WhatwhereError(f"{type(root).__name__} has no parameters: Grad-CAM needs a trained network")
    with (
        evaluation_mode(root, freeze=True),
        torch.inference_mode(False),
        torch.enable_grad(),
        contextlib.ExitStack() as undo,
    ):
        images = images.detach().to(first.device, first.dtype, copy=True)
        name, chosen, classes = _layer(root, images[:1], layer)
        # The graph begins at the layer: the part of the network before it needs no gradients.
        undo.callback(chosen.register_forward_hook(lambda _m, _i, out: out.detach().requires_grad_().clone()).remove)
        explainer = package.GradCAM(model=root, target_layers=[chosen], reshape_transform=_snapshot)
        undo.callback(explainer.activations_and_grads.release)
        wanted = None
        if targets is not None:
            wanted = [
                model_targets.ClassifierOutputTarget(target) for target in _targets(targets, len(images), classes)
            ]
        maps = explainer(input_tensor=images, targets=wanted)
        if not explainer.activations_and_grads.gradients:
            raise WhatwhereError(f"the classes do not depend on the output of {name!r}: choose another layer")
    return torch.from_numpy(maps).float()


def _snapshot(value: Tensor) -> Tensor:
    """Copy a map or its gradient: a later in-place operation must not change it, and NumPy knows no bfloat16."""
    return value.detach().float().clone()


def _scores(model: nn.Module, images: Tensor) -> Tensor:
    scores = model(images)
    if not isinstance(scores, Tensor) or scores.dim() != 2 or len(scores) != len(images):
        came = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise WhatwhereError(f"a classifier that returns (N, classes) is needed, {type(model).__name__} returns {came}")
    return scores


def _targets(targets: Sequence[int] | Tensor, count: int, classes: int) -> list[int]:
    numbers = [int(target) for target in targets]
    wrong = [number for number in numbers if not 0 <= number < classes]
    if len(numbers) != count or wrong:
        raise WhatwhereError(f"one class from 0 to {classes - 1} per image is needed: got {numbers} for {count} images")
    return numbers


def _layer(model: nn.Module, image: Tensor, layer: str | nn.Module | None) -> tuple[str, nn.Module, int]:
    """Run the model once and return the layer's name, the layer, and the number of classes."""
    shapes: dict[str, tuple[int, ...]] = {}
    calls: Counter[str] = Counter()

    def note(_module: nn.Module, _args: Any, output: Any, *, name: str) -> None:
        calls[name] += 1
        shapes.pop(name, None)
        if isinstance(output, Tensor):
            shapes[name] = tuple(output.shape)

    with contextlib.ExitStack() as undo, torch.no_grad():
        for name, module in model.named_modules():
            if name and not isinstance(module, torch.jit.ScriptModule):
                undo.callback(module.register_forward_hook(partial(note, name=name)).remove)
        classes = _scores(model, image).shape[1]
    maps = [name for name, s in shapes.items() if len(s) == 4 and s[2] * s[3] > 1 and calls[name] == 1]
    if layer is None:
        if not maps:
            raise WhatwhereError(
                f"no layer of {type(model).__name__} returns a map (N, C, H, W) with more than one position"
            )
        return maps[-1], model.get_submodule(maps[-1]), classes
    names = {module: name for name, module in model.named_modules()}
    name = names.get(layer) if isinstance(layer, nn.Module) else layer
    if name not in maps:
        hint = "" if name is None else closest(name, maps)
        raise WhatwhereError(
            f"layer {str(layer).splitlines()[0]!r} does not return one map (N, C, H, W) with more than one position "
            f"in a pass; the last that does is {maps[-1] if maps else None!r}{hint}"
        )
    return name, model.get_submodule(name), classes
