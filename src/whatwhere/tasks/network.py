"""What tasks ask of a network's configuration."""

import os
from dataclasses import replace
from typing import Any

from ..errors import need
from ..networks import ModelConfig


def with_full_path(model: ModelConfig) -> ModelConfig:
    """Write the path of the weights in full, so that the config means the same from every working directory.

    Example:
        >>> with_full_path(ModelConfig("small-resnet")).weights
    """
    if model.weights is None:
        return model
    return replace(model, weights=os.path.abspath(os.path.expanduser(model.weights)))


def trained_config(model: ModelConfig) -> dict[str, Any]:
    """Return timm's configuration of the weights that a network starts from; {} where it starts from none, or is not
    timm's.

    Example:
        >>> trained_config(ModelConfig("resnet18"))
        {}
    """
    if not model.trained or not (timm := need("timm", extra="train")).is_model(model.name):
        return {}
    return {key: timm.models.get_pretrained_cfg_value(model.name, key) for key in ("input_size", "mean", "std")}
