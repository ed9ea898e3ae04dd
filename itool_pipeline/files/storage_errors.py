"""What the storage cannot do, in words that help: above all a disk that is full."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from itool_pipeline.errors import ActionableError

MEBIBYTE = 2**20


class StorageError(ActionableError):
    """The storage cannot do what was asked. The message says what, where, and what to do about it."""


def is_disk_full(error: BaseException) -> bool:
    """Whether `error` means a full disk or an exhausted quota; native libraries only say so in their text."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left on device" in str(error) or "Disk quota exceeded" in str(error)


def is_damage(error: OSError) -> bool:
    """Whether the disk no longer has what was written. Any other refusal, for want of a right or of a free descriptor,
    tells nothing of the content.
    """
    return error.errno in (errno.EIO, errno.EISDIR, errno.EUCLEAN, errno.EBADMSG)  # the last two: bad checksums


@contextmanager
def explaining_full_disk(what: str, place: Path) -> Iterator[None]:
    """Turns a full disk, met while writing `what` under `place`, into a StorageError that says what to do."""
    try:
        yield
    except Exception as error:
        if isinstance(error, StorageError) or not is_disk_full(error):
            raise
        existing = next(folder for folder in (place, *place.parents) if folder.exists())
        free = shutil.disk_usage(existing).free / MEBIBYTE
        raise StorageError(
            f"The disk is full: {what} could not be written to {place} ({free:.0f} MiB free). Free some space (any "
            "folder of artifacts that is no longer needed may be deleted; it is made again when asked for) or point "
            "ITOOL_STORAGE at a larger disk, then run again: finished parts are kept."
        ) from error
