import unittest

import plugin
from leanclaw_plugin import PluginFailure
from leanclaw_plugin.testing import TestHost


class Greet(unittest.TestCase):
    def test_greets_by_name(self) -> None:
        answer = TestHost().call_method(plugin.Method, "greet", {"name": " Ada "})
        self.assertEqual(answer, {"greeting": "Hello, Ada!"})

    def test_refuses_an_empty_name(self) -> None:
        with self.assertRaises(PluginFailure) as raised:
            TestHost().call_method(plugin.Method, "greet", {"name": " "})
        self.assertEqual(raised.exception.code, "invalid-input")


if __name__ == "__main__":
    unittest.main()
