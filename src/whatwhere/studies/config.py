"""What a study compares, and how."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..data import DataConfig
from ..errors import WhatwhereError, closest
from ..layers import parse
from ..networks import ModelConfig
from ..training import Recipe

PRESETS: dict[str, tuple[str, ...]] = {
    "cbam-table1": (
        "cbam:paper:spatial=false:pools=avg",
        "cbam:paper:spatial=false:pools=max",
        "cbam:paper:spatial=false:pools=avg+max",
    ),
    "cbam-table2": (
        "cbam:paper:spatial=false",
        "cbam:paper:spatial_pools=conv:kernel_size=3",
        "cbam:paper:spatial_pools=conv:kernel_size=7",
        "cbam:paper:kernel_size=3",
        "cbam:paper:kernel_size=7",
    ),
    "cbam-table3": (
        "se:paper",
        "cbam:paper:order=channel-spatial",
        "cbam:paper:order=spatial-channel",
        "cbam:paper:order=parallel",
    ),
}
"""The ablations of the CBAM paper: 1 the channel squeeze, 2 the spatial squeeze, 3 the order; all in the paper's form."""


@dataclass(frozen=True)
class StudyConfig:
    """Is attention worth its cost on your data? Train with and without, over several seeds, and compare honestly.

    Every arm sees the same images in the same order and starts from the same weights where they have the same; accuracy is that
    of the last epoch on the test images (never the best of several looks).

    Try:
        whatwhere study
        whatwhere study --data path/to/images --model resnet18 --pretrained --attention se cbam cbam:paper --seeds 5
        whatwhere study --preset cbam-table3 --seeds 3

    Raises:
        WhatwhereError: a wrong attention, fewer than one seed, the same arm twice, an unknown preset.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: str = "small-resnet"
    """A small network of ours (small-resnet, small-resnet-32, small-vgg, small-mobilenet) or any timm model."""
    pretrained: bool = False
    """Start from timm's pretrained weights."""
    weights: str | None = None
    """Start from this checkpoint of the plain network (.safetensors, .pth), whichever names its tensors have."""
    attention: tuple[str, ...] = ("se", "cbam", "cbam:paper")
    """Attentions to compare with the plain network: NAME[:paper][:OPTION=VALUE]. NAME alone starts at the identity,
    :paper in the paper's form."""
    preset: Literal["none", "cbam-table1", "cbam-table2", "cbam-table3"] = "none"
    """An ablation of the CBAM paper in place of --attention: 1 channel squeeze, 2 spatial squeeze, 3 order."""
    control: bool = True
    """Also train the plain network widened to at least the parameters that the most expensive attention adds."""
    seeds: int = 4
    """How many times each arm is trained; intervals need at least 2, and narrow with more."""
    label_smoothing: float = 0.1
    """Share of the target that is spread over all classes."""
    augment: Literal["light", "none"] = "light"
    """Light: shifted, and mirrored where that keeps the label."""
    recipe: Recipe = field(default_factory=Recipe)
    out: Path = Path("runs/study")
    """Folder for everything that the study writes. A study that was stopped goes on from there."""
    jobs: int = 0
    """Runs at the same time; 0: one a core (at most 8) on a CPU, one on a GPU."""
    images: int = 2
    """Test images shown in the report, for each attention."""

    def __post_init__(self) -> None:
        if self.preset != "none" and self.preset not in PRESETS:
            known = ", ".join(PRESETS)
            raise WhatwhereError(f"unknown preset {self.preset!r}: one of {known}{closest(self.preset, PRESETS)}")
        for name in ("seeds", "jobs", "images"):
            low = 1 if name == "seeds" else 0
            if getattr(self, name) < low:
                raise WhatwhereError(f"{name} must be at least {low}, got {getattr(self, name)}")
        _ = self.network  # what cannot go together raises now
        if not self.specs:
            raise WhatwhereError("a study needs at least one attention to compare: --attention se cbam")
        for spec in self.specs:
            if parse(spec).name == "none":
                raise WhatwhereError("the plain network is always part of a study: leave 'none' out of the attentions")
        if len(set(self.specs)) < len(self.specs):
            raise WhatwhereError(f"an attention is named twice: {' '.join(self.specs)}")

    @property
    def network(self) -> ModelConfig:
        """The network that all arms but the control are made of."""
        return ModelConfig(name=self.model, pretrained=self.pretrained, weights=self.weights)

    @property
    def specs(self) -> tuple[str, ...]:
        """The attentions that are compared, one spec an arm (a comma separates too)."""
        if self.preset != "none":
            return PRESETS[self.preset]
        return tuple(spec for word in self.attention for spec in word.split(",") if spec)
