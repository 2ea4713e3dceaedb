"""The commands that print facts: cost, sites, names, warmup. Each is a dataclass whose fields are its options."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from .. import ops
from ..checkpoints import build
from ..errors import WhatwhereError
from ..layers import entry, names, parse
from ..layers.registry import Kind
from ..networks import ModelConfig
from ..placement import sites
from ..tables import markdown_table
from .show import OUT, make_table

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Cost:
    """Measure what attention costs: parameters, multiply-adds, time of a training step and of inference, memory.

    Try:
        whatwhere cost resnet50 --attention cbam
        whatwhere cost efficientnet_b0 --attention se cbam:reduction=8 --batch-size 8 --size 160
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NETWORK")]
    """A small network of ours or any timm model."""
    attention: tuple[str, ...] = ("cbam",)
    """Attentions beside the plain network."""
    size: int = 224
    """Side of the images in pixels."""
    batch_size: int = 8
    """Images in a batch."""
    channels_last: bool = False
    """Measure in the channels-last memory format."""
    device: str | None = None
    """By default the GPU where there is one."""
    seconds: float = 6.0
    """How long each network is timed, roughly."""

    def run(self) -> None:
        """Measure and print."""
        import torch

        from ..cost.measure import default_device, measure_costs

        specs = [spec for word in self.attention for spec in word.split(",") if spec]
        models: dict[str, nn.Module] = {}
        for spec in ["none", *specs]:
            parse(spec)
            models[spec] = build(ModelConfig(name=self.model, attention=spec, classes=1000), self.size)
        device = default_device(self.device)
        memory_format = torch.channels_last if self.channels_last else torch.contiguous_format
        images = torch.randn(self.batch_size, 3, self.size, self.size, generator=torch.Generator().manual_seed(0))
        with OUT.status("measuring"):
            costs = measure_costs(
                models,
                images.to(device, memory_format=memory_format),
                self.batch_size,
                device=device,
                channels_last=self.channels_last,
                seconds=self.seconds,
            )
        plain = costs["none"]
        rows = []
        for name, cost in costs.items():
            more = cost.parameters / plain.parameters - 1, cost.multiply_adds / plain.multiply_adds - 1
            rows.append(
                [
                    name,
                    f"{cost.parameters:,}\n+{100 * more[0]:.2f} %",
                    f"{cost.multiply_adds / 1e6:,.1f} M\n+{100 * more[1]:.3f} %",
                    *(
                        f"{t.median:.1f} ×{t.median / p.median:.2f}\n{t.low:.1f} to {t.high:.1f}"
                        for t, p in ((cost.step, plain.step), (cost.inference, plain.inference))
                    ),
                    f"{cost.memory / 1e6:.1f}\n×{cost.memory / plain.memory:.2f}",
                ]
            )
        titles = ["attention", "parameters", "multiply-\nadds", "step ms\nquartiles", "inference ms\nquartiles"]
        titles.append("memory MB\nof a step")
        OUT.print(make_table(titles, rows))
        OUT.print(
            f"{self.model}, {self.size}×{self.size}, batches of {self.batch_size}, on {plain.device}", markup=False
        )


@dataclass(frozen=True)
class Sites:
    """List the sites where attention would go in a network, and why there.

    Try:
        whatwhere sites resnet50
        whatwhere sites mobilenetv3_large_100 --size 160
        whatwhere sites resnet50 --at norm --stages -2 -1
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NETWORK")]
    """A small network of ours or any timm model."""
    size: int = 224
    """Side of the image that is run through it once."""
    at: tuple[str, ...] = ()
    """Which sites: globs over sites or modules, or residual, stage, norm; by default those that insert takes."""
    stages: tuple[int, ...] = ()
    """Only these stages, from 0 for the largest maps, or negative from the end."""

    def run(self) -> None:
        """Find and print."""
        import torch

        model = build(ModelConfig(name=self.model, classes=1000), self.size)
        found = sites(model, torch.zeros(1, 3, self.size, self.size), at=self.at or None, stages=self.stages or None)
        rows = [[s.module, s.kind, str(s.stage), str(s.channels), f"{s.size[0]}×{s.size[1]}", s.why] for s in found]
        OUT.print(make_table(["module", "kind", "stage", "channels", "map", "why"], rows, left=(0, 1, 5)))


@dataclass(frozen=True)
class Names:
    """List the attentions.

    Try:
        whatwhere names
        whatwhere names --kind channel line
        whatwhere names --markdown
    """

    kind: tuple[Kind, ...] = ()
    """Only these: gates of channels, of positions (spatial), of both, of rows and columns (line), of every element
    (full); what adds to the map (residual), replaces a convolution, or permutes channels."""
    markdown: bool = False
    """Print a table in Markdown."""

    def run(self) -> None:
        """Print."""
        found = [one for one in map(entry, names()) if not self.kind or one.kind in self.kind]
        if self.markdown:
            rows = [[f"`{e.name}`", e.kind, e.title, re.sub(r", arXiv [\d.]+$", "", e.paper)] for e in found]
            print(markdown_table(["name", "kind", "what it is", "paper"], rows))
        else:
            OUT.print(
                make_table(["name", "kind", "what it is"], [[e.name, e.kind, e.title] for e in found], left=range(3))
            )


@dataclass(frozen=True)
class WarmUp:
    """Compile the fast kernels for this machine now, so that no first call waits for them. They are kept on disk.

    Try:
        whatwhere warmup
        whatwhere warmup --dtypes float32 bfloat16 float16
    """

    dtypes: tuple[Literal["float32", "bfloat16", "float16", "float64"], ...] = ("float32", "bfloat16")
    """Dtypes of the maps to come."""

    def run(self) -> None:
        """Compile, and say what is ready."""
        done = []
        with OUT.status("compiling") as status:
            for backend, dtype in ops.warm_up(self.dtypes):
                done.append((backend, dtype))
                status.update(f"compiling; ready: {', '.join(f'{b} {d}' for b, d in done)}")
        if not done:
            raise WhatwhereError(
                "no fast backend can run here: pip install 'whatwhere[fast]' for the CPU, or a CUDA device"
            )
        for backend, dtype in done:
            OUT.print(f"{backend} kernels for {dtype} maps are ready")
