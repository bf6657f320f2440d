"""The two tools as an agent calls them."""

import json
import unittest

import plugin
from leanclaw_plugin import PluginFailure
from leanclaw_plugin.testing import TestHost

GETTYSBURG = (
    "Four score and seven years ago our fathers brought forth on this continent, a new nation, conceived in Liberty, and"
    " dedicated to the proposition that all men are created equal.\n\n"
    "Now we are engaged in a great civil war, testing whether that nation, or any nation so conceived and so dedicated, can"
    " long endure. We are met on a great battle-field of that war."
)


class Tools(unittest.TestCase):
    def setUp(self) -> None:
        self.host = TestHost()

    def call(self, name: str, **arguments: object):
        return self.host.call_tool(plugin.Skill, name, arguments)

    def refused(self, code: str, message: str, name: str, **arguments: object) -> None:
        with self.assertRaisesRegex(PluginFailure, message) as raised:
            self.call(name, **arguments)
        self.assertEqual(raised.exception.code, code)

    def test_statistics(self) -> None:
        answer = self.call("text_statistics", text=GETTYSBURG, top=3).structured
        # Words, sentences and characters are those of wc and of counting by hand.
        self.assertEqual((answer["words"], answer["sentences"], answer["paragraphs"]), (64, 3, 2))
        self.assertEqual(answer["characters"], len(GETTYSBURG))
        self.assertEqual(answer["average_sentence_length"], 21.33)
        self.assertEqual(answer["longest_word"], "proposition")
        self.assertEqual(answer["reading_time_seconds"], 16)
        self.assertEqual(
            answer["top_words"],
            [{"word": "nation", "count": 3}, {"word": "conceived", "count": 2}, {"word": "dedicated", "count": 2}],
        )

    def test_common_words_can_be_kept(self) -> None:
        top = self.call("text_statistics", text="The cat and the dog. THE END", top=1, skip_common=False).structured["top_words"]
        self.assertEqual(top, [{"word": "the", "count": 3}])
        self.assertEqual(self.call("text_statistics", text="The cat", top=0).structured["top_words"], [])

    def test_case_and_apostrophes_do_not_make_another_word(self) -> None:
        answer = self.call("text_statistics", text="Straße STRASSE don't don’t DON'T").structured
        self.assertEqual((answer["words"], answer["unique_words"]), (5, 2))

    def test_any_script_can_be_counted(self) -> None:
        answer = self.call("text_statistics", text="東京は大きい。これも。").structured
        self.assertEqual((answer["words"], answer["sentences"], answer["average_word_length"]), (9, 2, 1))

    def test_readability(self) -> None:
        answer = self.call("readability", text="This sentence, taken as a reading passage unto itself, is being used to prove a point.")
        self.assertEqual(answer.structured["flesch_reading_ease"], 68.98)
        self.assertEqual((answer.structured["words"], answer.structured["syllables"], answer.structured["complex_words"]), (16, 23, 0))
        self.assertEqual(answer.structured["difficulty"], "plain")
        self.assertEqual(len(answer.structured["notes"]), 2)
        self.assertEqual(answer.text, "plain: reading ease 68.98, grade 6.59")

    def test_complex_words_leave_out_common_endings_and_hyphens(self) -> None:
        answer = self.call("readability", text="Created families well-known-to-all intelligently responsible committees").structured
        # Families, intelligently and responsible: the others have three syllables only by -ed, -es or a hyphen.
        self.assertEqual(answer["complex_words"], 3)

    def test_the_median_grade_is_one_of_the_grades(self) -> None:
        answer = self.call("readability", text=GETTYSBURG).structured
        grades = [answer[name] for name in ("flesch_kincaid_grade", "gunning_fog", "smog", "coleman_liau", "automated_readability_index")]
        self.assertEqual(answer["median_grade"], sorted(grades)[2])

    def test_what_cannot_be_measured_is_refused(self) -> None:
        for name in ("text_statistics", "readability"):
            self.refused("invalid-input", "no words", name, text="... !!!")
            self.refused("too-large", "limit is 200000", name, text="a" * 200_001)
        self.refused("invalid-input", "made for English", "readability", text="Привет, как дела сегодня?")

    def test_the_largest_text_is_read(self) -> None:
        text = ("The quick brown fox jumps over the lazy dog. " * 5000)[:200_000]
        self.assertEqual(self.call("readability", text=text).structured["notes"], [])

    def test_both_tools_declare_what_they_take_and_give(self) -> None:
        for record in plugin.Skill().tools():
            schema = json.loads(record.input_schema)
            self.assertEqual(schema["properties"]["text"]["maxLength"], 200_000)
            given = self.host.call_tool(plugin.Skill, record.name, {"text": GETTYSBURG}).structured
            self.assertEqual(set(json.loads(record.output_schema)["required"]), set(given))


if __name__ == "__main__":
    unittest.main()
