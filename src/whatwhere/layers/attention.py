"""What every attention is: something that gives gates for a map, and multiplies the map by them."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from .. import ops


class Gates(NamedTuple):
    """The gates that an attention multiplies a map ``(N, C, H, W)`` by; what is None is not there.

    Attributes:
        channel: "what", ``(N, C, 1, 1)``.
        spatial: "where", ``(N, 1, H, W)``.
        full: a gate that is not a product of the two, ``(N, C, H, W)`` (BAM, parallel CBAM).
    """

    channel: Tensor | None = None
    spatial: Tensor | None = None
    full: Tensor | None = None

    def channel_view(self) -> Tensor | None:
        """Return one number per channel, ``(N, C)``: the channel gate, or the mean of the full gate over the positions."""
        if self.channel is not None:
            return self.channel.flatten(1)
        return None if self.full is None else self.full.mean((2, 3))

    def spatial_view(self) -> Tensor | None:
        """Return one number per position, ``(N, H, W)``: the spatial gate, or the mean of the full gate over the channels."""
        if self.spatial is not None:
            return self.spatial[:, 0]
        return None if self.full is None else self.full.mean(1)


class Attention(nn.Module):
    """Base of all attentions; calling the module returns ``x`` times its gates.

    A subclass defines :meth:`steps`, if its gates are made by squeezing and weighing alone (then no pass over the map is more than it
    must be), or else :meth:`gates`.

    Attributes:
        channels: C of the maps it takes.
        identity: whether its gates start at exactly 1.
    """

    identity: bool | str = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    @property
    def neutral(self) -> float:
        """The gate that says nothing: what a gate is where the weighed number z is 0."""
        return 1.0 if self.identity else 0.5

    @property
    def channel_neutral(self) -> float:
        """The same of the channel gate, where the two gates of an attention start differently."""
        return self.neutral

    def steps(self) -> Sequence[ops.Step]:
        """Return how the gates are made: one or two squeezes with what weighs them; nothing where they are made in another way."""
        return ()

    def gates(self, x: Tensor) -> Gates:
        """Return the gates for a map ``(N, C, H, W)`` without applying them."""
        steps = self.steps()
        if not steps:
            raise NotImplementedError(f"{type(self).__name__} has no gates")
        return Gates(*ops.gates(x, steps))

    def reset_parameters(self) -> None:
        """Draw the parameters anew, as at construction (after ``to_empty`` of a module made on the meta device, say)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` times its gates, ``(N, C, H, W)`` → ``(N, C, H, W)``, in the dtype of ``x``."""
        return self.attend(x)

    def attend(
        self, x: Tensor, *, norm: nn.BatchNorm2d | None = None, residual: Tensor | None = None, relu: bool = False
    ) -> Tensor:
        """Return the tail of a residual block in one: relu(attention(norm(x)) + residual); what is not given is left out."""
        steps = self.steps()
        if steps and "gates" not in self.__dict__:  # somebody who listens to the gates puts his own there
            return ops.attend(x, steps, norm=norm, residual=residual, relu=relu)
        u = x if norm is None else type(norm).forward(norm, x)
        return ops.apply_gates(u, *self.gates(u), residual=residual, relu=relu)
