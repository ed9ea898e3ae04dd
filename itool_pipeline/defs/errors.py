"""Errors that a person can act on are shown as a sentence, not as a trace."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from itool_pipeline.data.wheels import FetchError
from itool_pipeline.experiment_files import ConfigError
from itool_pipeline.files.durable import StorageError
from itool_pipeline.steps.workspace import MissingInput


@contextmanager
def explained() -> Iterator[None]:
    """Turn an error whose message says what to do into a failure that is not tried again."""
    try:
        yield
    except (ConfigError, FetchError, MissingInput, StorageError) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
