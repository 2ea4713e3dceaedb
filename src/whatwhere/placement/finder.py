"""From the values of a recorded forward pass back to the modules that attention can be attached to."""

import fnmatch
import functools

from torch import nn

from ..graph.values import Call, Trace
from ..layers import Attention
from .residual import Add, residual_adds
from .site import Kind, Side, Site
from .stages import stage_ends

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)  # a child added to these would be run
_POINTWISE = {"alias", "clone", "detach", "div", "mul", "native_dropout", "_to_copy", "view", "_unsafe_view", "permute"}
_POINTWISE |= {"relu", "hardtanh", "silu", "gelu", "hardswish", "leaky_relu", "elu", "sigmoid", "tanh", "mish"}
_SLICES = {"slice", "split", "split_with_sizes", "narrow"}

Found = tuple[int, Site]  # the value that attention is applied to, and the site


class Finder:
    """Finds sites of each kind in one recorded forward pass of a model.

    Attributes:
        adds: the residual adds.
        missed: those of them without a module that attention can be attached to, as of the last call of
            :meth:`residual`.
        single: whether one convolution makes a residual branch or a stage. It usually takes more: this is for networks
            in which nothing is found otherwise.
    """

    def __init__(self, model: nn.Module, record: Trace) -> None:
        self.model = model
        self.trace = record
        self.adds = residual_adds(record)
        self.missed: list[Add] = []
        self.single = False
        self.modules = dict(model.named_modules())
        self.times = record.times()
        self.calls = {call.name: call for call in record.calls}
        self.producers: dict[int, list[Call]] = {}
        self.passers: dict[int, list[Call]] = {}
        for call in record.calls:
            if call.output is not None and call.produces:
                self.producers.setdefault(call.output, []).append(call)
            elif call.output is not None and call.passes_through:
                self.passers.setdefault(call.output, []).append(call)
        for call in record.calls:
            # A module with attention returns what the attention made; it has made what that was given.
            owner, given = self.calls.get(call.name.removesuffix(".attention")), (*call.inputs, None)[0]
            if given is None or not isinstance(self.modules[call.name], Attention):
                continue
            if owner is not None and owner is not call and owner.output == call.output:
                self.producers.setdefault(given, []).append(owner)
        if not self.adds and not self.token_sums() and not self.stage():
            self.allow_single()

    def allow_single(self) -> None:
        """Let one convolution be enough, if that gives two sites or more."""
        self.single, self.adds = True, residual_adds(self.trace, single=True)
        if len(self.residual()) + len(self.stage()) < 2:
            self.single, self.adds, self.missed = False, [], []

    def residual(self) -> list[Found]:
        """Return the last layer of each residual branch."""
        found: dict[str, Found] = {}
        self.missed = []
        for add in self.adds:
            end = self.branch_end(add)
            if end is None:
                self.missed.append(add)
                continue
            name, side, value, scaled = end
            words = "end of a residual branch, on the way in" if side == "input" else "last layer of a residual branch"
            where = (
                f"{', in front of its layer scale' if scaled else ''}, before the add with {self.origin(add.shortcut)}"
            )
            found.setdefault(name, self.site(name, "residual", value, words + where, side))
        return list(found.values())

    def stage(self) -> list[Found]:
        """Return the end of each stage."""
        found: dict[str, Found] = {}
        convolutions = 1 if self.single else 2
        for end in stage_ends(self.trace, lambda value: self.producer(value) is not None, self.leaving, convolutions):
            name = self.producer(end)
            assert name is not None
            height, width = self.trace.values[end].shape[2:]
            found[name] = self.site(name, "stage", end, f"last layer of the stage at {height} × {width}")
        return list(found.values())

    def norm(self) -> list[Found]:
        """Return the normalisation layers directly after a convolution."""
        found = []
        for call in self.trace.calls:
            if "norm" not in type(self.modules[call.name]).__name__.lower() or not call.produces or call.hidden:
                continue
            before = call.inputs[0] if call.inputs else None
            if before is None or not self.trace.values[before].is_convolution or self.hindrance(call.name):
                continue
            assert call.output is not None
            why = f"normalisation after the convolution {self.origin(before)}"
            found.append(self.site(call.name, "norm", call.output, why))
        return found

    @functools.cached_property
    def default(self) -> list[Found]:
        """The residual sites; or the ends of stages if there are none; or both if most stages have no residual site."""
        residual = self.residual()
        served = {site.size for _, site in residual}
        rest = [found for found in self.stage() if found[1].size not in served]
        return residual + rest if len(rest) > len(served) else residual

    def named(self, pattern: str) -> tuple[list[Found], dict[str, str]]:
        """Return sites at the modules whose names match a glob, and the reasons why others that match cannot be sites.

        A container such as ``nn.Sequential`` stands for the module inside it that makes what it returns. One map gets
        attention once.
        """
        found: dict[int, Found] = {}
        reasons: dict[str, str] = {}
        for name in self.modules:
            if not name or not fnmatch.fnmatchcase(name, pattern):
                continue
            reason = self.hindrance(name)
            if reason:
                reasons[name] = reason
                continue
            value = self.calls[name].output
            assert value is not None
            makers = [call.name for call in self.producers.get(value, []) if self.usable(call.name)]
            inside = [maker for maker in makers if maker.startswith(f"{name}.")]
            best = name if self.usable(name) else (inside or makers)[-1]
            why = f"named {pattern!r}" if best == name else f"named {pattern!r}: it makes what {name} returns"
            found.setdefault(value, self.site(best, "module", value, why))
        return list(found.values()), reasons

    def branch_end(self, add: Add) -> tuple[str, Side, int, bool] | None:
        """Return module, side and value for the end of a residual branch: walk back from the add to the first module.

        If the map there is already multiplied by a layer scale, walk on to the module in front of the scale, also if
        that returns ``(N, H, W, C)``, or else to the input of a module that only scales. The last item says whether
        that happened.
        """
        value: int | None = add.branch
        scaled = False
        behind: tuple[str, Side, int, bool] | None = None
        while value is not None and (add.own >> value) & 1 and self.trace.values[value].grid is not None:
            end, here = self.module_at(value), self.is_scaled(value)
            if end and not here:
                return *end, value, scaled
            if behind and not here and self.trace.values[value].op != "permute":
                break
            if end:
                behind = self.scaling(value) or behind or (*end, value, False)
            scaled = scaled or here
            value = self.step_back(value)
        return behind

    def scaling(self, value: int) -> tuple[str, Side, int, bool] | None:
        """Return the module that only scales a map to ``value``, if there is one, as a site on its input."""
        here = self.trace.values[value]
        for call in self.producers.get(value, []):
            if here.is_scaled and call.inputs[:1] == here.parents and here.is_map and self.usable(call.name):
                return call.name, "input", here.parents[0], True
        return None

    def is_scaled(self, value: int) -> bool:
        """Whether a value is multiplied by numbers that do not depend on the input, the order of its axes aside."""
        here = self.trace.values[value]
        return self.is_scaled(here.parents[0]) if here.op == "permute" else here.is_scaled

    def module_at(self, value: int) -> tuple[str, Side] | None:
        """Return the innermost usable module that made ``value``, else the last one that returned it unchanged."""
        name = self.producer(value)
        if name is not None:
            return name, "output" if self.trace.values[value].is_map else "nhwc"
        through = [call.name for call in self.passers.get(value, []) if self.usable(call.name)]
        return (through[-1], "input") if through and self.trace.values[value].is_map else None

    def producer(self, value: int) -> str | None:
        """Return the innermost usable module that made ``value``."""
        return next((call.name for call in self.producers.get(value, []) if self.usable(call.name)), None)

    def step_back(self, value: int) -> int | None:
        """Return what ``value`` was made from if a pointwise function, a slice of channels, or an attention made it."""
        for call in self.producers.get(value, []):
            if isinstance(self.modules[call.name], Attention):
                return call.inputs[0]
        here = self.trace.values[value]
        if here.op in _SLICES and len(here.parents) == 1:
            wide = self.trace.values[here.parents[0]]
            return here.parents[0] if wide.is_map and wide.shape[2:] == here.shape[2:] else None
        if here.op == "permute" and self.trace.values[here.parents[0]].grid == here.grid:
            return here.parents[0]
        same = [parent for parent in here.parents if self.trace.values[parent].shape == here.shape]
        return same[0] if here.op in _POINTWISE and len(same) == 1 else None

    def leaving(self, value: int) -> bool:
        """Whether ``value`` is made inside a block that takes a map of its resolution and returns a coarser one."""
        name = self.producer(value) or ""
        grid = self.trace.values[value].grid
        blocks = {name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1)}
        for call in (self.calls[block] for block in blocks if block in self.calls):
            if isinstance(self.modules[call.name], _CONTAINERS) or call.output is None or not call.inputs:
                continue
            given = self.trace.values[call.inputs[0]].grid if call.inputs[0] is not None else None
            if given == grid and self.trace.values[call.output].positions < self.trace.values[value].positions:
                return True
        return False

    def usable(self, name: str) -> bool:
        """Whether attention can become a child of this module and be applied at its every call."""
        module = self.modules[name]
        if name == "" or self.times[name] != 1 or isinstance(module, (*_CONTAINERS, Attention)):
            return False
        if self.inside_attention(name):
            return False
        return isinstance(getattr(module, "attention", None), Attention) or not hasattr(module, "attention")

    def hindrance(self, name: str) -> str:
        """Say why attention cannot be applied to what a module returns; an empty string if it can."""
        if isinstance(self.modules[name], Attention) or self.inside_attention(name):
            return "is attention itself"
        if self.times[name] != 1:
            return f"runs {self.times[name]} times in one forward pass"
        value = self.calls[name].output
        if value is None or not self.trace.values[value].is_map:
            return "returns no (N, C, H, W) map"
        if self.usable(name):
            return ""
        makers = [call.name for call in self.producers.get(value, []) if self.usable(call.name)]
        if isinstance(self.modules[name], _CONTAINERS):
            return "" if makers else "is a container, and nothing in it that runs once makes what it returns"
        return "has something else called 'attention'"

    def inside_attention(self, name: str) -> bool:
        """Whether this is a part of an attention."""
        parts = name.split(".")
        above = (self.modules.get(".".join(parts[:depth])) for depth in range(1, len(parts)))
        return any(isinstance(parent, Attention) for parent in above)

    def token_sums(self) -> int:
        """Return how many adds of tokens or of ``(N, H, W, C)`` maps there are."""
        return sum(1 for v in self.trace.values if v.addends and len(v.shape) >= 3 and not v.is_map and not v.hidden)

    def nothing(self, kind: str = "") -> str:
        """Say why there is no site (of one kind)."""
        convolutions = sum(value.is_convolution for value in self.trace.values)
        sums = self.token_sums()
        tokens = f" and {sums} of tokens or channels-last maps, as transformers have them" if sums else ""
        needed = "a convolution" if self.single else "two convolutions"
        return (
            f"no {kind and kind + ' '}site for attention in {type(self.model).__name__}: "
            f"its forward pass had {convolutions} convolutions, {len(self.adds)} residual adds of (N, C, H, W) "
            f"maps{tokens}, and {len(self.stage())} stretches of one resolution with {needed} that end in a module "
            "called exactly once. Name modules that return such maps with at=, or put attention in "
            "by hand with whatwhere.create"
        )

    def origin(self, value: int) -> str:
        """Say in words where a value came from."""
        names = [call.name for call in self.producers.get(value, []) if call.name]
        return names[-1] if names else "what came in" if self.trace.values[value].op == "input" else "the shortcut"

    def site(self, name: str, kind: Kind, value: int, why: str, side: Side = "output") -> Found:
        """Describe a site."""
        made = self.trace.values[value]
        assert made.grid is not None
        channels = made.shape[3 if side == "nhwc" else 1]
        return value, Site(name, kind, channels, made.grid, why, side, device=made.device, dtype=made.dtype)
