"""Errors that a person can act on are shown as a sentence, not as a trace."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from itool_pipeline.errors import ActionableError


@contextmanager
def explained() -> Iterator[None]:
    """Turn an error whose message says what to do into a failure that is not tried again."""
    try:
        yield
    except ActionableError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
