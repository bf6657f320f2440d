"""Words, sentences and paragraphs."""

import unittest

from segmentation import normalized, paragraphs_of, sentences_of, words_of


class Words(unittest.TestCase):
    def test_words(self) -> None:
        for text, expected in [
            ("The quick, brown fox.", ["The", "quick", "brown", "fox"]),
            ("don't rock ’n’ roll: it’s o'clock", ["don't", "rock", "n", "roll", "it’s", "o'clock"]),
            ("state-of-the-art - and - more--less", ["state-of-the-art", "and", "more", "less"]),
            ("3.14, 1,000,000 and 2.", ["3.14", "1,000,000", "and", "2"]),
            ("snake_case and e.g. this", ["snake", "case", "and", "e", "g", "this"]),
            ("«Ça va?» — Über naïve œuvre", ["Ça", "va", "Über", "naïve", "œuvre"]),
            ("Привет, мир!", ["Привет", "мир"]),
            ("مرحبا بالعالم", ["مرحبا", "بالعالم"]),
            ("हिन्दी में लिखा", ["हिन्दी", "में", "लिखा"]),
            ("東京 is 大きい", ["東", "京", "is", "大", "き", "い"]),
            ("👩‍👩‍👧 🎉 ok", ["ok"]),
            ("", []),
            ("... --- !!!", []),
        ]:
            self.assertEqual(words_of(normalized(text)), expected, text)

    def test_composed_and_decomposed_letters_are_one_text(self) -> None:
        self.assertEqual(words_of(normalized("cafe\u0301")), ["café"])


class Sentences(unittest.TestCase):
    def test_sentences(self) -> None:
        for text, expected in [
            ("One. Two! Three? Four", 4),
            ("Dr. Smith met Mrs. Jones at 5 p.m. on Sunday.", 1),
            ("J. R. R. Tolkien wrote it.", 1),
            ("It costs 3.50 now. See example.com/a.b today.", 2),
            ('"Really?" she asked. "Yes!" (He nodded.) Done', 5),
            ("Wait... what?! No…", 3),
            ("これは本です。あれも！", 2),
            ("यह किताब है। वह भी।", 2),
            ("She is from the U.S. and likes it, i.e. it is home.", 1),
            ("He came at 5 p.m.", 1),
            ("!!! ... ???", 0),
        ]:
            self.assertEqual(len(sentences_of(normalized(text))), expected, text)

    def test_a_question_in_quotation_marks_ends_a_sentence(self) -> None:
        self.assertEqual(sentences_of("“Why?” Because."), ["“Why?”", "Because."])


class Paragraphs(unittest.TestCase):
    def test_paragraphs_end_at_blank_lines_of_any_kind(self) -> None:
        text = "One\nstill one\n\nTwo\r\n \t\r\nThree\r\rFour\n\n\n---\n\n"
        self.assertEqual(paragraphs_of(normalized(text)), ["One\nstill one", "Two", "Three", "Four"])


if __name__ == "__main__":
    unittest.main()
