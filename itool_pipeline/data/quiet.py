"""The libraries' own bars and hints would drown what the pipeline says."""

from __future__ import annotations

import logging
import warnings


def quieten_libraries() -> None:
    """No progress bars of transformers, no warnings that are meant for its makers."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def quieten_imports() -> None:
    """No hints of bitsandbytes, when it is imported, about kernels on a hub."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
