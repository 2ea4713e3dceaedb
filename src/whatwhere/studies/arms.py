"""The arms of a study: the networks that are trained side by side."""

import re
from dataclasses import dataclass, replace

import torch

from ..checkpoints import build
from ..cost import count_parameters
from ..layers import entry, parse
from ..networks import ModelConfig, widen
from .config import StudyConfig


@dataclass(frozen=True)
class Arm:
    """One network of a study.

    Attributes:
        name: as on the command line, ``plain``, ``cbam:paper``, or ``wider``.
        model: how to build it.
        note: what it is, in words.
    """

    name: str
    model: ModelConfig
    note: str

    @property
    def slug(self) -> str:
        """The name as a folder."""
        return re.sub(r"[^A-Za-z0-9.+=_-]", "-", self.name)


def make_arms(config: StudyConfig, classes: int, size: int) -> tuple[list[Arm], list[str]]:
    """Return the plain arm, one a spec, and the control, with remarks (why there is no control, say)."""
    plain = replace(config.network, attention="none", classes=classes)
    if plain.weights is not None:
        with torch.random.fork_rng(devices=[]):
            build(plain, size)  # a file that does not fit is found out before the first run
    arms = [Arm("plain", plain, "no attention")]
    most = 0
    for text in config.specs:
        spec = parse(text)
        start = "identity start" if spec.identity else "the paper's form"
        model = replace(plain, attention=text)
        arms.append(Arm(text, model, f"{entry(spec.name).title}, {start}"))
        with torch.random.fork_rng(devices=[]):
            most = max(most, count_parameters(build(model.untrained(), size)))
    remarks = []
    if config.control:
        wider = None if plain.trained else widen(plain, most, size)
        if wider is not None:
            arms.append(Arm("wider", wider, "no attention, more channels: the same-cost control"))
        elif plain.trained:
            remarks.append("No same-cost control: a widened network has no pretrained weights to start from.")
        else:
            remarks.append(f"No same-cost control: how to widen {config.model!r} is not known.")
    return arms, remarks
