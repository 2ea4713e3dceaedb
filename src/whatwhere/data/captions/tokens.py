"""Captions as lists of tokens, as COCO's evaluation of captions counts them."""

import re

TOKENISER = "whatwhere.data.captions.tokens.tokenise"
"""What :func:`tokenise` is called in files of results."""

_PLAIN = str.maketrans(
    {"’": "'", "‘": "'", "‛": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"'}
    | {"–": "--", "—": "--", "…": "..."}
)
_WORD_ENDS = re.compile(r"(?<=\w)(n't|'(?:s|m|d|ll|re|ve))(?!\w)", re.IGNORECASE)
_TWO_WORDS = re.compile(r"\b(can(?=not\b)|gon(?=na\b)|got(?=ta\b)|wan(?=na\b)|gim(?=me\b)|lem(?=me\b))", re.IGNORECASE)
_TOKEN = re.compile(
    r"""
    n't\b | '(?:s|m|d|ll|re|ve)\b                       # word ends, which stand alone by now
  | 't(?=is\b|was\b) | 'n'?(?!\w) | (?<!\w)'\d\ds?\b    # 'tis, rock 'n' roll, '90s
  | (?:[a-z]\.)+(?!\w)                                  # u.s., p.m., j. smith
  | (?:mr|mrs|ms|dr|prof|sgt|capt|lt|rev|jr|sr|inc|ltd|co|st|ave|mt|ft|vs|etc)\.(?!\w)
  | no\.(?=\s*\d)
  | [-+]?\d*[.,:/]?\d+(?:[.,:/]\d+)*\w*(?:-\w+)*        # 3.5, 1,000, 10:30, 1/2, 20th, 3-year-old
  | (?-i:[A-Z]+(?:&[A-Z]+)+)                            # AT&T, but at & t
  | [#@]?[^\W\d_]\w*(?:[-'./]\w+)*                      # t-shirt, o'clock, black/white
  | [?!]+ | -+ | \.+ | '' | `` | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)
_WRITTEN = {"(": "-lrb-", ")": "-rrb-", "{": "-lcb-", "}": "-rcb-", "[": "-lsb-", "]": "-rsb-"}
_WRITTEN |= {"€": "$", "£": "#", "¢": "cents", "½": "1/2", "¼": "1/4", "¾": "3/4"}
_DROPPED = re.compile(r"''?|``?|\"|\.+|-+|[?!,:;]")


def tokenise(text: str) -> list[str]:
    r"""Return the tokens of a caption: lower case, Penn Treebank's splits, no punctuation.

    The ends n't, 's, 're, 've, 'll, 'd and 'm are tokens of their own, "cannot" and words like "gonna" are two, and
    hyphened words and abbreviations such as "u.s." are one. Quotation marks, full stops, commas, colons, semicolons,
    dashes, and single question and exclamation marks are dropped.

    COCO's evaluation uses Stanford's ``PTBTokenizer`` 3.4.1, a Java program, and drops these tokens from what it
    returns. This function gives the same tokens for all of 35,000 captions of Flickr8k. Two oddities of the reference
    are kept: brackets stay, as ``-lrb-``, ``-rrb-``, ``-lcb-`` and ``-rcb-``, because its list of what to drop has them
    in upper case but the text is in lower case; and ``?!`` and ``!!`` stay, because the list has single marks only.

    Deviations, all rare in captions: addresses of web pages and e-mail, smileys, HTML, "c++", "1 1/2" (one token there)
    and abbreviations other than the frequent ones are split by the rules for other words.

    Chen et al., Microsoft COCO Captions, arXiv 1504.00325; tylin/coco-caption, ``ptbtokenizer.py``.

    Args:
        text: a caption. White space, line breaks too, only parts tokens.

    Example:
        >>> tokenise("The dog's owner doesn't mind, it seems: a T-shirt (black) is wet!")[:6]
        ['the', 'dog', "'s", 'owner', 'does', "n't"]
        >>> tokenise("A T-shirt (black) is wet!")
        ['a', 't-shirt', '-lrb-', 'black', '-rrb-', 'is', 'wet']
    """
    parted = _TWO_WORDS.sub(r"\1 ", _WORD_ENDS.sub(r" \1", text.translate(_PLAIN)))
    return [_WRITTEN.get(token, token).lower() for token in _TOKEN.findall(parted) if not _DROPPED.fullmatch(token)]
