"""The base of every error that a person can act on."""

from __future__ import annotations


class ActionableError(Exception):
    """What went wrong is in the user's reach: a file, a setting, the disk, the network, another process.

    The message is one or a few sentences for that person: what, where, and what to do about it. Dagster and the
    command line show it without a trace. A mistake of our own is never of this class: there the trace is what helps.
    """
