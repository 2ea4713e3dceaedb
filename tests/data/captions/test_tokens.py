"""The tokeniser against a table made with Stanford's PTBTokenizer, and against that program itself."""

import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatwhere.data.captions.tokens import tokenise

TABLE = {
    "A dog runs .": "a dog runs",
    "The dog's owner can't see it; he's busy.": "the dog 's owner ca n't see it he 's busy",
    "DON'T shout, WE'LL hear": "do n't shout we 'll hear",
    "I'd've gone, they're late": "i 'd 've gone they 're late",
    "I'm sure you've met the dogs' keeper": "i 'm sure you 've met the dogs keeper",
    "It was n't wet": "it was n't wet",
    "They cannot see what's gonna happen": "they can not see what 's gon na happen",
    "A sign says \"stop\", 'slow' and ``go''": "a sign says stop slow and go",
    "“Curly” quotes aren’t kept": "curly quotes are n't kept",
    "A tank (green) and a {red} one [left]": "a tank -lrb- green -rrb- and a -lcb- red -rcb- one -lsb- left -rsb-",
    "Wait... what -- no - yes: ok…": "wait what no yes ok",
    "Who is it?! Me! You? Yes!!": "who is it ?! me you yes !!",
    "A red t-shirt, a merry-go-round": "a red t-shirt a merry-go-round",
    "Mr. Fox met Dr. Owl at 5 p.m. in the U.S.": "mr. fox met dr. owl at 5 p.m. in the u.s.",
    "Number no. 7 says no, or no": "number no. 7 says no or no",
    "1,000 geese at 10:30, 3.5 m up, 1/2 asleep": "1,000 geese at 10:30 3.5 m up 1/2 asleep",
    "Player #5 paid $20, 50% less": "player # 5 paid $ 20 50 % less",
    "A 3-year-old on the 20th floor": "a 3-year-old on the 20th floor",
    "A black/white cat & a hat": "a black/white cat & a hat",
    "snow .A bird,a bee": "snow a bird a bee",
    "rock 'n' roll of the '90s at two o'clock": "rock 'n' roll of the '90s at two o'clock",
    "a naïve café owner": "a naïve café owner",
    "a man 5'10\" tall": "a man 5 10 tall",
    "": "",
    " ... ": "",
}


@pytest.mark.parametrize("text", TABLE)
def test_the_table(text):
    assert tokenise(text) == TABLE[text].split()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="needs Java")
def test_equal_to_stanfords_tokeniser():
    module = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer")
    texts = [text for text in TABLE if text]
    found = module.PTBTokenizer().tokenize({text: [{"caption": text}] for text in texts})
    assert {text: " ".join(tokenise(text)) for text in texts} == {text: found[text][0] for text in texts}


@given(st.text())
def test_tokens_are_words_in_lower_case(text):
    for token in tokenise(text):
        assert token.split() == [token]
        assert token == token.lower()


@given(st.lists(st.sampled_from(["dog", "runs", ".", ",", "can't", "it's", "(", "t-shirt", "7", "--"])))
def test_white_space_only_parts_tokens(words):
    assert tokenise(" ".join(words)) == tokenise("\n  ".join(words)) == [t for word in words for t in tokenise(word)]
