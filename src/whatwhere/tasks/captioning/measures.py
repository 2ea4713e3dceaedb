"""BLEU, ROUGE-L and CIDEr-D of captions, with the values of COCO's evaluation."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from ...errors import WhatwhereError

Tokens = Sequence[str]
Ngram = tuple[str, ...]


def bleu(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> tuple[float, float, float, float]:
    r"""Return BLEU-1, BLEU-2, BLEU-3 and BLEU-4 of all captions together.

    .. math:: BLEU_n = \min(1, e^{1 - 1/\rho}) \Big(\prod_{k=1}^n \frac{m_k + 10^{-15}}{t_k + 10^{-9}}\Big)^{1/n},
        \qquad \rho = \frac{c + 10^{-15}}{r + 10^{-9}}

    t_k is the number of runs of k tokens in the candidates; m_k is how many of them are in a reference of their image,
    each run at most as often as in the reference that has it most often. c is the number of tokens of the candidates; r
    is the sum of the lengths of the references whose length is closest to their candidate's, the shorter of two.

    Papineni et al., BLEU: a Method for Automatic Evaluation of Machine Translation, ACL 2002.

    Deviation from the paper: the small constants, which are those of tylin/coco-caption.

    Args:
        candidates: the tokens of the caption of each image.
        references: the tokens of each true caption of each image.

    Raises:
        WhatwhereError: no images, an image without references, other numbers of candidates than of images, or text in
            place of tokens.

    Example:
        >>> [round(score, 3) for score in bleu([["a", "dog", "runs"]], [[["a", "dog", "sits"]]])]
        [0.667, 0.577, 0.0, 0.0]
    """
    _check(candidates, references)
    matches, totals = [0] * 4, [0] * 4
    length = reference_length = 0
    for candidate, truths in zip(candidates, references, strict=True):
        most: Counter[Ngram] = Counter()
        for truth in truths:
            most |= _ngrams(truth)
        own = _ngrams(candidate)
        for ngram, count in own.items():
            totals[len(ngram) - 1] += count
        for ngram, count in (own & most).items():
            matches[len(ngram) - 1] += count
        size = len(candidate)
        length += size
        reference_length += min((len(truth) for truth in truths), key=lambda other: (abs(other - size), other))
    ratio = (length + 1e-15) / (reference_length + 1e-9)
    brevity = math.exp(min(0.0, 1 - 1 / ratio))
    precisions = [(found + 1e-15) / (total + 1e-9) for found, total in zip(matches, totals, strict=True)]
    one, two, three, four = (brevity * math.prod(precisions[:n]) ** (1 / n) for n in (1, 2, 3, 4))
    return one, two, three, four


def rouge_l(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> float:
    r"""Return ROUGE-L, the mean over the images.

    .. math:: F = \frac{(1 + \beta^2) P R}{R + \beta^2 P}, \qquad \beta = 1.2,
        \qquad P = \max_j \frac{LCS(c, r_j)}{|c|}, \qquad R = \max_j \frac{LCS(c, r_j)}{|r_j|}

    LCS is the length of the longest common subsequence of the candidate c and its reference r_j.

    Lin, ROUGE: a Package for Automatic Evaluation of Summaries, ACL workshop 2004.

    Deviations from the paper, which are those of tylin/coco-caption: P and R may come from different references, and
    a caption without tokens counts as one empty token, so that it equals a reference without tokens.

    Args:
        candidates: the tokens of the caption of each image.
        references: the tokens of each true caption of each image.

    Raises:
        WhatwhereError: as :func:`bleu`.

    Example:
        >>> round(rouge_l([["a", "dog", "runs"]], [[["a", "big", "dog"]]]), 6)
        0.666667
    """
    _check(candidates, references)
    scores = []
    for candidate, truths in zip(candidates, references, strict=True):
        own, others = list(candidate) or [""], [list(truth) or [""] for truth in truths]
        common = [_common_subsequence(own, other) for other in others]
        precision = max(common) / len(own)
        recall = max(length / len(other) for length, other in zip(common, others, strict=True))
        scores.append((1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision) if precision else 0.0)
    return math.fsum(scores) / len(scores)


def cider_d(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> float:
    r"""Return CIDEr-D, the mean over the images, from 0 to 10.

    .. math:: \frac{10}{4 |J|} \sum_{n=1}^4 \sum_{j \in J} e^{-(l_c - l_j)^2 / (2 \cdot 6^2)}
        \frac{\min(g_n(c), g_n(r_j)) \cdot g_n(r_j)}{\|g_n(c)\| \|g_n(r_j)\|},
        \qquad g_n(s)_w = h_w(s) \Big(\log |I| - \log \max\big(1, \sum_{i \in I} [w \in i]\big)\Big)

    h_w(s) says how often a run w of n tokens is in the caption s, I are the images, of which those count that have w in
    a reference, and J are the references of one image. So a single image has a score of 0, and an image's score depends
    on which others are scored with it.

    Vedantam et al., CIDEr: Consensus-based Image Description Evaluation, CVPR 2015, arXiv 1411.5726.

    Deviations from the paper, which are those of tylin/coco-caption: h is a count, where the paper has a share of all
    runs of the caption (the scale cancels, but for the minimum); l is the number of pairs of neighbouring tokens, which
    differs from tokens only for a caption without any.

    Args:
        candidates: the tokens of the caption of each image.
        references: the tokens of each true caption of each image.

    Raises:
        WhatwhereError: as :func:`bleu`.

    Example:
        >>> captions = [["a", "dog", "runs", "fast"], ["two", "cats", "sleep", "here"]]
        >>> round(cider_d(captions, [[caption] for caption in captions]), 6)
        10.0
    """
    _check(candidates, references)
    counts = [[_ngrams(truth) for truth in truths] for truths in references]
    images = Counter(ngram for truths in counts for ngram in set().union(*truths))
    everything = math.log(len(candidates))

    def vector(ngrams: Counter[Ngram]) -> dict[Ngram, float]:
        return {ngram: count * (everything - math.log(max(1, images[ngram]))) for ngram, count in ngrams.items()}

    scores = []
    for candidate, truths in zip(candidates, counts, strict=True):
        own = _ngrams(candidate)
        weights = vector(own)
        norms, length = _norms(weights), _pairs(own)
        score = 0.0
        for truth in truths:
            others = vector(truth)
            products = [0.0] * 4
            for ngram, weight in weights.items():
                other = others.get(ngram, 0.0)
                products[len(ngram) - 1] += min(weight, other) * other
            scales = [a * b for a, b in zip(norms, _norms(others), strict=True)]
            similarity = sum(p / scale for p, scale in zip(products, scales, strict=True) if scale)
            score += similarity * math.exp(-((length - _pairs(truth)) ** 2) / (2 * 6.0**2))
        scores.append(10 * score / (4 * len(truths)))
    return math.fsum(scores) / len(scores)


def _check(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> None:
    if len(candidates) != len(references):
        raise WhatwhereError(f"{len(candidates)} candidates for the references of {len(references)} images")
    if not candidates:
        raise WhatwhereError("there are no captions to score")
    for image, (candidate, truths) in enumerate(zip(candidates, references, strict=True)):
        if isinstance(truths, str) or any(isinstance(caption, str) for caption in (candidate, *truths)):
            raise WhatwhereError(f"image {image}: captions must be lists of tokens, got text: use tokenise")
        if not truths:
            raise WhatwhereError(f"image {image} has no references")


def _ngrams(tokens: Tokens) -> Counter[Ngram]:
    """Return how often each run of one to four tokens comes."""
    return Counter(_runs(tuple(tokens)))


def _runs(tokens: Ngram) -> Iterator[Ngram]:
    for n in (1, 2, 3, 4):
        for start in range(len(tokens) - n + 1):
            yield tokens[start : start + n]


def _pairs(ngrams: Counter[Ngram]) -> int:
    return sum(count for ngram, count in ngrams.items() if len(ngram) == 2)


def _norms(weights: dict[Ngram, float]) -> list[float]:
    """Return the Euclidean norms of the weights of runs of one, two, three and four tokens."""
    squares = [0.0] * 4
    for ngram, weight in weights.items():
        squares[len(ngram) - 1] += weight * weight
    return [math.sqrt(square) for square in squares]


def _common_subsequence(one: Tokens, two: Tokens) -> int:
    """Return the length of the longest common subsequence."""
    best = [0] * (len(two) + 1)  # with the part of one so far, and the first k tokens of two
    for token in one:
        before = 0  # best[k] of the previous row
        for k, other in enumerate(two, 1):
            before, best[k] = best[k], before + 1 if token == other else max(best[k], best[k - 1])
    return best[-1]
