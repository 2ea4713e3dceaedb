"""What a captioner is trained on, and how it is put together."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ...data import CaptionDataConfig
from ...errors import WhatwhereError, closest
from ...networks import ModelConfig
from ...networks.captioning.attention import KINDS
from ...networks.captioning.captioner import CaptionerShape
from ...networks.widths import OWN

PAPER: dict[str, dict[str, Any]] = {
    "config": {
        "hidden": 1000,
        "word_dim": 100,
        "attention_dim": 512,
        "dropout": 0.5,
        "start": "paper",
        "loss": "sentence",
        "label_smoothing": 0.0,
        "beam": 5,
        "augment": "none",
    },
    "recipe": {
        "optimizer": "adadelta",
        "lr": 1.0,
        "schedule": "constant",
        "warmup": 0.0,
        "weight_decay": 2e-4,
        "batch_size": 64,
        "clip": 0.0,
        "ema": 0.0,
    },
}
"""The fields of :class:`CaptionConfig` and of :class:`whatwhere.training.Recipe` that make SCA-CNN's own recipe."""


@dataclass(frozen=True)
class CaptionConfig:
    """Train a network to write a sentence about an image.

    On the digit scenes an encoder with random weights hardly learns to tell digits apart from sentences alone: let it
    learn colours and digits first.

    Try:
        whatwhere train classify --data scenes:digits=1:size=56:scale=0.32-0.42:label=colour-digit --out runs/encoder
        whatwhere train caption --weights runs/encoder/best.safetensors
        whatwhere train caption --data path/to/coco --model resnet50 --pretrained --attention c-s --layers 2
        whatwhere train caption --data path/to/dataset_flickr8k.json --model resnet50 --pretrained --trained-stages 1
    """

    data: CaptionDataConfig = field(default_factory=CaptionDataConfig)
    """The images and their sentences."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The encoder: the network whose maps are looked at."""
    attention: Literal["none", "soft", "s", "c", "s-c", "c-s"] = "c-s"
    """How the maps are attended for each word: spatial (s), channel (c), both in either order (s-c, c-s) as in SCA-CNN;
    soft attention of Show, Attend and Tell; or none."""
    layers: int = 1
    """How many maps are attended, counted from the encoder's last one."""
    attend: tuple[str, ...] = ()
    """Names of the modules whose maps are attended, in place of --layers: layer4.2.act2 layer4.2. A kind that looks at
    one map takes the last of them."""
    hidden: int | None = None
    """Length of the LSTM's state; by default 256 on whatwhere's own small networks, else 512."""
    word_dim: int | None = None
    """Length of a word's vector; by default half the state's."""
    attention_dim: int | None = None
    """Length of the vectors from which attention is computed; by default a quarter of the state's."""
    dropout: float | None = None
    """Share of the numbers before the words that are dropped in training; by default 0.2 on scenes, else 0.5."""
    start: Literal["scaled", "paper"] = "scaled"
    """How the first weights of the decoder are drawn: scaled by the number of inputs, or as in the paper."""
    loss: Literal["word", "sentence"] = "word"
    """The loss is the mean over words, or as in the paper the sum over a sentence."""
    label_smoothing: float | None = None
    """Share of the target that is spread evenly over all words, from 0 up to, but not, 1; by default 0 on scenes, else
    0.1."""
    beam: int = 3
    """How many beginnings the search for the sentences of the test images keeps."""
    length_power: float = 0.0
    """Sentences are compared by their log-probability over their length to this power; 0 as in the paper."""
    trained_stages: int | None = None
    """How many stages of the encoder, from the last on, learn; by default none where it starts from trained weights,
    else all. What a frozen part makes of the images is kept on the disk."""
    augment: Literal["light", "none"] = "light"
    """Light: mirrored where that keeps the sentences, and shifted where the whole encoder learns."""

    def __post_init__(self) -> None:
        self.shape(2)
        for name, allowed in (("loss", ("word", "sentence")), ("augment", ("light", "none"))):
            value = getattr(self, name)
            if value not in allowed:
                raise WhatwhereError(f"{name}={value!r}: must be one of {', '.join(allowed)}{closest(value, allowed)}")
        for name in ("layers", "beam"):
            if getattr(self, name) < 1:
                raise WhatwhereError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.layers > 1 and not KINDS[self.attention].several:
            raise WhatwhereError(
                f"attention={self.attention!r} looks at one map, not at several (layers={self.layers})"
            )
        if self.attend and self.layers not in (1, len(self.attend)):
            raise WhatwhereError(
                f"layers={self.layers}, but attend names {len(self.attend)} maps ({', '.join(self.attend)}): give only "
                "one of the two"
            )
        if not 0 <= self.smoothing < 1:
            raise WhatwhereError(f"label_smoothing={self.label_smoothing}: must be from 0 up to, but not, 1")
        if not self.length_power >= 0:
            raise WhatwhereError(f"length_power={self.length_power}: must be at least 0")
        if self.trained_stages is not None and self.trained_stages < 0:
            raise WhatwhereError(f"trained_stages={self.trained_stages}: must be at least 0, or None")
        if self.model.attention != "none":
            raise WhatwhereError(
                f"model.attention={self.model.attention!r}: a captioner's encoder is taken as it is, so this must be "
                "'none': train the network with attention first, and start from its weights"
            )

    @property
    def smoothing(self) -> float:
        """The share of the target that is spread over all words."""
        return (0.0 if self.data.scenes else 0.1) if self.label_smoothing is None else self.label_smoothing

    @property
    def points(self) -> tuple[str, ...]:
        """The names of the maps that are attended, where they are said."""
        return self.attend if KINDS[self.attention].several else self.attend[-1:]

    @property
    def keeps_values(self) -> bool:
        """Whether what the frozen part of the encoder makes of the images is kept on the disk."""
        return self.model.trained

    def shape(self, vocabulary: int) -> CaptionerShape:
        """Return the sizes of the decoder."""
        hidden = (256 if self.model.name in OWN else 512) if self.hidden is None else self.hidden
        return CaptionerShape(
            vocabulary,
            self.attention,
            hidden,
            max(1, hidden // 2) if self.word_dim is None else self.word_dim,
            max(1, hidden // 4) if self.attention_dim is None else self.attention_dim,
            (0.2 if self.data.scenes else 0.5) if self.dropout is None else self.dropout,
            self.start,
        )

    def untrained(self) -> "CaptionConfig":
        """Return the same captioner without weights to start from, with the same parts frozen."""
        stages = self.trained_stages
        if stages is None and self.model.trained:
            stages = 0
        return replace(self, model=self.model.untrained(), trained_stages=stages)
