"""Hooks, which see an event and may veto or rewrite it: ``Hook = hook({"before-send": check})``."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .context import Context
from .failure import answering
from .handlers import dumps
from .schema import to_json


@dataclass
class Decision:
    """What a hook decided: continue, skip, deny, replace (with ``payload``)."""

    verdict: str
    reason: str | None = None
    payload: Any = None


@dataclass
class DecisionRecord:
    """A decision as the host reads it."""

    verdict: str
    reason: str | None
    payload: str | None


def deny(reason: str) -> Decision:
    """Refuses the event; ``reason`` is shown to whoever caused it."""
    return Decision("deny", reason)


def skip(reason: str | None = None) -> Decision:
    """Leaves the event out without calling it an error."""
    return Decision("skip", reason)


def replace(payload: Any) -> Decision:
    """Lets the event pass with another payload."""
    return Decision("replace", None, payload)


def hook(handlers: dict[str, Callable[[Any, Context], Decision | None]]) -> type:
    """The ``Hook`` export. Each handler gets the payload and the context; None lets the event pass.

    Each event also stands in the manifest's ``permissions.hooks``.
    """

    class Hook:
        def events(self) -> list[str]:
            return list(handlers)

        def handle(self, context: Any, event: str, payload: str) -> DecisionRecord:
            def work() -> DecisionRecord:
                decision = handlers[event](json.loads(payload), opened) if event in handlers else None
                decision = decision or Decision("continue")
                replaced = None if decision.payload is None else dumps(to_json(decision.payload))
                return DecisionRecord(decision.verdict, decision.reason, replaced)

            with Context(context) as opened:
                return answering(work)

    return Hook
