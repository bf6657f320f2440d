"""The Python guest of the benchmarks: a method that does nothing."""

from leanclaw_plugin.methods import method, methods


@method()
def run() -> None:
    """Does nothing."""


Method = methods(run)
