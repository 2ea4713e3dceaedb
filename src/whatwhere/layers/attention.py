"""The base classes of all attentions."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

from torch import Tensor, nn

from .. import ops
from .excitation import Excitation
from .incoming import takes_maps
from .key_map import KeyMap, Shapes
from .official import load_official
from .recording import FACTORY, options_of_class, recording


class Gates(NamedTuple):
    """The gates that an attention multiplies a map ``(N, C, H, W)`` by; what is None is not there.

    Attributes:
        channel: "what", ``(N, C, 1, 1)``.
        spatial: "where", ``(N, 1, H, W)``.
        full: a gate that is not a product of the two, ``(N, C, H, W)`` (BAM, DFC, parallel CBAM).

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.Gates(full=torch.rand(2, 8, 4, 4)).spatial_view().shape
        torch.Size([2, 4, 4])
    """

    channel: Tensor | None = None
    spatial: Tensor | None = None
    full: Tensor | None = None

    def channel_view(self) -> Tensor | None:
        """Return one number per channel, ``(N, C)``: the channel gate, or the full gate's mean over positions."""
        if self.channel is not None:
            return self.channel.flatten(1)
        return None if self.full is None else self.full.mean((2, 3))

    def spatial_view(self) -> Tensor | None:
        """Return one number per position, ``(N, H, W)``: the spatial gate, or the full gate's mean over channels."""
        if self.spatial is not None:
            return self.spatial[:, 0]
        return None if self.full is None else self.full.mean(1)


class Attention(nn.Module):
    """Base of all attentions: registered modules ``(N, C, H, W)`` → ``(N, C, H, W)``.

    A subclass takes the channels, then keyword-only options, among them ``identity``, ``device`` and ``dtype``, and
    defines ``forward``. An attention that multiplies its input by gates derives from :class:`GatedAttention` instead.
    Before ``forward`` and ``gates`` of a subclass run, what is no floating map of its number of channels raises.

    Attributes:
        channels: C of the maps that it takes.
        identity: whether it returns its input unchanged at the start.
        init_options: the options of the constructor call that are not the defaults, without ``device`` and ``dtype``.
            Recorded by itself.
        key_maps: how other code names its tensors, see :class:`KeyMap`. Set by :func:`whatwhere.layers.register`.
    """

    identity: bool = False
    init_options: dict[str, Any]
    key_maps: ClassVar[tuple[KeyMap, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        """Record the options of every construction, and check every map that comes in."""
        super().__init_subclass__(**options)
        if not getattr(cls.__init__, "__records__", False):
            cls.__init__ = recording(cls.__init__)  # type: ignore[method-assign]
        takes_maps(cls)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def attend(
        self, x: Tensor, *, norm: nn.BatchNorm2d | None = None, residual: Tensor | None = None, relu: bool = False
    ) -> Tensor:
        """Return the tail of a residual block, relu(attention(norm(x)) + residual). What is not given is left out."""
        y = self(x if norm is None else type(norm).forward(norm, x))
        return ops.apply_gates(y, residual=residual, relu=relu)

    def reset_parameters(self) -> None:
        """Draw the parameters anew, as at construction. Needed after ``to_empty`` of a module on the meta device."""

    @property
    def idle_parameters(self) -> tuple[str, ...]:
        """The names of parameters that no output depends on, such as a bias before a softmax.

        They are there because the official code has them, and so do its checkpoints.
        """
        return ()

    def settings(self) -> dict[str, Any]:
        """Return the value of every option, each in one spelling only, for comparison with what a checkpoint implies.

        A subclass whose options have several spellings of the same thing overrides this, and leaves out options without
        effect.
        """
        options = options_of_class(type(self))
        defaults = {name: p.default for name, p in options.items() if name not in FACTORY}
        return {**defaults, **self.init_options}

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return the options with which this attention has tensors of these shapes, as far as shapes tell."""
        return {}

    def load_official(self, state_dict: Mapping[str, Tensor]) -> Self:
        """Load the state dict of one attention under the names of its official code or of another known code.

        The names may have a common prefix. Everything is checked first: on an error nothing has changed.

        Args:
            state_dict: all tensors of the attention and no others. A bias that dense layers have here and not there
                becomes 0, and a missing ``num_batches_tracked`` stays.

        Returns:
            The attention itself.

        Raises:
            WhatwhereError: names that are not known, tensors that are missing, left over or of another shape, an
                attention of another formula (its options, ``identity=True``).

        Example:
            >>> import torch, whatwhere as ww
            >>> attention = ww.ECA(64, kernel_size=3).load_official({"module.conv.weight": torch.ones(1, 1, 3)})
            >>> attention.conv.weight.flatten().tolist()
            [1.0, 1.0, 1.0]
        """
        load_official(self, self.key_maps, self.settings(), state_dict)
        return self

    def excitation(self) -> Excitation | None:
        """Return what another attention can take over from this one as from a squeeze-and-excitation, or None."""
        return None

    @classmethod
    def options_for_excitation(
        cls, excitation: Excitation, *, identity: bool, chosen: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Return the options with which this attention takes over a trained squeeze-and-excitation; None if it cannot.

        Args:
            excitation: what is taken over.
            identity: whether the new attention should compute what the old one did.
            chosen: options that the caller has chosen; they win over what is returned.
        """
        return None

    def take_excitation(self, excitation: Excitation) -> bool:
        """Take over the weights of a squeeze-and-excitation; return whether that was possible."""
        return False


class GatedAttention(Attention):
    """Base of the attentions that return ``x`` times their gates.

    A subclass defines :meth:`steps` if its gates are made by squeezing and exciting alone (no pass over the map is then
    more than it must be), or else :meth:`gates`.
    """

    @property
    def neutral(self) -> float:
        """The gate at z = 0, z being what the gate function is applied to."""
        return 1.0 if self.identity else 0.5

    @property
    def channel_neutral(self) -> float:
        """The channel gate at z = 0, where it differs from the spatial gate's."""
        return self.neutral

    def steps(self) -> Sequence[ops.Step]:
        """Return the one or two squeezes, each with what makes gates of it; empty if gates are made otherwise."""
        return ()

    def gates(self, x: Tensor) -> Gates:
        """Return the gates for a map ``(N, C, H, W)`` without applying them."""
        steps = self.steps()
        if not steps:
            raise NotImplementedError(f"{type(self).__name__} defines neither steps nor gates")
        return Gates(*ops.gates(x, steps))

    def after_channel_gate(self) -> Attention | None:
        """Return the attention that remains once the map has the channel gate applied; None if there is none."""
        return None

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` times its gates, ``(N, C, H, W)`` → ``(N, C, H, W)``, in the dtype of ``x``."""
        return self.attend(x)

    def attend(
        self, x: Tensor, *, norm: nn.BatchNorm2d | None = None, residual: Tensor | None = None, relu: bool = False
    ) -> Tensor:
        """Return the tail of a residual block, relu(attention(norm(x)) + residual), as one op."""
        steps = self.steps()
        if steps and "gates" not in self.__dict__:  # a listener to the gates replaces the method on the instance
            return ops.attend(x, steps, norm=norm, residual=residual, relu=relu)
        u = x if norm is None else type(norm).forward(norm, x)
        return ops.apply_gates(u, *self.gates(u), residual=residual, relu=relu)
