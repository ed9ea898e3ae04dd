"""The libraries' own bars and hints would drown what the pipeline says."""

from __future__ import annotations

import logging
import warnings


def quieten_libraries() -> None:
    """No bars of transformers, no hints about kernels on a hub, no warnings meant for the libraries' makers."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
