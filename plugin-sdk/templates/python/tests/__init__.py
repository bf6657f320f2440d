"""Run with: python3 -m unittest discover -s tests -t ."""

import sys
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(_FOLDER), str(_FOLDER / "sdk" / "python")]
