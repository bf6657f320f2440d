"""Two tools for agents: what a text is made of, and how hard it is to read."""

from dataclasses import dataclass
from typing import Annotated

import readability as formulas
from analysis import WORDS_PER_MINUTE, english_counts, letters_of, read, top_words
from leanclaw_plugin import Field, PluginFailure
from leanclaw_plugin.skill import ToolResult, skill, tool

MAX_CHARACTERS = 200_000
# Fewer words than this say little about a text.
FEW_WORDS = 100
FEW_SENTENCES = 30
# Below this part of words in Latin letters the text is not English.
LEAST_LATIN = 0.5

InputText = Annotated[str, Field(description="Plain text; a blank line separates paragraphs.", min_length=1, max_length=MAX_CHARACTERS)]


@dataclass
class TopWord:
    word: str
    count: int


@dataclass
class Statistics:
    words: int
    unique_words: int
    sentences: int
    paragraphs: int
    characters: int
    characters_without_spaces: int
    average_word_length: Annotated[float, Field(description="Letters and digits per word")]
    average_sentence_length: Annotated[float, Field(description="Words per sentence")]
    longest_word: str
    reading_time_seconds: Annotated[int, Field(description=f"Silent reading at {WORDS_PER_MINUTE} words a minute")]
    top_words: list[TopWord]


@dataclass
class Readability:
    flesch_reading_ease: Annotated[float, Field(description="About 0 (very hard) to 100 (very easy)")]
    difficulty: str
    flesch_kincaid_grade: Annotated[float, Field(description="A grade of a US school, as the further scores")]
    gunning_fog: float
    smog: float
    coleman_liau: float
    automated_readability_index: float
    median_grade: float
    words: int
    sentences: int
    syllables: Annotated[int, Field(description="Estimated from the spelling")]
    complex_words: int
    notes: Annotated[list[str], Field(description="What to bear in mind about these scores")]


@tool(idempotent=True)
def text_statistics(
    text: InputText,
    top: Annotated[int, Field(description="How many of the most frequent words", minimum=0, maximum=100)] = 10,
    skip_common: Annotated[bool, Field(description="Leave out English words such as `the` and `of`")] = True,
) -> Statistics:
    """Counts words, sentences and paragraphs of a text in any script, with averages, reading time and the top words."""
    parts = _parts(text)
    words = parts.words
    return Statistics(
        words=len(words),
        unique_words=len(top_words(words, len(words), False)),
        sentences=parts.sentences,
        paragraphs=parts.paragraphs,
        characters=len(parts.text),
        characters_without_spaces=sum(not character.isspace() for character in parts.text),
        average_word_length=round(sum(map(letters_of, words)) / len(words), 2),
        average_sentence_length=round(len(words) / parts.sentences, 2),
        longest_word=max(words, key=letters_of),
        reading_time_seconds=round(len(words) * 60 / WORDS_PER_MINUTE),
        top_words=[TopWord(word, count) for word, count in top_words(words, top, skip_common)],
    )


@tool(idempotent=True, output=Readability)
def readability(text: InputText) -> ToolResult:
    """Estimates how hard an English text is to read: Flesch, Flesch-Kincaid, Gunning fog, SMOG, Coleman-Liau and ARI."""
    parts = _parts(text)
    counts, latin = english_counts(parts)
    if latin < LEAST_LATIN:
        raise PluginFailure("invalid-input", "These formulas are made for English; most words of the text are not in Latin letters.")
    ease = formulas.flesch_reading_ease(counts)
    grades = [
        formulas.flesch_kincaid_grade(counts),
        formulas.gunning_fog(counts),
        formulas.smog(counts),
        formulas.coleman_liau(counts),
        formulas.automated_readability_index(counts),
    ]
    rounded = [round(grade, 2) for grade in grades]
    median = sorted(rounded)[len(rounded) // 2]
    scores = Readability(
        round(ease, 2), formulas.difficulty(ease), *rounded, median, counts.words, counts.sentences, counts.syllables,
        counts.complex_words, _notes(counts),
    )
    return ToolResult(text=f"{scores.difficulty}: reading ease {scores.flesch_reading_ease}, grade {median}", structured=scores)


def _parts(text: str):
    """The text in its parts; one without a word is refused. The limit holds again here, where no host checked the schema."""
    if len(text) > MAX_CHARACTERS:
        raise PluginFailure("too-large", f"The text has {len(text)} characters; the limit is {MAX_CHARACTERS}. Send it in parts.")
    parts = read(text)
    if not parts.words:
        raise PluginFailure("invalid-input", "The text has no words.")
    return parts


def _notes(counts: formulas.Counts) -> list[str]:
    notes = []
    if counts.words < FEW_WORDS:
        notes.append(f"The text has fewer than {FEW_WORDS} words: the scores may be far off.")
    if counts.sentences < FEW_SENTENCES:
        notes.append(f"SMOG is made for {FEW_SENTENCES} sentences and more.")
    return notes


Skill = skill(text_statistics, readability)
