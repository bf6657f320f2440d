"""Cuts a text into paragraphs, sentences and words, in any script.

Words of scripts that are written without spaces are not looked up in a dictionary: each Han, Hiragana or Katakana
character counts as a word, and a run of Thai letters as one.
"""

import re
import sys
import unicodedata


def _marks() -> str:
    """Ranges of all combining marks, which belong to the letter before them. Runs once, when the component is built."""
    ranges: list[list[int]] = []
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code)) not in ("Mn", "Mc"):
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


_IDEOGRAPH = "\u3041-\u3096\u30a1-\u30fa\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"
_MARK = _marks()
_LETTER = rf"(?:(?![{_IDEOGRAPH}])[^\W_])"
# An apostrophe or a hyphen holds a word together only between letters; so do a point or a comma between digits.
_WORD = re.compile(
    rf"[{_IDEOGRAPH}]|{_LETTER}(?:{_LETTER}|[{_MARK}\u200c\u200d]|['\u2019\u02bc\u2010\u2011-](?={_LETTER})|(?<=\d)[.,](?=\d))*"
)

_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
# The end of a sentence: its mark, closing quotes and brackets, and then space or the end. Full-width marks need no space.
_END = re.compile(r"[.!?\u2026\u203d\u0964\u06d4\u061f]+[\"'\u2019\u201d\u00bb)\]]*(?=\s|$)|[\u3002\uff01\uff1f]+[\u300d\u300f\uff09]*")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[\"'\u201c])(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|Rev|Gen|Col|Sgt|Capt|Lt|St|Jr|Sr|vs|No|Nos|Fig|Eq|Vol|pp|ca|cf|al"
    r"|approx|Inc|Ltd|Co|Corp|e\.g|i\.e|U\.S|U\.K|a\.m|p\.m)\.$"
)


def normalized(text: str) -> str:
    """Composed letters and plain line breaks, so that one text has one reading."""
    return unicodedata.normalize("NFC", re.sub(r"\r\n?|\u2028|\u2029|\x85", "\n", text))


def words_of(text: str) -> list[str]:
    """The words of a normalized text, in order."""
    return _WORD.findall(text)


def paragraphs_of(text: str) -> list[str]:
    """Parts of a normalized text between blank lines; parts without a word do not count."""
    return [part for part in _BLANK_LINE.split(text) if _WORD.search(part)]


def sentences_of(paragraph: str) -> list[str]:
    """The sentences of one paragraph; its end ends the last one. Parts without a word do not count."""
    sentences = []
    start = 0
    for end in _END.finditer(paragraph):
        sentence = paragraph[start : end.end()]
        # Only the tail is looked at: an abbreviation is short, and a sentence may not be.
        if end.group() == "." and _ABBREVIATION.search(sentence[-12:]) and end.end() < len(paragraph):
            continue
        sentences.append(sentence.strip())
        start = end.end()
    sentences.append(paragraph[start:].strip())
    return [sentence for sentence in sentences if _WORD.search(sentence)]
