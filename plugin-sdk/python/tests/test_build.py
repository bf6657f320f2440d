"""The build command, up to the tool that it calls."""

import importlib.util
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

BUILD = Path(__file__).resolve().parent.parent / "build.py"
_spec = importlib.util.spec_from_file_location("leanclaw_build", BUILD)
build = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(build)


class Build(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.contract = self.root / "contract"
        (self.contract / "deps").mkdir(parents=True)
        for name in ("types", "log", "skill", "worlds"):
            (self.contract / f"{name}.wit").write_text(f"package leanclaw:plugin@0.3.1;\n// {name}\n")
        (self.contract / "worlds.wit").write_text("world base {\n}\nworld pure-skill-plugin {\n}\n")
        (self.contract / "deps" / "io.wit").write_text("package wasi:io@0.2.12;\n")

    def assembled(self, world: str | None = None, imports: tuple[str, ...] = (), exports: tuple[str, ...] = ()) -> Path:
        target = Path(tempfile.mkdtemp(dir=self.root)) / "wit"
        build.assemble_wit(self.contract, target, world, list(imports), list(exports))
        return target

    def test_a_named_world_includes_the_one_of_the_contract_in_its_version(self) -> None:
        target = self.assembled("pure-skill-plugin", ("log",))
        self.assertEqual(
            (target / "world.wit").read_text(),
            "package local:component;\n\nworld component {\n  include leanclaw:plugin/pure-skill-plugin@0.3.1;\n  import leanclaw:plugin/log@0.3.1;\n}\n",
        )
        self.assertIn("skill", (target / "deps/leanclaw-plugin/skill.wit").read_text())
        self.assertIn("wasi:io", (target / "deps/io.wit").read_text())

    def test_a_world_file_is_taken_as_it_is(self) -> None:
        file = self.root / "own.wit"
        file.write_text("package my:own;\nworld mine {}\n")
        self.assertEqual((self.assembled(str(file)) / "world.wit").read_text(), file.read_text())

    def test_mistakes_are_named(self) -> None:
        for arguments, message in [
            ({"imports": ("loog",)}, "no interface loog. It has: log"),
            ({}, "Name what the plugin is"),
            ({"world": "nope"}, "no world nope. It has: base, pure-skill-plugin"),
            ({"world": "absent.wit"}, "does not exist"),
            ({"world": "absent.wit", "imports": ("log",)}, "do not go with a world file"),
        ]:
            with self.assertRaisesRegex(build.BuildError, message):
                self.assembled(**arguments)
        with self.assertRaisesRegex(build.BuildError, "No leanclaw:plugin WIT found"):
            build.find_contract(str(self.root), self.root)

    def test_the_command_shows_mistakes_without_a_traceback(self) -> None:
        (self.root / "my-plugin.py").write_text("")
        for entry, message in [("absent.py", "does not exist"), ("my-plugin.py", "cannot be imported")]:
            command = [sys.executable, str(BUILD), entry, "--world", "x", "-o", "x.wasm"]
            done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn(message, done.stderr)
            self.assertNotIn("Traceback", done.stderr)

    def test_a_python_that_is_too_old_is_told_so(self) -> None:
        pretend = f"import runpy, sys; sys.version_info = (3, 9, 18); runpy.run_path({str(BUILD)!r}, run_name='__main__')"
        done = subprocess.run([sys.executable, "-c", pretend], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("is too old for this kit: install Python 3.10 or later", done.stderr)
        self.assertNotIn("Traceback", done.stderr)

    def test_a_failed_build_shows_the_plugins_traceback_alone(self) -> None:
        output = """Traceback (most recent call last):
  File "tool", line 8, in <module>
AssertionError: Traceback (most recent call last):
  File "/0/plugin.py", line 1, in <module>
TypeError: A tool needs a name.

Caused by:
    TypeError: A tool needs a name.

Stack backtrace:
   0: something
"""
        expected = 'Traceback (most recent call last):\n  File "/0/plugin.py", line 1, in <module>\nTypeError: A tool needs a name.'
        self.assertEqual(build.explained(output), expected)
        self.assertEqual(build.explained("error: no such world\n"), "error: no such world")


if __name__ == "__main__":
    unittest.main()
