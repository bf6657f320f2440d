"""Counts a text: what the two tools answer is put together here."""

import re
from collections import Counter
from dataclasses import dataclass

from readability import Counts
from segmentation import normalized, paragraphs_of, sentences_of, words_of
from syllables import syllables_of

# Adults read English prose silently at about 238 words a minute (Brysbaert, 2019).
WORDS_PER_MINUTE = 238
# Endings that make a word longer without making it harder, as Gunning has it.
_COMMON_ENDING = re.compile(r"(?:es|ed|ing)$")
_ENGLISH_WORD = re.compile(r"^[A-Za-z\u00c0-\u024f'\u2019\u02bc\u2010\u2011-]+$")
# Words that say little about what a text is about.
COMMON_WORDS = frozenset(
    "a about after all also am an and any are as at be because been but by can could did do does for from get had has have he"
    " her here him his how i if in into is it it's its just like may me more most my no not now of on one only or other our out"
    " over said she should so some such than that the their them then there these they this those to too up us very was we were"
    " what when where which while who will with would you your".split()
)


@dataclass(frozen=True)
class Text:
    """A text in its parts."""

    text: str
    words: list[str]
    sentences: int
    paragraphs: int


def read(text: str) -> Text:
    """Cuts a text into its parts."""
    plain = normalized(text)
    paragraphs = paragraphs_of(plain)
    return Text(plain, words_of(plain), sum(len(sentences_of(paragraph)) for paragraph in paragraphs), len(paragraphs))


def letters_of(word: str) -> int:
    """Letters and digits; apostrophes, hyphens and combining marks do not count."""
    return sum(letter.isalnum() for letter in word)


def folded(word: str) -> str:
    """One form for all spellings of a word that differ in case or in the kind of apostrophe."""
    return word.casefold().replace("\u2019", "'").replace("\u02bc", "'")


def top_words(words: list[str], count: int, skip_common: bool) -> list[tuple[str, int]]:
    """The most frequent words with how often they occur; in the order of the alphabet where that is the same."""
    counted = Counter(folded(word) for word in words)
    if skip_common:
        counted = Counter({word: times for word, times in counted.items() if word not in COMMON_WORDS})
    return sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:count]


def english_counts(text: Text) -> tuple[Counts, float]:
    """Counts for the formulas, and which part of the words is in Latin letters, 0 to 1. There must be a word."""
    memo: dict[str, int] = {}
    letters = syllables = polysyllables = complex_words = latin = 0
    for word in text.words:
        letters += letters_of(word)
        latin += bool(_ENGLISH_WORD.match(word))
        if word not in memo:
            memo[word] = syllables_of(word)
        syllables += memo[word]
        polysyllables += memo[word] >= 3
        complex_words += memo[word] >= 3 and _is_complex(word)
    counts = Counts(len(text.words), text.sentences, syllables, letters, complex_words, polysyllables)
    return counts, latin / len(text.words)


def _is_complex(word: str) -> bool:
    """Of a word with three syllables or more: whether it still has them without a common ending and without a hyphen."""
    if "-" in word or "\u2010" in word or "\u2011" in word:
        return any(syllables_of(part) >= 3 for part in re.split(r"[-\u2010\u2011]", word) if part)
    return syllables_of(_COMMON_ENDING.sub("", word)) >= 3
