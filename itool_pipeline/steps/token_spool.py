"""Token ids of many examples, made once each and kept in a file in between."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

from itool_pipeline.core.types import Example

_ITEM = "i"  # four bytes: no vocabulary has more tokens


class TokenSpool:
    """What `render` makes of an example, remembered by its id.

    A data set is read twice, to see what is in it and for what is chosen. Its token ids do not fit in memory, and
    rendering takes most of the time; so they wait in a file without a name, which goes with the spool.
    """

    def __init__(self, directory: Path, render: Callable[[Example], Sequence[int] | None]) -> None:
        self._render = render
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 closed with the spool
        self._number: dict[str, int] = {}  # id → number in `_ends`; -1: there is nothing
        self._ends = array("q", [0])  # record n lies between items n and n + 1 of this, counted in token ids

    def __call__(self, example: Example) -> tuple[int, ...] | None:
        """The token ids; None where there are none."""
        number = self._kept(example)
        if number < 0:
            return None
        start, end = self._ends[number], self._ends[number + 1]
        found = array(_ITEM)
        self._file.seek(start * found.itemsize)
        found.frombytes(self._file.read((end - start) * found.itemsize))
        return tuple(found)

    def length(self, example: Example) -> int | None:
        """How many they are; None where there are none."""
        number = self._kept(example)
        return None if number < 0 else self._ends[number + 1] - self._ends[number]

    def _kept(self, example: Example) -> int:
        if example.id not in self._number:
            made = self._render(example)
            self._number[example.id] = -1 if made is None else self._append(made)
        return self._number[example.id]

    def _append(self, token_ids: Sequence[int]) -> int:
        record = array(_ITEM, token_ids)
        self._file.seek(self._ends[-1] * record.itemsize)
        self._file.write(record.tobytes())
        self._ends.append(self._ends[-1] + len(record))
        return len(self._ends) - 2
