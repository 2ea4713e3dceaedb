"""The captioner of SCA-CNN: an encoder whose last maps are attended anew for every word, and an LSTM."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import WhatwhereError, closest
from ...graph.cut import Cut
from ...layers.sca import Prepared, Weights, draw
from .attention import KINDS, ContextGate


@dataclass(frozen=True)
class CaptionerShape:
    """The sizes of a captioner's decoder.

    Attributes:
        vocabulary: how many words there are, the end of a sentence (number 0) among them.
        attention: a name of :data:`whatwhere.networks.captioning.attention.KINDS`.
        hidden: length of the LSTM's state; 1000 in the paper.
        word_dim: length of a word's vector; 100 in the paper.
        attention_dim: length of the vectors inside tanh; 512 in the paper.
        dropout: share of the numbers before and inside the output layer that are dropped in training.
        start: how weights are drawn: ``"scaled"`` (by the number of inputs) or ``"paper"``, N(0, 0.01²), square
            matrices orthogonal.
    """

    vocabulary: int
    attention: str = "c-s"
    hidden: int = 512
    word_dim: int = 256
    attention_dim: int = 128
    dropout: float = 0.5
    start: str = "scaled"

    def __post_init__(self) -> None:
        if self.attention not in KINDS:
            raise WhatwhereError(
                f"attention={self.attention!r}: must be one of {', '.join(KINDS)}{closest(self.attention, KINDS)}"
            )
        for name in ("hidden", "word_dim", "attention_dim"):
            if getattr(self, name) < 1:
                raise WhatwhereError(f"{name}={getattr(self, name)}: must be at least 1")
        if not 0 <= self.dropout < 1:
            raise WhatwhereError(f"dropout={self.dropout}: must be from 0 up to, but not, 1")
        if self.start not in ("scaled", "paper"):
            raise WhatwhereError(f"start={self.start!r}: must be 'scaled' or 'paper'")
        if self.vocabulary < 2:
            raise WhatwhereError(f"vocabulary={self.vocabulary}: a captioner needs the end of a sentence and a word")


class Encoded(NamedTuple):
    """What a captioner keeps of its images while it writes; nothing of it is copied for each of several sentences.

    Attributes:
        values: all values of the encoder that are needed once more for each word, by name.
        prepared: the first attended map, prepared; None without attention.
        context: ``(N, 1, C)`` where it is the same for every word; None with attention.
    """

    values: dict[str, Tensor]
    prepared: Prepared | None
    context: Tensor | None


class State(NamedTuple):
    """The state of the LSTM for R sentences of each image: h and c, ``(N, R, D)``."""

    h: Tensor
    c: Tensor

    def select(self, chosen: Tensor) -> "State":
        """Return the states of the sentences ``chosen``, ``int64 (N, R′)``."""
        index = chosen[..., None].expand(-1, -1, self.h.shape[-1])
        return State(self.h.gather(1, index), self.c.gather(1, index))


class Captioner(nn.Module):
    r"""Writes a sentence about an image, word by word, and looks at it anew for every word.

    With the attended maps X of the last layer, e the vector of the word before (zero for the first word), and all
    vectors ‖·‖ of length 1:

    .. math::
        z_t = \frac{\mathrm{mean}(X)}{\|\mathrm{mean}(X)\|}, \quad
        h_t, c_t = LSTM([e_{t-1}, z_t], h_{t-1}, c_{t-1}), \quad
        p_t = \mathrm{softmax}(W_o \tanh(W_h h_t + e_{t-1}) + b_o)

    with dropout on h before W_h and on the result of tanh. The gates of a word follow from :math:`h_{t-1}`. Where
    several maps are attended, what the encoder does between one and the next is done anew for every word. h₀ and c₀ are
    :math:`\tanh(W v + b)` of the pooled last map without attention, v, of length 1.

    The encoder stays in evaluation mode: its batch normalisations keep their statistics.

    Args:
        network: the encoder; the modules that come after the last point are taken out of it.
        cut: the same network, cut at the maps that are attended; without attention at the last map.
        shape: sizes.

    Shapes:
        images ``(N, 3, H, W)``, or the values that :meth:`frozen_values` gave for them, by name, and words
        ``int64 (N, T)`` → logits of each word after those before it ``(N, T, V)``.

    Paper:
        SCA-CNN (arXiv 1611.05594); official code: zjuchenlong/sca-cnn.cvpr17 (Theano), of which this is the C-S model
        with ``start="paper"``.

    Raises:
        WhatwhereError: an attention for one map only, and several maps.

    Example:
        >>> import whatwhere as ww
        >>> from whatwhere.graph.cut import cut
        >>> from whatwhere.graph.operations import Graph
        >>> encoder = ww.build(ww.ModelConfig("small-resnet")).eval()
        >>> parts = cut(Graph(encoder, torch.zeros(1, 3, 48, 48)), ["stages.2.0.relu1", "stages.2"])
        >>> model = Captioner(encoder, parts, CaptionerShape(vocabulary=20, hidden=32, attention_dim=16))
        >>> model(torch.randn(2, 3, 48, 48), torch.tensor([[3, 4, 0], [5, 0, 0]])).shape
        torch.Size([2, 3, 20])
    """

    def __init__(self, network: nn.Module, cut: Cut, shape: CaptionerShape) -> None:
        super().__init__()
        kind = KINDS[shape.attention]
        if len(cut.points) > 1 and not kind.several:
            raise WhatwhereError(f"attention {shape.attention!r} looks at one map only, not at {len(cut.points)}")
        cut.keep_only(network)
        self.encoder = network
        self.cut = cut
        self.shape = shape
        context = cut.channels[-1]
        self.first_h = nn.Linear(context, shape.hidden)
        self.first_c = nn.Linear(context, shape.hidden)
        self.words = nn.Embedding(shape.vocabulary, shape.word_dim)
        self.lstm = nn.LSTMCell(shape.word_dim + context, shape.hidden)
        self.hidden_to_word = nn.Linear(shape.hidden, shape.word_dim)
        self.output = nn.Linear(shape.word_dim, shape.vocabulary)
        self._reset_decoder()
        # last, so that captioners of all kinds draw the same weights for what they all have
        make = kind.make
        self.attention = nn.ModuleList(
            [] if make is None else [make(channels, shape.hidden, shape.attention_dim) for channels in cut.channels]
        )
        self.context_gate = ContextGate(shape.hidden) if kind.gated else None

    def reset_parameters(self) -> None:
        """Draw the parameters of the decoder and its attention anew."""
        self._reset_decoder()
        for attention in self.attention:
            attention.reset_parameters()  # type: ignore[operator]
        if self.context_gate is not None:
            self.context_gate.linear.reset_parameters()

    def _reset_decoder(self) -> None:
        paper = self.shape.start == "paper"
        for layer in (self.first_h, self.first_c, self.hidden_to_word, self.output):
            nn.init.zeros_(layer.bias)
            draw(layer.weight) if paper else nn.init.xavier_uniform_(layer.weight)
        for weight in (self.lstm.weight_ih, self.lstm.weight_hh):
            for block in weight.detach().chunk(4):
                draw(block) if paper else nn.init.xavier_uniform_(block)
        nn.init.zeros_(self.lstm.bias_ih)
        nn.init.zeros_(self.lstm.bias_hh)
        if paper:
            draw(self.words.weight)
        else:
            nn.init.normal_(self.words.weight, std=0.1)
            with torch.no_grad():  # their inputs have the length 1, not a size of about 1 for each number
                for block in (self.lstm.weight_ih[:, self.shape.word_dim :], self.first_h.weight, self.first_c.weight):
                    block.mul_(self.cut.channels[-1] ** 0.5)

    def train(self, mode: bool = True) -> "Captioner":
        """Set the mode of all but the encoder, which stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def frozen_values(self, images: Tensor) -> dict[str, Tensor]:
        """Return what the part of the encoder that is not trained makes of images ``(N, 3, H, W)``, by name."""
        with torch.no_grad():
            return self.cut.frozen.run(self.encoder, {self.cut.image: images})

    def encode(self, inputs: Tensor | Mapping[str, Tensor]) -> tuple[Encoded, State]:
        """Return what is kept of images, and the state before the first word, one sentence for each image.

        Args:
            inputs: images, or what :meth:`frozen_values` gave for them.
        """
        frozen = self.frozen_values(inputs) if isinstance(inputs, Tensor) else inputs
        dtype = self.words.weight.dtype
        values = self.cut.before.run(self.encoder, {name: value.to(dtype) for name, value in frozen.items()})
        first = values[self.cut.points[0]]
        known = {**values, self.cut.points[0]: first.clone()}  # what comes next may change it in place
        for piece in self.cut.between:
            known = known | piece.run(self.encoder, known)
        pooled = F.normalize(known[self.cut.points[-1]].mean((2, 3)), dim=-1)[:, None]
        state = State(*(torch.tanh(first(pooled).to(dtype)) for first in (self.first_h, self.first_c)))
        if not self.attention:
            return Encoded(values, None, pooled), state
        return Encoded(values, self.attention[0].prepare(first), None), state  # type: ignore[operator]

    def attend(self, encoded: Encoded, states: Tensor) -> tuple[Tensor, list[Weights]]:
        """Return what the LSTM sees of the image in states h ``(N, R, D)``, ``(N, R, C)`` of length 1, and the gates of
        each attended map: channel ``(N, R, C)``, spatial ``(N, R, H, W)``.
        """
        count, several = states.shape[:2]
        if encoded.context is not None:
            return encoded.context.expand(-1, several, -1), []
        prepared, rows, values, found = encoded.prepared, states, encoded.values, []
        for index, attention in enumerate(self.attention):
            assert prepared is not None
            weights: Weights = attention.weigh(prepared, rows)  # type: ignore[operator]
            channel, spatial = (None if gate is None else gate.reshape(count, several, -1) for gate in weights)
            found.append((channel, None if spatial is None else spatial.view(count, several, *prepared.size)))
            if index == len(self.cut.between):
                pooled = attention.pool(prepared, weights).view(count, several, -1)  # type: ignore[operator]
                context = F.normalize(pooled, dim=-1)
                return context if self.context_gate is None else self.context_gate(context, states), found
            if index == 0:  # from here on each sentence has maps of its own
                values = {name: value.repeat_interleave(several, 0) for name, value in values.items()}
                rows = states.reshape(count * several, 1, -1)
            point, piece = self.cut.points[index], self.cut.between[index]
            values = {**values, point: attention.attend(prepared, weights).flatten(0, 1)}  # type: ignore[operator]
            values |= piece.run(self.encoder, values)
            prepared = self.attention[index + 1].prepare(values[self.cut.points[index + 1]])  # type: ignore[operator]
        raise AssertionError("a captioner without attention has a fixed context")

    def step(self, encoded: Encoded, state: State, words: Tensor | None) -> tuple[Tensor, State]:
        """Return the logits of the next word of R sentences of each image ``(N, R, V)``, and the state after it.

        Args:
            encoded: of the images.
            state: of the sentences.
            words: the words before, ``int64 (N, R)``; None at the start.
        """
        before = self._words(state.h, words)
        z = torch.cat((before, self.attend(encoded, state.h)[0]), -1)
        gates = F.linear(z, self.lstm.weight_ih, self.lstm.bias_ih) + F.linear(
            state.h, self.lstm.weight_hh, self.lstm.bias_hh
        )
        state = _cell(gates, state.c)
        return self._logits(state.h, before), state

    def forward(self, inputs: Tensor | Mapping[str, Tensor], words: Tensor) -> Tensor:
        """Return the logits of every word, given the true words before it."""
        encoded, state = self.encode(inputs)
        count = words.shape[1]
        before = F.pad(self.words(words[:, : count - 1]), (0, 0, 1, 0))
        width = self.shape.word_dim
        of_words = F.linear(before, self.lstm.weight_ih[:, :width], self.lstm.bias_ih + self.lstm.bias_hh)
        rest = torch.cat((self.lstm.weight_ih[:, width:], self.lstm.weight_hh), 1)
        rest, states = rest.to(of_words.dtype), []  # under autocast its half precision, once for all words
        for of_word in of_words.unbind(1):
            z = torch.cat((self.attend(encoded, state.h)[0], state.h), -1)
            state = _cell(of_word[:, None] + F.linear(z, rest), state.c)
            states.append(state.h)
        return self._logits(torch.cat(states, 1), before)

    def _words(self, like: Tensor, words: Tensor | None) -> Tensor:
        if words is None:
            return like.new_zeros(*like.shape[:2], self.shape.word_dim)
        vectors: Tensor = self.words(words)
        return vectors

    def _logits(self, h: Tensor, before: Tensor) -> Tensor:
        drop, training = self.shape.dropout, self.training
        inner = torch.tanh(self.hidden_to_word(F.dropout(h, drop, training)) + before)
        logits: Tensor = self.output(F.dropout(inner, drop, training))
        return logits


def _cell(gates: Tensor, c: Tensor) -> State:
    """Return the state of an LSTM after the gates' inputs i, f, g, o, ``(…, 4 D)``, in the dtype of c."""
    i, f, g, o = gates.to(c.dtype).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return State(torch.sigmoid(o) * torch.tanh(c), c)
