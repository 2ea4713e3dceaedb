"""What a detector is trained on, and how it is put together."""

from dataclasses import dataclass, field, replace
from typing import Literal

from ...data import DetectionDataConfig
from ...errors import WhatwhereError, closest
from ...networks import ModelConfig
from ...networks.detectors import DETECTORS
from ...networks.widths import OWN

WHERE = ("backbone", "fpn", "both")


@dataclass(frozen=True)
class DetectConfig:
    """Train a network to find objects: boxes, classes and scores.

    Try:
        whatwhere train detect
        whatwhere train detect --data path/to/VOC2007 path/to/VOC2012 --model resnet50 --pretrained --attention cbam
        whatwhere train detect --data path/to/coco --detector retinanet --model resnet18 --pretrained --size 512
        whatwhere train detect --data path/to/data.yaml --detector ssdlite --where fpn --attention se
    """

    data: DetectionDataConfig = field(default_factory=DetectionDataConfig)
    """The images and their boxes."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The network whose maps the detector looks at."""
    detector: Literal["fcos", "retinanet", "fasterrcnn", "ssdlite"] = "fcos"
    """The detector, torchvision's."""
    where: Literal["backbone", "fpn", "both"] = "backbone"
    """Where attention goes: to the sites of the backbone, to the maps of the feature pyramid (FPN), or to both."""
    channels: int | None = None
    """Channels of the feature pyramid and the heads; by default 64 on whatwhere's own small networks, else 256."""
    frozen_norms: bool | None = None
    """Keep the batch normalisations of the backbone as they are; by default where it starts from trained weights."""
    frozen_stages: int | None = None
    """How many stages of the backbone, from the first on, learn nothing; by default 2 (of a ResNet the stem and the
    first layer) where it starts from trained weights, else 0."""
    augment: Literal["light", "none"] = "light"
    """Light: scaled, with other colours, and mirrored where that keeps the classes."""

    def __post_init__(self) -> None:
        for name, allowed in (("detector", tuple(DETECTORS)), ("where", WHERE), ("augment", ("light", "none"))):
            value = getattr(self, name)
            if value not in allowed:
                raise WhatwhereError(f"{name}={value!r}: must be one of {', '.join(allowed)}{closest(value, allowed)}")
        if self.channels is not None and (self.channels < 32 or self.channels % 32):
            raise WhatwhereError(f"channels={self.channels}: must be a multiple of 32, or None")
        if self.frozen_stages is not None and self.frozen_stages < 0:
            raise WhatwhereError(f"frozen_stages={self.frozen_stages}: must be at least 0, or None")

    def resolved(self) -> "DetectConfig":
        """Return the config with the defaults that depend on the network filled in."""
        trained = self.model.trained
        own = self.model.name in OWN
        return replace(
            self,
            channels=self.channels or (64 if own else 256),
            frozen_norms=trained if self.frozen_norms is None else self.frozen_norms,
            frozen_stages=(2 if trained else 0) if self.frozen_stages is None else self.frozen_stages,
        )
