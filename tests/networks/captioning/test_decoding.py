"""Beam search against exhaustive search and a plain one, greedy search, and sentences drawn at random."""

import functools
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

import whatwhere as ww
from whatwhere.graph.cut import cut
from whatwhere.graph.operations import Graph
from whatwhere.networks.captioning.captioner import Captioner, CaptionerShape, State
from whatwhere.networks.captioning.decoding import END, Written, draw_words, write

LONG = 8


class Table:
    """Stands for a captioner: the logits of a word are drawn anew for each image and each beginning.

    Its state holds the words so far. An image is its number.
    """

    def __init__(self, vocabulary=4, spread=1.5, end=0.0):
        self.vocabulary = vocabulary
        self.spread = spread
        self.end = end
        self.logits = functools.cache(self.logits)

    def logits(self, image, words):
        seed = hash((image, *words, len(words))) % 2**31
        drawn = torch.randn(self.vocabulary, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        drawn = drawn * self.spread
        drawn[END] += self.end
        return drawn

    def likely(self, image, words):
        """Return the log-probabilities of the next word, as numbers."""
        values = self.logits(image, words).tolist()
        total = math.log(sum(math.exp(value) for value in values))
        return [value - total for value in values]

    def encode(self, images):
        empty = torch.full((len(images), 1, LONG + 1), -1.0)
        return images, State(empty, empty.clone())

    def step(self, images, state, words):
        assert images.ndim == 1  # not copied for each sentence
        count = (state.h[0, 0] >= 0).sum().item()
        h = state.h.clone()
        if words is not None:
            h[..., count] = words
            count += 1
        logits = [
            [self.logits(image, tuple(int(word) for word in row[:count])) for row in rows]
            for image, rows in zip(images.tolist(), h.tolist(), strict=True)
        ]
        return torch.stack([torch.stack(rows) for rows in logits]), State(h, h.clone())


def total(model, image, words, ended):
    """Return the log-probability of a sentence, word by word."""
    words = (*words, END) if ended else words
    return sum(model.likely(image, words[:place])[word] for place, word in enumerate(words))


def sentences(vocabulary, longest, never=()):
    """Return all sentences up to a length, and whether each has ended."""
    words = [word for word in range(vocabulary) if word not in (END, *never)]
    ended = [] if END in never else [(one, True) for n in range(longest) for one in itertools.product(words, repeat=n)]
    return ended + [(one, False) for one in itertools.product(words, repeat=longest)]


def rank(score, words, ended, power):
    return score / (len(words) + ended) ** power


def plain_search(model, image, beam, longest, power, never):
    """Return what beam search finds that stops only where nothing goes on, the best first."""
    going, done = [((), 0.0)], []
    for _ in range(longest):
        grown = [
            ((*words, word), score + likely)
            for words, score in going
            for word, likely in enumerate(model.likely(image, words))
            if word not in never
        ]
        grown = sorted(grown, key=lambda one: -one[1])[: beam - len(done)]
        done += [(words[:-1], score, True) for words, score in grown if words[-1] == END]
        going = [(words, score) for words, score in grown if words[-1] != END]
    done += [(words, score, False) for words, score in going]
    return sorted(done, key=lambda one: -rank(one[1], one[0], one[2], power))


def check(found, longest, power, beam):
    """Check what holds for all results of a search."""
    assert 1 <= len(found) <= beam
    ranks = [rank(one.log_probability, one.words, one.ended, power) for one in found]
    assert ranks == sorted(ranks, reverse=True)
    assert len({(one.words, one.ended) for one in found}) == len(found)
    for one in found:
        assert END not in one.words
        assert len(one.words) < longest if one.ended else len(one.words) == longest


POWERS = st.sampled_from([0.0, 0.5, 1.0, 2.0])
NEVER = st.sampled_from([(), (2,), (1, 3), (END,)])


@settings(max_examples=60)
@given(st.integers(0, 999), st.integers(2, 4), st.integers(1, 4), POWERS, NEVER, st.sampled_from([-3.0, 0.0, 3.0]))
def test_a_wide_beam_finds_the_best_of_all_sentences(seed, vocabulary, longest, power, never, end):
    never = tuple(word for word in never if word < vocabulary and vocabulary - len(never) > 1)
    model = Table(vocabulary, end=end)
    images = torch.tensor([seed, seed + 1000, seed + 2000])
    every = sentences(vocabulary, longest, never)
    for image, found in zip(
        images.tolist(),
        write(model, images, beam=len(every), longest=longest, length_power=power, never=never),
        strict=True,
    ):
        check(found, longest, power, len(every))
        words, ended = max(every, key=lambda one: rank(total(model, image, *one), *one, power))
        assert (found[0].words, found[0].ended) == (words, ended)
        for one in found:
            assert one.log_probability == pytest.approx(total(model, image, one.words, one.ended), abs=1e-5)
            assert not set(one.words) & set(never)


@settings(max_examples=60)
@given(st.integers(0, 999), st.integers(2, 6), st.integers(1, 5), st.integers(1, 6), POWERS, NEVER)
def test_a_narrow_beam_finds_what_a_plain_search_finds(seed, vocabulary, beam, longest, power, never):
    never = tuple(word for word in never if word < vocabulary and vocabulary - len(never) > 1)
    model = Table(vocabulary)
    images = torch.tensor([seed, seed + 1000])
    results = write(model, images, beam=beam, longest=longest, length_power=power, never=never)
    for image, found in zip(images.tolist(), results, strict=True):
        wanted = plain_search(model, image, beam, longest, power, never)
        check(found, longest, power, beam)
        kept = {(words, ended): score for words, score, ended in wanted}
        assert (found[0].words, found[0].ended) == (wanted[0][0], wanted[0][2])
        for one in found:  # it may have stopped before the others were found
            assert one.log_probability == pytest.approx(kept[one.words, one.ended], abs=1e-5)


@settings(max_examples=40)
@given(st.integers(0, 999), st.integers(1, 4), st.integers(1, 5), POWERS)
def test_a_batch_is_one_image_after_another(seed, beam, longest, power):
    model, images = Table(5), torch.arange(seed, seed + 4)
    together = write(model, images, beam=beam, longest=longest, length_power=power)
    alone = [write(model, image[None], beam=beam, longest=longest, length_power=power)[0] for image in images]
    assert together == alone


@pytest.mark.parametrize("never", [(), (3,)])
@pytest.mark.parametrize("seed", range(5))
def test_a_beam_of_one_takes_the_likeliest_word(seed, never):
    model, words = Table(6, end=-1.0), ()
    for _ in range(LONG):
        likely = model.likely(seed, words)
        best = max((word for word in range(6) if word not in never), key=lambda word: likely[word])
        if best == END:
            break
        words += (best,)
    ended = len(words) < LONG
    (found,) = write(model, torch.tensor([seed]), beam=1, longest=LONG, never=never)
    assert found == [Written(words, pytest.approx(total(model, seed, words, ended), abs=1e-5), ended)]


class Fixed(Table):
    """Has the same logits for all images and beginnings, or those of its dictionary."""

    def __init__(self, shares, others=None):
        super().__init__(len(shares))
        self.shares, self.others = shares, others or {}
        self.logits = lambda image, words: torch.tensor(self.others.get(words, self.shares), dtype=torch.float64).log()


def test_nothing_ends_before_the_longest_length():
    model = Fixed([0.0, 0.6, 0.4])
    for beam in (1, 2, 5):
        (found,) = write(model, torch.tensor([0]), beam=beam, longest=3)
        assert len(found) == beam
        check(found, 3, 0.0, beam)
        assert found[0].words == (1, 1, 1)
        assert found[0].log_probability == pytest.approx(3 * math.log(0.6), abs=1e-6)
    model = Fixed([0.5, 0.3, 0.2])
    ((found,),) = write(model, torch.tensor([0]), beam=1, longest=4, never=(END,))
    assert found == Written((1, 1, 1, 1), pytest.approx(4 * math.log(0.3), abs=1e-6), False)


def test_an_ended_sentence_is_kept_though_longer_ones_go_on():
    # the sentence that ends at once has 0.3, the greedy one 0.5 * 0.4 * …
    model = Fixed([0.3, 0.5, 0.2], {(1,): [0.1, 0.5, 0.4], (1, 1): [0.5, 0.3, 0.2]})
    (found,) = write(model, torch.tensor([0]), beam=2, longest=4)
    assert found[0] == Written((), pytest.approx(math.log(0.3), abs=1e-6), True)
    (found,) = write(model, torch.tensor([0]), beam=2, longest=4, length_power=1.0)
    assert found[0] == Written((1, 1), pytest.approx(math.log(0.5**3), abs=1e-6), True)
    assert found[1].words == ()
    (found,) = write(model, torch.tensor([0]), beam=1, longest=4)
    assert found == [Written((1, 1), pytest.approx(math.log(0.5**3), abs=1e-6), True)]


def test_a_beam_wider_than_all_there_is():
    model = Fixed([0.5, 0.5])
    (found,) = write(model, torch.tensor([0]), beam=50, longest=3, length_power=2.0)
    check(found, 3, 2.0, 4)


@functools.cache
def captioner(kind="c-s"):
    torch.manual_seed(0)
    network = ww.build(ww.ModelConfig("small-resnet")).eval().requires_grad_(False)
    points = ["stages.2"] if kind == "none" else ["stages.2.0.relu1", "stages.2"]
    shape = CaptionerShape(vocabulary=4, attention=kind, hidden=6, word_dim=5, attention_dim=3)
    model = Captioner(network, cut(Graph(network, torch.zeros(1, 3, 32, 32)), points), shape)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("encoder."):
                parameter.copy_(torch.randn(parameter.shape))
    return model.double().eval()


@functools.cache
def images():
    return torch.randn(3, 3, 32, 48, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def teacher_forced(model, image, every):
    """Return the log-probability of each sentence, by the true words before each word."""
    targets = [(*words, END) if ended else words for words, ended in every]
    longest = max(len(target) for target in targets)
    padded = torch.tensor([[*target, *[END] * (longest - len(target))] for target in targets])
    values = {name: value.expand(len(every), -1, -1, -1) for name, value in model.frozen_values(image[None]).items()}
    with torch.no_grad():
        likely = model(values, padded).log_softmax(-1).gather(2, padded[..., None])[..., 0]
    return [row[: len(target)].sum().item() for row, target in zip(likely, targets, strict=True)]


@pytest.mark.parametrize("kind", ["none", "c-s"])
def test_a_captioner_finds_the_best_of_all_sentences(kind):
    model, every = captioner(kind), sentences(4, 3)
    scores = [teacher_forced(model, image, every) for image in images()]
    for power, never in ((0.0, ()), (1.0, ()), (0.7, (2,))):
        results = write(model, images(), beam=len(every), longest=3, length_power=power, never=never)
        for found, known in zip(results, scores, strict=True):
            check(found, 3, power, len(every))
            by_words = {one: score for one, score in zip(every, known, strict=True) if not set(one[0]) & set(never)}
            best = max(by_words, key=lambda one: rank(by_words[one], *one, power))
            assert (found[0].words, found[0].ended) == best
            for one in found:
                assert one.log_probability == pytest.approx(by_words[one.words, one.ended], abs=1e-5)


def test_a_captioner_writes_the_same_for_frozen_values():
    model = captioner()
    wanted = write(model, images(), beam=3, longest=5)
    assert write(model, model.frozen_values(images()), beam=3, longest=5) == wanted
    again = [write(model, image[None], beam=3, longest=5)[0] for image in images()]
    for one, other in zip(itertools.chain(*wanted), itertools.chain(*again), strict=True):
        assert one == Written(other.words, pytest.approx(other.log_probability, abs=1e-5), other.ended)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_words_are_drawn_with_their_probability(temperature):
    model, count = Table(5), 4000
    generator = torch.Generator().manual_seed(11)
    results = draw_words(
        model, torch.tensor([3, 4]), sentences=count, temperature=temperature, longest=2, generator=generator
    )
    for image, found in zip((3, 4), results, strict=True):
        assert len(found) == count
        first = (model.logits(image, ()) / temperature).softmax(0).tolist()
        wanted = {((), True): first[END]}
        for word in range(1, 5):
            second = (model.logits(image, (word,)) / temperature).softmax(0).tolist()
            wanted[(word,), True] = first[word] * second[END]
            wanted.update({((word, other), False): first[word] * second[other] for other in range(1, 5)})
        seen = {key: sum((one.words, one.ended) == key for one in found) for key in wanted}
        assert sum(seen.values()) == count
        common = [key for key, share in wanted.items() if share * count > 10]
        assert len(common) > 4
        pairs = [(seen[key], count * wanted[key]) for key in common[1:]]
        pairs.append((count - sum(one for one, _ in pairs), count - sum(one for _, one in pairs)))  # the others
        assert chisquare(*zip(*pairs, strict=True)).pvalue > 1e-3
        for one in found[:200]:  # the probability that the captioner gives, whatever the temperature
            assert one.log_probability == pytest.approx(total(model, image, one.words, one.ended), abs=1e-5)


def test_drawn_sentences_of_a_captioner_have_its_probability():
    model, generator = captioner(), torch.Generator().manual_seed(1)
    results = draw_words(model, images(), sentences=4, longest=5, generator=generator)
    for image, found in zip(images(), results, strict=True):
        scores = teacher_forced(model, image, [(one.words, one.ended) for one in found])
        assert [one.log_probability for one in found] == pytest.approx(scores, abs=1e-5)
        assert len({one.words for one in found}) > 1


def test_a_generator_gives_the_same_sentences_again():
    model = Table(6, end=-1.0)
    one, two, other = (
        draw_words(model, torch.arange(3), sentences=5, longest=6, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert one == two != other
    generator = torch.Generator().manual_seed(1)
    state = torch.get_rng_state()
    assert draw_words(model, torch.arange(3), sentences=5, longest=6, generator=generator) == one
    assert torch.equal(torch.get_rng_state(), state)
    assert draw_words(model, torch.arange(3), sentences=5, longest=6, generator=generator) != one


def test_a_low_temperature_takes_the_likeliest_word():
    model = Table(6, end=-1.0)
    drawn = draw_words(model, torch.arange(4), sentences=2, temperature=1e-4, longest=5)
    for found, (greedy,) in zip(drawn, write(model, torch.arange(4), beam=1, longest=5), strict=True):
        for one in found:
            assert (one.words, one.ended) == (greedy.words, greedy.ended)
            assert one.log_probability == pytest.approx(greedy.log_probability, abs=1e-5)


def test_drawn_sentences_that_end_at_once_or_never():
    assert draw_words(Fixed([1.0, 0.0]), torch.arange(2), sentences=2) == [[Written((), 0.0, True)] * 2] * 2
    ((found,),) = draw_words(Fixed([0.0, 1.0]), torch.tensor([0]), longest=4)
    assert found == Written((1, 1, 1, 1), 0.0, False)


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (write, {"beam": 0}, "beam=0: must be at least 1"),
        (write, {"longest": 0}, "longest=0: must be at least 1"),
        (write, {"length_power": -0.5}, r"length_power=-0\.5: must be at least 0"),
        (draw_words, {"sentences": 0}, "sentences=0: must be at least 1"),
        (draw_words, {"longest": -1}, "longest=-1: must be at least 1"),
        (draw_words, {"temperature": 0.0}, r"temperature=0\.0: must be above 0"),
        (draw_words, {"temperature": math.nan}, "temperature=nan: must be above 0"),
    ],
)
def test_wrong_arguments(function, options, message):
    with pytest.raises(ww.WhatwhereError, match=message):
        function(Table(), torch.arange(2), **options)
