"""What a classifier sees in one image."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..data import Preprocessing
from ..errors import WhatwhereError, closest, need, require
from ..graph.guard import evaluation_mode
from ..graph.wrappers import unwrap
from ..layers import Gates
from .capture import Seen, attended, capture
from .figure import draw
from .grad_cam import grad_cam
from .result import Look, View

TOP = 3


def look(
    model: nn.Module,
    image: Any,
    *,
    classes: Sequence[str] | str | None = None,
    target: int | str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | None = None,
    title: str | None = None,
) -> Look:
    """Show what a classifier sees in one image: its spatial gates, its channel gates, and Grad-CAM.

    The image goes through the same :class:`~whatwhere.data.Preprocessing` as in training. The model runs in evaluation
    mode; afterwards its modes, gradients, flags and hooks are as before, also after an error. A network without
    attention, or whose attentions have no gates, shows Grad-CAM alone.

    Args:
        model: a classifier, images → ``(N, classes)``.
        image: a path; a PIL image; an array ``uint8 (H, W, 3)``; a tensor ``(3, H, W)``, ``uint8`` or floating in
            [0, 1]; see :func:`~whatwhere.data.read_image`.
        classes: the names of the classes; ``"imagenet"`` for the 1,000 of ImageNet (from timm); by default "class 3"
            and the like.
        target: the class that Grad-CAM is for, by index or name; by default the predicted one.
        mean: of R, G and B in [0, 1]; by default that of the model's timm configuration, else 0.5 as in training. For a
            trained run take ``run.task.look(run.model, image)``: a network of timm's that was trained from random
            weights was trained with 0.5 and 0.25, whatever its configuration says.
        std: as ``mean``; by default that of the model's timm configuration, else 0.25.
        size: side of the square in pixels; by default that of the model's timm configuration, else 224.
        title: a line above the figure.

    Returns:
        Prediction, confidence, gates, Grad-CAM and the ``figure``, see :class:`Look`.

    Raises:
        WhatwhereError: an image that cannot be read, a model that is no classifier, names or a target that do not fit
            its classes, or a missing package.

    Example:
        >>> import tempfile, torch, torchvision, whatwhere as ww
        >>> model = torchvision.models.resnet18()
        >>> report = ww.insert(model, "cbam")
        >>> seen = ww.look(model, torch.rand(3, 80, 64), size=64)
        >>> list(seen.gates)[0], seen.grad_cam.shape
        ('layer1.0.bn2', torch.Size([64, 64]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     seen.save(f"{folder}/look.png").name
        'look.png'
    """
    root = unwrap(model)
    require(look=("matplotlib", "PIL", "pytorch_grad_cam"))
    preprocessing = Preprocessing.of(root, size=size, mean=mean, std=std)
    pixels = preprocessing.image(image)
    first = next(root.parameters(), torch.empty(0))
    normalised = preprocessing.normalise(pixels[None].to(first.device)).to(first.dtype)

    with evaluation_mode(root, freeze=True), torch.inference_mode(False), torch.no_grad():
        if attended(root):
            with capture(root) as seen:
                scores = root(normalised)
            views = views_of(seen)
        else:
            scores, views = root(normalised), []
    if not isinstance(scores, Tensor) or scores.dim() != 2 or scores.shape[1] < 2:
        came = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise WhatwhereError(
            f"a classifier that returns (N, at least 2 classes) is needed, {type(root).__name__} returns {came}"
        )

    names = _names(classes, scores.shape[1])
    chances, order = scores[0].float().softmax(0).cpu().sort(descending=True, stable=True)
    top = [(names[int(i)], float(p)) for p, i in zip(chances[:TOP], order[:TOP], strict=True)]
    explained = int(order[0]) if target is None else _target(target, names)
    found = Look(
        prediction=top[0][0],
        confidence=top[0][1],
        top=top,
        target=names[explained],
        grad_cam=grad_cam(root, normalised, [explained])[0],
        views=views,
        image=pixels.permute(1, 2, 0).numpy(),
        title=title,
    )
    object.__setattr__(found, "figure", draw(found))
    return found


def views_of(seen: Seen) -> list[View]:
    """Return the gates that were seen, on the CPU in float32."""
    return [
        View(
            module,
            Gates(*(None if gate is None else gate.float().cpu() for gate in gates)),
            seen.sizes[module],
            seen.attentions[module].neutral,
            seen.attentions[module].channel_neutral,
        )
        for module, gates in seen.items()
    ]


def _names(classes: Sequence[str] | str | None, count: int) -> list[str]:
    if classes is None:
        return [f"class {index}" for index in range(count)]
    if classes == "imagenet":
        info = need("timm.data", "train").ImageNetInfo()
        classes = [info.index_to_description(index) for index in range(info.num_classes())]
    if isinstance(classes, str):
        raise WhatwhereError(f"classes is a list of names, or 'imagenet', got {classes!r}")
    if len(classes) != count:
        raise WhatwhereError(f"the model has {count} classes, but there are {len(classes)} names")
    return list(classes)


def _target(target: int | str, names: list[str]) -> int:
    if isinstance(target, str) and target in names:
        return names.index(target)
    if isinstance(target, str) and target.isdecimal():
        target = int(target)
    if isinstance(target, int) and 0 <= target < len(names):
        return target
    hint = closest(target, names) if isinstance(target, str) else ""
    raise WhatwhereError(f"target {target!r} is neither a class's name nor a number from 0 to {len(names) - 1}{hint}")
