"""The measures against values by hand, their properties, and the reference, pycocoevalcap."""

import contextlib
import io
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from whatwhere.data.captions.tokens import tokenise
from whatwhere.errors import WhatwhereError
from whatwhere.tasks.captioning.measures import bleu, cider_d, rouge_l

# Each line: a caption, then the true captions of its image.
SENTENCES = """
A dog runs on the beach | A brown dog runs along the beach | The dog is running on wet sand | A dog plays by the sea
Two boys kick a ball | Two boys play football in a park | Boys in red shirts kick a ball | Children are playing
A woman reads | A woman in a green coat reads a newspaper | Someone reads on a bench | A lady sits with a newspaper
a a a a a cat | A cat sleeps on a warm stove | The cat naps | A grey cat lies on top of an old stove in a kitchen
The man climbs a rock wall with a rope | A climber hangs from a rope | The man climbs a steep rock wall with a rope
Bird | A small yellow bird sits on a wire | The bird rests | A bird on a telephone wire looks to the left
A train passes a station at night | A train stops at a station at night | Night train | A train passes the platform
Three cyclists ride uphill in heavy rain | Three cyclists ride uphill in heavy rain | Three cyclists ride uphill
A child eats an apple in the garden | A girl bites into a big green apple | The kid eats fruit | A child eats an apple
Snow covers the roofs of the village | The village is covered in snow | Snow on roofs | White roofs under a clear sky
A chef cuts onions with a large knife | The chef's knife isn't small | A cook chops onions | A man cuts vegetables
People wait for a bus in front of a shop | People wait for a bus | A queue at the bus stop | Five people stand in line
A horse jumps over a fence while a crowd watches | A rider and a horse jump a fence | The horse jumps over a fence
Old boats lie on the shore of a lake | Boats on a lake | Old wooden boats lie on the shore | Two boats, one blue
A guitarist sings into a microphone on stage | A man with a guitar sings | Singer on stage | A band plays at a party
A dog and a cat share one basket | A dog and a cat sleep in one basket | Pets in a basket | A dog lies next to a cat
"""
IMAGES = [[tokenise(text) for text in line.split("|")] for line in SENTENCES.strip().splitlines()]
CAPTIONS, TRUTHS = [image[0] for image in IMAGES], [image[1:] for image in IMAGES]

captions = st.lists(st.sampled_from("abcde"), max_size=7)
long_captions = st.lists(st.sampled_from("abcde"), min_size=4, max_size=9)
images = st.lists(st.tuples(captions, st.lists(captions, min_size=1, max_size=3)), min_size=1, max_size=6)


def measured(candidates, references):
    return [*bleu(candidates, references), rouge_l(candidates, references), cider_d(candidates, references)]


def reference(candidates, references):
    """The same six numbers by pycocoevalcap."""
    found = {image: [" ".join(tokens)] for image, tokens in enumerate(candidates)}
    truths = {image: [" ".join(tokens) for tokens in several] for image, several in enumerate(references)}
    numbers = []
    for module, name in (("bleu.bleu", "Bleu"), ("rouge.rouge", "Rouge"), ("cider.cider", "Cider")):
        scorer = getattr(pytest.importorskip(f"pycocoevalcap.{module}"), name)()
        with contextlib.redirect_stdout(io.StringIO()):
            number, _ = scorer.compute_score(truths, found)
        numbers += number if isinstance(number, list) else [number]
    return numbers


CASES = {
    "all": (CAPTIONS, TRUTHS),
    "one image": (CAPTIONS[:1], TRUTHS[:1]),
    "captions of other images": (CAPTIONS[1:] + CAPTIONS[:1], TRUTHS),
    "one caption for all": (CAPTIONS[:1] * len(TRUTHS), TRUTHS),
    "an empty caption": ([[], *CAPTIONS[1:]], TRUTHS),
    "only empty captions": ([[] for _ in TRUTHS], TRUTHS),
    "short captions": ([tokens[: i % 4] for i, tokens in enumerate(CAPTIONS)], TRUTHS),
    "repeated references": (CAPTIONS, [[*several, several[0], several[0]] for several in TRUTHS]),
    "one reference": (CAPTIONS, [several[:1] for several in TRUTHS]),
    "an empty reference": ([[], *CAPTIONS[1:]], [[[]], *TRUTHS[1:]]),
    "true captions": ([several[0] for several in TRUTHS], TRUTHS),
}


@pytest.mark.parametrize("case", CASES)
def test_equal_to_pycocoevalcap(case):
    assert measured(*CASES[case]) == pytest.approx(reference(*CASES[case]), rel=0, abs=1e-12)


@given(images)
def test_equal_to_pycocoevalcap_on_any_tokens(pairs):
    candidates, references = [list(part) for part in zip(*pairs, strict=True)]
    assume(any(truth for several in references for truth in several))  # the reference fails without any word
    assert measured(candidates, references) == pytest.approx(reference(candidates, references), rel=0, abs=1e-9)


def test_bleu_by_hand():
    mat = [tokenise("the cat is on the mat"), tokenise("there is a cat on the mat")]
    assert bleu([["the"] * 7], [mat])[0] == pytest.approx(2 / 7)  # the paper's example
    scores = bleu([tokenise("the cat sat on the mat")], [mat])
    assert scores[:2] == pytest.approx([5 / 6, math.sqrt(5 / 6 * 3 / 5)])
    assert scores[2] == pytest.approx((5 / 6 * 3 / 5 * 1 / 4) ** (1 / 3))
    assert scores[3] < 1e-3


def test_bleu_of_several_images_adds_counts_up():
    candidates = [["a", "b"], ["c", "x", "y", "z"]]
    assert bleu(candidates, [[["a", "b"]], [["c", "d", "e", "f"]]])[0] == pytest.approx(3 / 6)


def test_bleu_compares_with_the_closest_length_and_the_shorter_of_two():
    assert bleu([["a", "b"]], [[["a", "b", "c", "d"]]])[0] == pytest.approx(math.exp(-1))
    assert bleu([["a", "b", "c"]], [[["a", "b", "c", "d"], ["a", "b"]]])[0] == pytest.approx(1)
    assert bleu([["a", "b", "c"]], [[["a", "b", "c", "d"], ["a"]]])[0] == pytest.approx(math.exp(-1 / 3))


def test_rouge_by_hand():
    assert rouge_l([["a", "b", "c"]], [[["a", "x", "c"]]]) == pytest.approx(2 / 3)
    assert rouge_l([["a", "b", "c"]], [[["c", "b", "a"]]]) == pytest.approx(1 / 3)
    # the precision, 3/4, is the first reference's, and the recall, 1, the second's
    references = [["a", "b", "c", "x", "y", "z"], ["d"]]
    assert rouge_l([["a", "b", "c", "d"]], [references]) == pytest.approx(2.44 * 0.75 / (1 + 1.44 * 0.75))
    assert rouge_l([["a"], ["x"]], [[["a"]], [["b"]]]) == pytest.approx(0.5)


def test_cider_by_hand():
    def with_another(candidate, *truths):
        """The score of an image beside one that has 0 and none of its words."""
        return 2 * cider_d([candidate, ["no"]], [[list(truth) for truth in truths], [["other"]]])

    assert with_another(["a", "b"], "ab") == pytest.approx(10 * 2 / 4)  # there are runs of one and of two tokens
    parts = math.sqrt(3) / 2 + math.sqrt(2 / 3) + math.sqrt(1 / 2)
    assert with_another(["a", "b", "c"], "abcd") == pytest.approx(10 / 4 * parts * math.exp(-1 / 72))
    assert with_another(["a", "a"], "a") == pytest.approx(10 / 4 * 1 / 2 * math.exp(-1 / 72))  # the second is clipped
    assert with_another(["a", "b"], "ab", "cd") == pytest.approx(10 * 2 / 4 / 2)  # mean over references


def test_cider_ignores_what_every_image_has():
    assert cider_d([["a"], ["a"]], [[["a"]], [["a"]]]) == 0
    assert cider_d([["a", "b"]], [[["a", "b"]]]) == 0  # one image


def test_all_references_empty():
    assert measured([["a"], []], [[[]], [[]]]) == pytest.approx([0, 0, 0, 0, 0.5, 0], abs=1e-6)


@given(st.lists(long_captions, min_size=1, max_size=5))
def test_a_candidate_that_is_its_reference(sentences):
    references = [[sentence] for sentence in sentences]
    assert bleu(sentences, references) == pytest.approx([1] * 4, abs=1e-6)
    assert rouge_l(sentences, references) == pytest.approx(1)


@given(images, st.randoms(use_true_random=False))
def test_the_order_of_images_and_references_does_not_matter(pairs, random):
    mixed = [(candidate, random.sample(several, len(several))) for candidate, several in pairs]
    random.shuffle(mixed)
    one, two = measured(*zip(*pairs, strict=True)), measured(*zip(*mixed, strict=True))
    assert one == pytest.approx(two, rel=1e-9, abs=1e-12)


@given(images)
def test_all_are_in_their_ranges(pairs):
    *shares, cider = measured(*zip(*pairs, strict=True))
    assert all(0 <= share <= 1 + 1e-6 for share in shares)
    assert 0 <= cider <= 10 + 1e-9


@given(images, captions)
def test_rouge_does_not_fall_with_another_reference(pairs, more):
    candidates, references = zip(*pairs, strict=True)
    assert rouge_l(candidates, [[*several, more] for several in references]) >= rouge_l(candidates, references) - 1e-12


@pytest.mark.parametrize("measure", [bleu, rouge_l, cider_d])
@pytest.mark.parametrize(
    ("candidates", "references", "message"),
    [
        ([["a"]], [], "1 candidates for the references of 0 images"),
        ([], [], "no captions"),
        ([["a"], ["b"]], [[["a"]], []], "image 1 has no references"),
        (["a dog"], [[["a"]]], "image 0: .* use tokenise"),
        ([["a"]], [["a dog"]], "image 0: .* use tokenise"),
        ([["a"]], ["a dog"], "image 0: .* use tokenise"),
    ],
)
def test_what_cannot_be_scored(measure, candidates, references, message):
    with pytest.raises(WhatwhereError, match=message):
        measure(candidates, references)
