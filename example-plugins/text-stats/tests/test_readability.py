"""The formulas against published figures, the syllables against the dictionary."""

import unittest

import readability as formulas
from readability import Counts
from syllables import syllables_of

# Counts of a text and what the published formulas give for them, worked out apart from this code with bc.
SAMPLE = Counts(words=119, sentences=5, syllables=228, letters=639, complex_words=24, polysyllables=29)

# As dictionaries divide them.
DICTIONARY = {
    1: "the cat sat used point prove hour fire cake loved walked jumped makes queue strength through eight school friend moved"
    " hopes lives a I",
    2: "table apple acre being going reading passage sentence unto itself taken hybrid mammal creature houses wishes judges wanted"
    " needed lion quiet poem didn't couldn't people careful statement lonely something science ruin fluid dual duel naïve doing"
    " playing happy little handle handles women Wednesday well-known",
    3: "beautiful seemingly platypus banana family animal however area idea created radio studio video museum recipe syllable"
    " elephant computer important basketball influence poetry dialect violin everyone theatre united up-to-date",
    4: "Australian education reptilian information vegetable identity television American material community variety category"
    " operation economy",
    5: "university opportunity association electricity imagination",
}


class Syllables(unittest.TestCase):
    def test_words_of_the_dictionary(self) -> None:
        for expected, words in DICTIONARY.items():
            for word in words.split():
                self.assertEqual(syllables_of(word), expected, word)

    def test_case_and_apostrophes_make_no_difference(self) -> None:
        self.assertEqual([syllables_of(word) for word in ("PEOPLE", "people's", "didn’t", "Area’s")], [2, 2, 2, 3])

    def test_every_word_has_one(self) -> None:
        for word in ("hmm", "x", "123", "東", "-", "привет"):
            self.assertEqual(syllables_of(word), 1, word)


class Formulas(unittest.TestCase):
    def test_published_examples(self) -> None:
        # Both sentences are the usual examples for Flesch's scale: 116 and 69.
        self.assertAlmostEqual(formulas.flesch_reading_ease(Counts(6, 1, 6, 17, 0, 0)), 116.145)
        self.assertAlmostEqual(formulas.flesch_reading_ease(Counts(16, 1, 23, 67, 0, 0)), 68.98, places=2)
        # The example of Coleman and Liau: 639 letters, 119 words, 5 sentences are grade 14.5.
        self.assertAlmostEqual(formulas.coleman_liau(SAMPLE), 14.5, places=1)

    def test_one_sample_through_all(self) -> None:
        for formula, expected in [
            (formulas.flesch_reading_ease, 20.5872),
            (formulas.flesch_kincaid_grade, 16.3004),
            (formulas.gunning_fog, 17.5872),
            (formulas.smog, 16.8872),
            (formulas.automated_readability_index, 15.7615),
        ]:
            self.assertAlmostEqual(formula(SAMPLE), expected, places=4, msg=formula.__name__)

    def test_the_names_of_the_scale(self) -> None:
        for ease, name in [(116, "very easy"), (90, "very easy"), (89.9, "easy"), (65, "plain"), (30, "difficult"), (-20, "very difficult")]:
            self.assertEqual(formulas.difficulty(ease), name)


if __name__ == "__main__":
    unittest.main()
