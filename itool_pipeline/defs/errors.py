"""Errors that a person can act on are shown as a sentence, not as a trace; and how a run that failed is summed up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg
from dagster_shared.error import SerializableErrorInfo

from itool_pipeline.errors import mistake_of_ours, words_for


@contextmanager
def explained() -> Iterator[None]:
    """Turn an error that a person can act on into a failure with its words that is not tried again."""
    try:
        yield
    except Exception as error:
        words = words_for(error)
        if words is None:
            raise
        raise dg.Failure(description=words, allow_retries=False) from None


def words_of(error: SerializableErrorInfo) -> str:
    """The cause, out of what Dagster keeps of an error and of those behind it."""
    origin = _origin(error)
    message = origin.message.strip()
    return message.partition(": ")[2] if is_explained(origin) else mistake_of_ours(message)


def is_explained(error: SerializableErrorInfo) -> bool:
    """Whether the error is, or leads back to, one of `explained`, whose words are enough without a trace."""
    return _origin(error).cls_name == dg.Failure.__name__


def _origin(error: SerializableErrorInfo) -> SerializableErrorInfo:
    """The first that is not Dagster's own wrapping."""
    while error.cause is not None and (error.cls_name or "").startswith("Dagster"):
        error = error.cause
    return error


def failed_after(seconds: float, causes: Mapping[str, str]) -> str:
    """The last words of a run that failed. `causes`: what failed → its cause and remedy."""
    told = "\n".join(f"{what}: {words}" for what, words in causes.items())
    return f"\nThe run failed after {seconds:.0f} s. What is finished is kept: start it again to go on.\n{told}"


def stopped_after(seconds: float) -> str:
    """The last words of a run that was asked to stop."""
    return f"\nThe run was stopped after {seconds:.0f} s. What is finished is kept: start it again to go on."
