"""What a captioner's attention costs: time and memory of a training step, time of a written word, and what beam search
over many images at once saves."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from whatwhere.cli.show import ERR
from whatwhere.cost import Timing, time_in_turn
from whatwhere.errors import WhatwhereError
from whatwhere.layers.sca import SCA
from whatwhere.networks import ModelConfig
from whatwhere.networks.captioning.captioner import Captioner
from whatwhere.networks.captioning.decoding import END, write
from whatwhere.tables import markdown_table
from whatwhere.tasks.captioning.arms import CaptionArm
from whatwhere.tasks.captioning.config import CaptionConfig
from whatwhere.tasks.captioning.network import build_captioner
from whatwhere.training.machine import describe_machine

from .memory import saved_bytes

ARMS = ("none", "soft", "s", "c", "s-c", "c-s", "c-s:layers=2", "c-s:layers=3")


@dataclass(frozen=True)
class Captioning:
    """Time and count what the kinds of attention of a captioner cost, and compare beam search over many images at once
    with beams one after another.

    Try:
        python -m benchmarks.captioning
        python -m benchmarks.captioning --model resnet50 --attention-dim 512 --images 16
    """

    model: str = "small-resnet"
    """The encoder, with random weights."""
    size: int = 48
    """Side of the images, in pixels."""
    vocabulary: int = 2500
    """Words, end and unknown included."""
    hidden: int = 512
    """Length of the state."""
    attention_dim: int = 128
    """Length of the vectors inside tanh."""
    images: int = 16
    """Images a batch, each with one sentence."""
    words: int = 12
    """Words a sentence, its end included."""
    beam: int = 5
    """Beginnings that beam search keeps."""
    arms: tuple[str, ...] = ARMS
    """The kinds of attention."""
    seconds: float = 40.0
    """How long each of the three groups is timed; at least five rounds are made."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    asked = tyro.cli(Captioning, prog="python -m benchmarks.captioning", args=arguments)
    try:
        print(measure(asked))
    except WhatwhereError as error:
        ERR.print(str(error), markup=False, highlight=False)
        return 2
    return 0


def measure(asked: Captioning) -> str:
    """Return all tables."""
    torch.manual_seed(0)
    images = torch.randn(asked.images, 3, asked.size, asked.size)
    words = torch.randint(2, asked.vocabulary, (asked.images, asked.words))
    models = {arm: _model(asked, arm) for arm in asked.arms}
    share = asked.seconds
    steps = time_in_turn(
        {arm: _step(model, images, words) for arm, model in models.items()}, torch.device("cpu"), share
    )
    each = {arm: _write(model.eval(), images, 1, asked.words) for arm, model in models.items()}
    greedy = time_in_turn(each, torch.device("cpu"), share)
    kept = {
        arm: saved_bytes(lambda model=model: _loss(model.train(), images, words), model)
        for arm, model in models.items()
    }
    head = (
        f"{asked.model}, {asked.size}×{asked.size} pixels, {asked.vocabulary:,} words, state of {asked.hidden}, "
        f"attention over {asked.attention_dim}, {asked.images} images, sentences of {asked.words} words. Encoder not "
        "trained."
    )
    parts = [head, _costs(asked, steps, greedy, kept), _memory(asked), _beams(asked, models, images, share)]
    machine = ", ".join(f"{key} {value}" for key, value in describe_machine().items())
    return "\n\n".join([*parts, f"Measured on: {machine}, {torch.get_num_threads()} threads."])


def _model(asked: Captioning, arm: str) -> Captioner:
    found = CaptionArm.parse(arm)
    config = CaptionConfig(
        model=ModelConfig(asked.model),
        attention=found.kind,  # type: ignore[arg-type]
        layers=found.layers,
        hidden=asked.hidden,
        attention_dim=asked.attention_dim,
        trained_stages=0,
    )
    return build_captioner(config, asked.vocabulary, asked.size)


def _loss(model: Captioner, images: Tensor, words: Tensor) -> Tensor:
    return F.cross_entropy(model(images, words).flatten(0, 1), words.flatten())


def _step(model: Captioner, images: Tensor, words: Tensor) -> Callable[[], None]:
    def step() -> None:
        model.train()
        _loss(model, images, words).backward()
        model.zero_grad()

    return step


def _write(model: Captioner, images: Tensor, beam: int, longest: int) -> Callable[[], Any]:
    """Write sentences that never end before the longest length, so that all kinds write as many words."""
    return lambda: write(model, images, beam=beam, longest=longest, never=(END,))


def _costs(asked: Captioning, steps: dict[str, Timing], greedy: dict[str, Timing], kept: dict[str, int]) -> str:
    first = asked.arms[0]
    count = asked.images * asked.words
    rows = [
        [
            arm,
            _spread(steps[arm]),
            f"{steps[arm].median / steps[first].median:.2f}",
            _spread(greedy[arm], 1e3 / count),
            f"{greedy[arm].median / greedy[first].median:.2f}",
            f"{kept[arm] / 2**20:.1f}",
        ]
        for arm in asked.arms
    ]
    titles = [
        "attention",
        "training step, ms (quartiles)",
        f"× {first}",
        "a written word, µs (quartiles)",
        f"× {first}",
        "kept for backward, MiB",
    ]
    return markdown_table(titles, rows)


def _spread(timing: Timing, factor: float = 1.0) -> str:
    """Return the median with the quartiles."""
    return f"{factor * timing.median:.0f} ({factor * timing.low:.0f} to {factor * timing.high:.0f})"


class KeptScores(nn.Module):
    """The formulas of C-S in plain PyTorch, whose activations autograd keeps."""

    def __init__(self, attention: SCA) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, maps: Tensor, state: Tensor) -> Tensor:
        """Return the attended and pooled maps."""
        channel, spatial = self.attention.channel, self.attention.spatial
        assert channel is not None
        assert spatial is not None
        v = maps.mean(1)
        b = torch.tanh(v[..., None] * channel.weight + channel.bias + channel.query(state)[:, None])
        scaled = maps * (torch.softmax(b @ channel.vector, 1) * maps.shape[2])[:, None]
        a = torch.tanh(F.linear(scaled, spatial.weight, spatial.bias) + spatial.query(state)[:, None])
        alpha = torch.softmax(a @ spatial.vector, 1)
        return (scaled * alpha[..., None]).sum(1)


def _memory(asked: Captioning) -> str:
    """Return what is kept of C-S for one word of each sentence, and what plain PyTorch keeps."""
    rows = []
    for channels, side, inner in ((320, 7, 128), (2048, 7, 512)):
        attention = SCA(channels, asked.hidden, inner)
        x = torch.rand(asked.images, channels, side, side)
        state = torch.rand(asked.images, asked.hidden, requires_grad=True)
        maps = x.flatten(2).transpose(1, 2).contiguous()
        plain = KeptScores(attention)
        prepared = attention.prepare(x)
        ours = saved_bytes(lambda a=attention, p=prepared, s=state: a.pool(p, a.weigh(p, s[:, None])), attention)
        theirs = saved_bytes(lambda m=plain, v=maps, s=state: m(v, s), plain)
        own = maps.numel() * 4  # the maps themselves, kept in both
        rows.append(
            [
                f"{channels}×{side}×{side}, k = {inner}",
                f"{(ours - own) / 2**20:.2f}",
                f"{(theirs - own) / 2**20:.2f}",
                f"{(theirs - own) / max(1, ours - own):.0f}",
            ]
        )
    titles = [f"one C-S, a word of {asked.images} sentences", "kept, MiB", "kept by plain PyTorch, MiB", "ratio"]
    return markdown_table(titles, rows)


def _beams(asked: Captioning, models: dict[str, Captioner], images: Tensor, seconds: float) -> str:
    name = next((arm for arm in ("c-s", "soft") if arm in models), asked.arms[-1])
    model = models[name].eval()
    few = images[:4]
    calls = {
        f"all {len(few)} images at once": _write(model, few, asked.beam, asked.words),
        "image after image": lambda: [
            write(model, one[None], beam=asked.beam, longest=asked.words, never=(END,)) for one in few
        ],
        "image after image, beginning after beginning": lambda: [
            one_after_another(model, one[None], asked.beam, asked.words) for one in few
        ],
    }
    timings = time_in_turn(calls, torch.device("cpu"), seconds)
    first = next(iter(timings.values())).median
    rows = [
        [
            what,
            f"{t.median / len(few):.1f} ({t.low / len(few):.1f} to {t.high / len(few):.1f})",
            f"{t.median / first:.1f}",
        ]
        for what, t in timings.items()
    ]
    return markdown_table([f"beam {asked.beam}, {name}", "ms an image (quartiles)", "× the first"], rows)


@torch.no_grad()
def one_after_another(model: Captioner, image: Tensor, beam: int, longest: int) -> tuple[list[int], float]:
    """Beam search over one image that runs each beginning by itself, as a loop over hypotheses does."""
    encoded, state = model.encode(image)
    beginnings = [(list[int](), 0.0, state)]
    for _ in range(longest):
        found = []
        for words, score, before in beginnings:
            last = torch.tensor([[words[-1]]]) if words else None
            logits, after = model.step(encoded, before, last)
            likely = logits[0, 0].log_softmax(-1)
            likely[END] = -math.inf
            best = likely.topk(beam)
            found += [
                ([*words, word], score + value, after)
                for value, word in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            ]
        beginnings = sorted(found, key=lambda one: -one[1])[:beam]
    return beginnings[0][0], beginnings[0][1]


if __name__ == "__main__":
    sys.exit(main())
