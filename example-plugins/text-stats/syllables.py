"""Estimates the syllables of an English word from its spelling: vowel groups, less the silent ones.

English spelling does not say it exactly. Over running text the errors go both ways and nearly cancel out, which is all
that a readability formula needs.
"""

import re
import unicodedata

_VOWELS = re.compile(r"[aeiouy]+")
# Vowels that stand side by side and are still spoken apart: li-on, cre-ate, sci-ence, du-al, be-ing, vide-o.
_HIATUS = re.compile(
    r"(?<![ctgsx])i[ao](?!u)|[ct]iat|(?<=[^q])ua[lt]|[eiouy](?=ing)|creat|eo(?=$|s$|[lnrt]i|m)|eum|oe(?=[mt])"
    r"|sci(?=e)|(?<=[ldprt])ie(?=t|n[ct])|(?<=[^gq])ui(?=t[iy])|(?<=[flr])ui(?=[dn])|(?<=[fldnr])ue(?=ls?$|n[ct]|ts?$)"
    r"|(?<=[^aeo])ius$|ienc|ism$|[aeiouy]ë|ï"
)
_SILENT_END = re.compile(r"(?<=[^aeiouy])e$|(?<=u)e$|(?<=[^aeiouydt])ed$|(?<=[^aeiouy])es$")
# Endings whose e is spoken after all: ta-ble, a-cre, hous-es, wish-es, judg-es.
_SPOKEN_END = re.compile(r"[^aeiouylr]les?$|cres?$|(?:[csxz]|[cs]h|g)es$")
# A silent e inside a word, before an ending: care-ful, state-ment, home-less, some-thing, lone-ly.
_SILENT_INSIDE = re.compile(r"(?<=[aeiouy][^aeiouy])e(?=(?:ful|ment|less|ness|ly|thing|where|times?|body|one|self|selves|work|land)s?$)")
_EXCEPTIONS = {
    "area": 3, "being": 2, "business": 2, "chocolate": 2, "colonel": 2, "creature": 2, "different": 2, "eighteen": 2,
    "every": 2, "everyone": 3, "everything": 3, "evening": 2, "family": 3, "fire": 1, "hour": 1, "idea": 3, "ideas": 3,
    "naive": 2, "people": 2, "queue": 1, "quiet": 2, "real": 1, "recipe": 3, "reptilian": 4, "science": 2, "simile": 3, "something": 2,
    "sometimes": 2, "somewhere": 2, "the": 1, "theatre": 3, "vegetable": 4, "wednesday": 2, "women": 2,
}


def syllables_of(word: str) -> int:
    """At least 1. Hyphenated words are counted part by part."""
    return sum(_of_part(part) for part in re.split(r"[-\u2010\u2011]", word) if part) or 1


def _of_part(word: str) -> int:
    plain = _plain(word)
    base = re.sub(r"'s?$", "", plain)
    if base in _EXCEPTIONS:
        return _EXCEPTIONS[base]
    # "Didn't" and "couldn't" have a syllable that no vowel shows.
    spoken_not = 1 if re.search(r"[ds]n't$", plain) else 0
    letters = re.sub(r"[^a-zëï]", "", base)
    count = len(_VOWELS.findall(letters)) + len(_HIATUS.findall(letters)) + spoken_not
    if _SILENT_END.search(letters) and not _SPOKEN_END.search(letters):
        count -= 1
    if _SILENT_INSIDE.search(letters):
        count -= 1
    return max(count, 1)


def _plain(word: str) -> str:
    """Lower case, straight apostrophes, and no accents but the diaeresis, which is about syllables."""
    kept = word.lower().replace("\u2019", "'").replace("\u02bc", "'")
    letters = []
    for letter in kept:
        letters.append(letter if letter in "ëï" else unicodedata.normalize("NFD", letter)[0])
    return "".join(letters)
