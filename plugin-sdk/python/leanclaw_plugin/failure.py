"""The one way in which a call fails, on its way to and from the host."""

import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ._bridge import Err

Answer = TypeVar("Answer")


class PluginFailure(Exception):
    """Raised by a handler to fail the call, and raised by every wrapper of a host function that failed.

    ``code`` is one of invalid-input, denied, auth-required, not-found, conflict, rate-limited, budget-exhausted,
    too-large, timed-out, cancelled, unavailable, unsupported, internal, or one of the plugin's own.
    ``retryable``: the same call may succeed later, after ``retry_after_ms`` milliseconds from now.
    ``extra``: anything that JSON can hold.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        retry_after_ms: int | None = None,
        extra: Any = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable or retry_after_ms is not None
        self.retry_after_ms = retry_after_ms
        self.extra = extra


@dataclass
class FailureRecord:
    """A failure as the host reads it."""

    code: str
    message: str
    retryable: bool
    retry_after_ms: int | None
    extra: str | None


def failing(function: Callable[..., Answer], *arguments: Any) -> Answer:
    """Calls a host function; its failure is raised as a PluginFailure."""
    try:
        return function(*arguments)
    except Err as error:
        raise lifted(error.value) from None


def lifted(record: Any) -> PluginFailure:
    """A failure of the host."""
    return PluginFailure(
        record.code,
        record.message,
        retryable=record.retryable,
        retry_after_ms=record.retry_after_ms,
        extra=_parsed(record.extra),
    )


def answering(work: Callable[[], Answer]) -> Answer:
    """Runs a handler for the host. Anything but a PluginFailure is internal, with its traceback in the plugin's log."""
    try:
        return work()
    except PluginFailure as failure:
        raise Err(_lowered(failure)) from None
    except Exception as error:
        traceback.print_exception(error, file=sys.stderr)
        raise Err(_lowered(PluginFailure("internal", f"{type(error).__name__}: {error}"))) from None


def _lowered(failure: PluginFailure) -> FailureRecord:
    extra = None if failure.extra is None else json.dumps(failure.extra, ensure_ascii=False)
    return FailureRecord(failure.code, failure.message, failure.retryable, failure.retry_after_ms, extra)


def _parsed(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text
