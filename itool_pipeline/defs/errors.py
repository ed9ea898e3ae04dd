"""Errors that a person can act on are shown as a sentence, not as a trace; and how a run that failed is summed up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg
from dagster_shared.error import SerializableErrorInfo

from itool_pipeline.errors import mistake_of_ours, words_for

_UNHEALTHY = " failed health check: "
"""How Dagster tells that a step which it handed to a cluster is no longer at work there."""


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
    if is_lost_worker(origin):
        return (
            "The process of this step ended and left no error. It was killed, perhaps for want of memory "
            "(compute.memory_gib), or went with its machine, or could not begin: then its log above says why."
        )
    return message.partition(": ")[2] if is_explained(origin) else mistake_of_ours(message)


def is_lost_worker(error: SerializableErrorInfo) -> bool:
    """Whether Dagster itself found that a step's process was gone: of this machine, or of a cluster."""
    return error.cls_name == "ChildProcessCrashException" or (error.cls_name is None and _UNHEALTHY in error.message)


def is_explained(error: SerializableErrorInfo) -> bool:
    """Whether the error is, or leads back to, one of `explained`, whose words are enough without a trace."""
    return _origin(error).cls_name == dg.Failure.__name__


def _origin(error: SerializableErrorInfo) -> SerializableErrorInfo:
    """The first that is not Dagster's own wrapping."""
    while error.cause is not None and (error.cls_name or "").startswith("Dagster"):
        error = error.cause
    return error


def asset_of_step(step_key: str | None) -> str:
    """`make_iteration_1__trees.iteration_1_search_shards[share_00000]` → `iteration_1/trees[share_00000]`."""
    asset, _, rest = (step_key or "run").partition(".")
    _, bracket, share = rest.partition("[")
    return f"{asset.removeprefix('make_').replace('__', '/')}{bracket}{share}"


def failed_after(seconds: float, causes: Mapping[str, str]) -> str:
    """The last words of a run that failed. `causes`: what failed → its cause and remedy."""
    told = "\n".join(f"{what}: {words}" for what, words in causes.items())
    return f"\nThe run failed after {seconds:.0f} s. What is finished is kept: start it again to go on.\n{told}"


def stopped_after(seconds: float) -> str:
    """The last words of a run that was asked to stop."""
    return f"\nThe run was stopped after {seconds:.0f} s. What is finished is kept: start it again to go on."
