"""Whether TRL is there, which is an extra: asked without torch, before anything is trained."""

from __future__ import annotations

from importlib.util import find_spec

from itool_pipeline.training.job import TrainingError


def require_trl() -> None:
    """Raise TrainingError, with what to install, unless TRL is there."""
    if find_spec("trl") is None:
        raise TrainingError(
            "preference.loss.type is grpo, which TRL trains, and TRL is not installed here: "
            ".venv/bin/pip install -c constraints.txt -e '.[grpo]'"
        )
