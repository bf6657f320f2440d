"""The usual readability formulas for English, from counts.

Each takes plain counts and returns its score unrounded, so that it can be checked against the published formula.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """What the formulas need to know of a text. Words and sentences are at least 1."""

    words: int
    sentences: int
    syllables: int
    letters: int
    """Letters and digits, without apostrophes and hyphens."""
    complex_words: int
    """Words of three or more syllables that are not so by a common ending or by a hyphen."""
    polysyllables: int
    """Words of three or more syllables."""


def flesch_reading_ease(counts: Counts) -> float:
    """About 0 (very hard) to 100 (very easy)."""
    return 206.835 - 1.015 * counts.words / counts.sentences - 84.6 * counts.syllables / counts.words


def flesch_kincaid_grade(counts: Counts) -> float:
    """A grade of a US school, as all that follow."""
    return 0.39 * counts.words / counts.sentences + 11.8 * counts.syllables / counts.words - 15.59


def gunning_fog(counts: Counts) -> float:
    return 0.4 * (counts.words / counts.sentences + 100 * counts.complex_words / counts.words)


def smog(counts: Counts) -> float:
    """Made for samples of 30 sentences; with fewer it is a rough figure."""
    return 1.0430 * math.sqrt(counts.polysyllables * 30 / counts.sentences) + 3.1291


def coleman_liau(counts: Counts) -> float:
    return 0.0588 * (100 * counts.letters / counts.words) - 0.296 * (100 * counts.sentences / counts.words) - 15.8


def automated_readability_index(counts: Counts) -> float:
    return 4.71 * counts.letters / counts.words + 0.5 * counts.words / counts.sentences - 21.43


def difficulty(reading_ease: float) -> str:
    """Flesch's own names for his scale."""
    for least, name in ((90, "very easy"), (80, "easy"), (70, "fairly easy"), (60, "plain"), (50, "fairly difficult"), (30, "difficult")):
        if reading_ease >= least:
            return name
    return "very difficult"
