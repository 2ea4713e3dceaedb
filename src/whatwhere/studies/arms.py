"""The arms of a study: the networks that are trained side by side."""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..cost import count_parameters
from ..cost.measure import multiply_adds_of
from ..errors import WhatwhereError
from ..tasks import CannotNarrow, CannotWiden, Task, create
from .config import StudyConfig


@dataclass(frozen=True)
class Arm:
    """One network of a study.

    Attributes:
        name: as on the command line, ``plain``, ``cbam:paper``, or ``wider``.
        task: the name of the task.
        config: the task's ``config`` with this network.
        note: what it is, in words.
    """

    name: str
    task: str
    config: dict[str, Any]
    note: str

    @property
    def slug(self) -> str:
        """The name as a folder."""
        return re.sub(r"[^A-Za-z0-9.+=_-]", "-", self.name)

    def build(self) -> nn.Module:
        """Return the network with random weights."""
        with torch.random.fork_rng(devices=[]):
            return create(self.task, self.config).build(0, pretrained=False)


def make_arms(config: StudyConfig, task: Task) -> tuple[list[Arm], list[str]]:
    """Return the plain arm, one for each attention, those with ghost convolutions, and the controls, with remarks (why
    there is no control, for example).

    Raises:
        WhatwhereError: the task's network has attention already, an attention finds no site in it, or its weights do
            not fit.
    """
    network = task.network
    if network is not None and network.attention != "none":
        raise WhatwhereError(
            f"the network of a study is plain, but its config has attention={network.attention!r}: name it in the "
            "study's own attention="
        )
    arms = [Arm("plain", task.name, task.attended("none"), "no attention")]
    if network is not None and network.weights is not None:
        create(task.name, arms[0].config).build(0)  # a file that does not fit is found before the first run
    for text in config.specs:
        arms.append(Arm(text, task.name, task.attended(text), task.describe_attention(text)))
    attended = list(arms)
    for ghost in config.ghosts:
        for arm in attended:
            name = f"ghost:{ghost}" + ("" if arm.name == "plain" else f"+{arm.name}")
            note = f"ghost convolutions, {arm.note}"
            arms.append(Arm(name, task.name, create(task.name, arm.config).ghosted(ghost), note))
    remarks = []
    if config.control and config.specs:
        parameters = [count_parameters(arm.build()) for arm in attended]
        try:
            wider = task.widened(max(parameters) - parameters[0])
        except CannotWiden as why:
            remarks.append(f"No same-cost control for attention: {why}.")
        else:
            arms.append(Arm("wider", task.name, wider, "no attention, more channels: the same-cost control"))
    if config.control and config.ghosts:
        batch = task.example(1, torch.device("cpu"))
        try:
            narrower = task.narrowed(multiply_adds_of(arms[len(attended)].build(), batch, task.predict))
        except CannotNarrow as why:
            remarks.append(f"No same-cost control for ghost convolutions: {why}.")
        else:
            note = f"no attention, fewer channels: as many multiply-adds as {arms[len(attended)].name}"
            arms.append(Arm("narrower", task.name, narrower, note))
    return arms, remarks
