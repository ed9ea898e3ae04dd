"""The base of every error that a person can act on, and words for those of the system."""

from __future__ import annotations

import errno
import os

_OUT_OF_MEMORY = ("can't allocate memory", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What torch says where it has no class of its own for it."""

_REFUSED = {
    "database or disk is full": errno.ENOSPC,
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "readonly database": errno.EROFS,
    "Read-only file system": errno.EROFS,
    "disk I/O error": errno.EIO,
}
"""What libraries say that hide the error of the system, as SQLite does, in which Dagster keeps its runs."""
_SQLITE_CANNOT_OPEN = "unable to open database file"
"""What SQLite says of all that keeps it from the file or from its journal, a disk without inodes among them."""
_NO_HOME = "Could not determine home directory"
_MAY_NOT = (errno.EACCES, errno.EPERM, errno.EROFS)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REMEDIES = {
    **dict.fromkeys(
        _MAY_NOT, "Let the user of this process read and write it, or point ITOOL_STORAGE at another folder"
    ),
    **dict.fromkeys(_FULL, "Free some space, or point ITOOL_STORAGE at a larger disk"),
    errno.ENOTDIR: "There is a file where a folder should be: move it away, or name another place",
    errno.EEXIST: "There is something of that name already: move it away, or name another place",
    errno.EISDIR: "There is a folder where a file should be: move it away, or name another place",
    **dict.fromkeys(
        (errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.EREMOTEIO),
        "The disk does not read or write there: look at it, or point ITOOL_STORAGE at another",
    ),
    errno.ESTALE: "The file server has lost sight of it: mount it again",
    errno.ENAMETOOLONG: "Choose a shorter name",
    errno.ELOOP: "A link leads back to itself: remove it, or name another place",
    errno.EMFILE: "Raise the limit with `ulimit -n`",
    errno.ENFILE: "End other programs, or raise the system's limit of open files",
}
"""What a person can do where the system refuses something, whatever it was asked for."""


class ActionableError(Exception):
    """What went wrong is in the user's reach: a file, a setting, the disk, the network, another process.

    The message is one or a few sentences for that person: what, where, and what to do about it. Dagster and the
    command line show it without a trace. A mistake of our own is never of this class: there the trace is what helps.
    """


def words_for(error: BaseException) -> str | None:
    """What a person can do about the error; None for a mistake of our own."""
    if isinstance(error, ActionableError):
        return str(error)
    if _is_out_of_memory(error):
        said = _first_line(error)
        return (
            f"There is not enough memory{f' ({said})' if said else ''}. Lower compute.batch_tokens or "
            "compute.prefix_cache_gib, for a training set compute.gradient_checkpointing, end other programs that "
            "use it, or take a machine with more; then run again."
        )
    if isinstance(error, OSError) and error.errno in _REMEDIES:
        where = " → ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        return f"{error.strerror}{f': {where}' if where else ''}. {_REMEDIES[error.errno]}, then run again."
    for said, number in _REFUSED.items():
        if said in str(error):
            return f"{os.strerror(number)} ({_first_line(error)}). {_REMEDIES[number]}, then run again."
    if _NO_HOME in str(error):
        return f"{_first_line(error)}: a path begins with ~ and a name that is no user's here. Write the path out."
    if _SQLITE_CANNOT_OPEN in str(error):
        return (
            f"A database in which Dagster keeps its runs cannot be opened or written ({_first_line(error)}). Look "
            "whether the disk of DAGSTER_HOME has space and inodes (`df -i`) left, whether the user of this process "
            "may write there, and how many files it may open (`ulimit -n`); then run again."
        )
    return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def mistake_of_ours(error: str) -> str:
    """What is said of an error that nobody can act on but us. `error`: its class and message."""
    return f"{error}. This is a mistake in the program, not in your files; please report it with the trace above."


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return type(error).__name__ == "OutOfMemoryError" or any(said in str(error) for said in _OUT_OF_MEMORY)
