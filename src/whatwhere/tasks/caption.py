"""A sentence about the image."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data import CaptionDataset, CaptionSplits, Preprocessing, Vocabulary, augment, open_captions
from ..data.captions.vocabulary import UNKNOWN
from ..errors import WhatwhereError
from ..graph.guard import evaluation_mode
from ..networks.captioning.captioner import Captioner
from ..networks.captioning.decoding import Written, write
from ..views import CaptionLook
from .captioning.arms import CaptionArm
from .captioning.config import CaptionConfig
from .captioning.features import cached_values
from .captioning.look import look_at_words
from .captioning.metrics import CaptionMetrics
from .captioning.network import build_captioner, wider_decoder
from .captioning.sentence import Sentence
from .config import plain
from .drawing import Drawing
from .metric import Headline, Metric
from .network import trained_config, with_full_path
from .registry import register
from .task import Batch, CannotNarrow, Task

CIDER = Headline(
    "cider_d", "CIDEr-D", digits=3, sentence="describes the test images with a CIDEr-D of {}", higher_is_better=True
)
FACTS = Headline(
    "all",
    "facts right",
    unit="%",
    scale=100,
    sentence="gets all facts of {} of the scenes right",
    difference_unit="points",
)
BLEU = Metric("bleu4", "BLEU-4", digits=3)


@register("caption", CaptionConfig)
class Caption(Task):
    """Write a sentence about an image, with SCA-CNN and its controls.

    Measures the sentences that the network writes itself, by beam search, never with the true words before each:
    ``bleu1`` to ``bleu4``, ``rouge_l`` and ``cider_d``, see :class:`whatwhere.tasks.captioning.scores.CaptionScores`;
    on digit scenes also the shares ``digits``, ``colours``, ``relation`` and ``all`` of facts that are right, and
    ``unseen``, all facts on the scenes with a combination that no training scene has.

    Args:
        config: data, encoder, attention, decoder and loss.
        resolved: ``config["resolved"]`` of an earlier task; without it the data is opened at once.

    Example:
        >>> from whatwhere.data import CaptionDataConfig
        >>> task = Caption(CaptionConfig(CaptionDataConfig("scenes:train=20:test=10"), hidden=32, attention_dim=16))
        >>> model = task.build(seed=0).eval()
        >>> len(task.predict(model, task.example(2, torch.device("cpu"))))
        2
    """

    columns: ClassVar[tuple[Metric, ...]] = ()
    recipe: ClassVar[Mapping[str, Any]] = {
        "epochs": 12,
        "batch_size": 64,
        "lr": 2e-3,
        "ema": 0.99,
        "weight_decay": 0.01,
    }
    one_pass: ClassVar[bool] = False
    attentions: ClassVar[tuple[str, ...]] = ("soft", "s", "c", "s-c", "c-s")

    def __init__(self, config: CaptionConfig, resolved: Mapping[str, Any] | None = None) -> None:
        if resolved is None:
            config = replace(config, data=config.data.absolute(), model=with_full_path(config.model))
        self.splits: CaptionSplits | None = None  # the images, once they are open
        if resolved is None:
            expected = Preprocessing.of(trained_config(config.model))
            self.splits = open_captions(config.data, default_size=expected.size, in_memory=not config.keeps_values)
            train = self.splits.train
            resolved = {
                "words": train.vocabulary.words,
                "size": train.size,
                "mean": expected.mean,
                "std": expected.std,
                "facts": train.images[0].facts is not None,
            }
        self.vocabulary = Vocabulary(resolved["words"])
        self.size = int(resolved["size"])
        self.preprocessing = Preprocessing(self.size, tuple(resolved["mean"]), tuple(resolved["std"]))
        if resolved["facts"]:
            self.headline = FACTS
            self.columns = (  # type: ignore[misc]
                *(Metric(key, key, unit="%", scale=100) for key in ("digits", "colours", "relation")),
                Metric("unseen", "all, unseen", unit="%", scale=100),
                CIDER,
            )
        else:
            self.headline = CIDER
            self.columns = (Metric("bleu1", "BLEU-1", digits=3), BLEU, Metric("rouge_l", "ROUGE-L", digits=3))  # type: ignore[misc]
        self._settings = config
        self._with_values = False
        self.config: dict[str, Any] = {**plain(config), "resolved": plain(dict(resolved))}

    @property
    def train_set(self) -> CaptionDataset:
        """The sentences to learn from."""
        return self._with_frozen_values().train

    @property
    def test_set(self) -> CaptionDataset:
        """The images to measure on."""
        return self._with_frozen_values().test

    def build(self, seed: int, *, pretrained: bool = True) -> Captioner:
        """Return the captioner; ``pretrained=False`` leaves out the trained weights that the config asks for."""
        config = self._settings if pretrained else self._settings.untrained()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build_captioner(config, len(self.vocabulary), self.size)

    def prepare(self, batch: Batch, device: torch.device, generator: torch.Generator | None = None) -> Batch:
        """Images to normalised float32, or what the frozen part of the encoder made of them; words as they are.
        Mirrored at random, and images of an encoder that learns as a whole also shifted, where a generator is given.
        """
        if self._settings.augment == "none":
            generator = None
        found: Batch = {"index": batch["index"]}
        for key in ("words", "lengths"):
            if key in batch:
                found[key] = batch[key].to(device, non_blocking=True)
        if "values" in batch:
            values = batch["values"]
            if generator is not None and "mirrored" in batch:
                flipped = torch.rand(len(batch["index"]), generator=generator) < 0.5
                values = {
                    name: torch.where(flipped.view(-1, *[1] * (value.ndim - 1)), batch["mirrored"][name], value)
                    for name, value in values.items()
                }
            found["inputs"] = {name: value.to(device, non_blocking=True) for name, value in values.items()}
            return found
        images = batch["images"].to(device, non_blocking=True)
        if generator is not None:
            images = augment(images, "light", flip=self._opened().train.flip, generator=generator)
        found["images"] = found["inputs"] = self.preprocessing.normalise(images)
        return found

    def inputs(self, batch: Batch) -> Any:
        """Return the images, or what the frozen part of the encoder made of them."""
        return batch["inputs"]

    def example(self, batch_size: int, device: torch.device) -> Batch:
        """Return a prepared batch of images: captioners that are cut at different maps keep different values."""
        train = self._opened().train
        return self.prepare(train.with_images([i % len(train) for i in range(batch_size)]), device)

    def predict(self, model: nn.Module, batch: Batch) -> list[list[Written]]:
        """Return the best sentences of each image, as numbers of words, the best first."""
        return self._write(model, batch["inputs"])

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return cross entropy: its mean over words, or the mean over sentences of its sums."""
        words, lengths = batch["words"], batch["lengths"]
        logits = model(batch["inputs"], words)
        inside = torch.arange(words.shape[1], device=words.device) < lengths[:, None]
        total = F.cross_entropy(
            logits.float().flatten(0, 1),
            words.masked_fill(~inside, -100).flatten(),
            reduction="sum",
            label_smoothing=self._settings.smoothing,
        )
        loss = total / (lengths.sum() if self._settings.loss == "word" else len(words))
        return loss, {}

    def metrics(self) -> CaptionMetrics:
        """Return the scores of a whole test set."""
        return CaptionMetrics()

    def score(self, model: nn.Module, batch: Batch, metrics: CaptionMetrics) -> None:
        """Write a sentence for each image of a batch, and add it to the scores."""
        numbers, images = batch["index"].tolist(), self._opened().test.images
        sentences = [self.vocabulary.decode(best[0].words) for best in self.predict(model, batch)]
        metrics.update(sentences, [images[number] for number in numbers], numbers)

    def write_results(self, metrics: CaptionMetrics, folder: Path) -> None:
        """Write ``captions.json``: every test image's sentence, and the true ones."""
        metrics.write(folder)

    def describe(self, model: nn.Module, image: Any, *, beam: int | None = None) -> list[Sentence]:
        """Return the best sentences about one image, the best first.

        Args:
            model: a network of this task, on any device; it is left as it was.
            image: an image in any form that :func:`whatwhere.look` takes.
            beam: how many beginnings the search keeps, and how many sentences it returns; by default as in training.

        Raises:
            WhatwhereError: an image that cannot be read.
        """
        images = self._normalised(self.preprocessing.image(image), model)
        with evaluation_mode(model), torch.no_grad():
            (found,) = self._write(model, images, beam)
        return [Sentence(self.vocabulary.decode(one.words), one.log_probability, one.ended) for one in found]

    def attended(self, attention: str) -> dict[str, Any]:
        """Return the config with another attention, KIND or KIND:layers=N, over the last maps that ``attend`` names."""
        arm, named = CaptionArm.parse(attention), self._settings.attend
        if named and len(named) < arm.layers:
            raise WhatwhereError(f"{attention} needs {arm.layers} maps, but attend names {' '.join(named)}")
        attend = list(named[len(named) - arm.layers :])
        return {**self.config, "attention": arm.kind, "layers": 1 if attend else arm.layers, "attend": attend}

    @classmethod
    def all_attentions(cls) -> tuple[str, ...]:
        """Return the kinds that read maps of the encoder."""
        return cls.attentions

    @classmethod
    def describe_attention(cls, text: str) -> str:
        """Return what a kind of attention is, in words."""
        return CaptionArm.parse(text).title

    def widened(self, extra: int) -> dict[str, Any]:
        """Return the config of the captioner without attention, with a longer state."""
        return {**self.attended("none"), **wider_decoder(self._settings, len(self.vocabulary), self.size, extra)}

    def narrowed(self, multiply_adds: int) -> dict[str, Any]:
        """Raise: a captioner's multiply-adds are not those of its encoder alone."""
        raise CannotNarrow("how to narrow a captioner to a number of multiply-adds is not known")

    def share_data(self, earlier: Task) -> None:
        """Take over the images that an earlier task has open, if they are the same."""
        if isinstance(earlier, Caption) and all(earlier.config[k] == self.config[k] for k in ("data", "resolved")):
            self.splits = earlier.splits

    def describe_data(self) -> str:
        """Return the data in words."""
        return self._opened().describe()

    def describe_image(self, index: int) -> str:
        """Return a test image in words: its name, and a true sentence."""
        image = self._opened().test.images[index]
        return f"{Path(image.path).name}, “{image.captions[0]}”"

    def look(self, model: nn.Module, image: Any, *, target: str | None = None, title: str | None = None) -> Drawing:
        """Draw what the network attends to for each word of the sentence it writes, or of the sentence ``target``."""
        found = self.view(model, image, target=target, title=title)
        return Drawing(found.caption, found.figure, found)

    def view(self, model: nn.Module, image: Any, *, target: str | None = None, title: str | None = None) -> CaptionLook:
        """Return what :meth:`look` draws; its ``save`` also writes an animated page or GIF.

        Args:
            model: a network of this task, on any device; it is left as it was.
            image: the number of a test image, or an image in any form that :func:`whatwhere.look` takes.
            target: a sentence to be followed in place of the network's own.
            title: a line above the figure.

        Raises:
            WhatwhereError: an image that cannot be read, or a sentence without words.
        """
        references: Sequence[str] = ()
        words: Sequence[int] | None = None
        if isinstance(image, int):
            test = self._opened().test
            pixels = test.fetch(image)
            if pixels is None:
                raise WhatwhereError(f"{test.name(image)} cannot be read")
            references = test.images[image].captions
        else:
            pixels = self.preprocessing.image(image)
        images = self._normalised(pixels, model)
        if target is not None and not (words := self.vocabulary.encode(target)):
            raise WhatwhereError(f"target={target!r} has no words")
        with evaluation_mode(model), torch.no_grad():
            if words is None:
                words = self._write(model, images)[0][0].words
            seen = look_at_words(model, images, words, self.vocabulary)  # type: ignore[arg-type]
        shown = pixels.permute(1, 2, 0).numpy()
        layers: tuple[str, ...] = model.cut.names if seen[0].spatial else ()  # type: ignore[union-attr, assignment]
        return CaptionLook(shown, tuple(seen), layers, tuple(references), title)

    def _normalised(self, pixels: Tensor, model: nn.Module) -> Tensor:
        return self.preprocessing.normalise(pixels[None].to(next(model.parameters()).device))

    def _write(self, model: nn.Module, inputs: Any, beam: int | None = None) -> list[list[Written]]:
        return write(
            model,  # type: ignore[arg-type]
            inputs,
            beam=self._settings.beam if beam is None else beam,
            longest=self._settings.data.most_words,
            length_power=self._settings.length_power,
            never=(UNKNOWN,),
        )

    def _opened(self) -> CaptionSplits:
        if self.splits is None:
            splits = open_captions(
                self._settings.data,
                default_size=self.size,
                vocabulary=self.vocabulary,
                in_memory=not self._settings.keeps_values,
            )
            if splits.train.size != self.size:
                raise WhatwhereError(
                    f"the data {self._settings.data.data} has changed: its images now have {splits.train.size} pixels, "
                    f"this task was made for {self.size}"
                )
            self.splits = splits
        return self.splits

    def _with_frozen_values(self) -> CaptionSplits:
        """Open the images; where a part of the encoder is frozen, with what that makes of them."""
        splits = self._opened()
        if self._settings.keeps_values and not self._with_values:
            model = self.build(0)
            if model.cut.frozen.operations:  # otherwise all of the encoder learns
                for part, mirrored in ((splits.train, self._mirrors(splits)), (splits.test, False)):
                    part.use_values(*cached_values(model, part, self.preprocessing.normalise, mirrored=mirrored))
        self._with_values = True
        return splits

    def _mirrors(self, splits: CaptionSplits) -> bool:
        return self._settings.augment == "light" and splits.train.flip
