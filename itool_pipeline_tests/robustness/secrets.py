"""A token in the environment is in no file that a run leaves: logs, manifests, database, event log, run config."""

from __future__ import annotations

import random
from pathlib import Path

import yaml

from itool_pipeline_tests.robustness.outcome import Outcome
from itool_pipeline_tests.robustness.scene import folder, scene
from itool_pipeline_tests.small_experiment import RUN

VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "WANDB_API_KEY")


def tokens(outcome: Outcome, tries: int, draw: random.Random) -> None:
    """One run that ends well, and one that fails where the token would be used."""
    s = scene()
    lost = s.root / "experiments" / "nowhere.yaml"
    lost.write_text(yaml.safe_dump({"extends": "small", "model": {"type": "hub", "name": "nobody/no-such-model"}}))
    for _ in range(tries):
        with folder() as root:
            secret = f"hf_{draw.getrandbits(160):040x}"
            # Nobody answers there, so that nothing is asked of the real hub.
            storage = s.storage(root / "storage", HF_ENDPOINT="http://127.0.0.1:9", **dict.fromkeys(VARIABLES, secret))
            for command in (RUN, ("itool_pipeline", "run", "nowhere")):
                storage.run(*command)
                outcome.tried([f"{path} holds it" for path in _holding(storage.root, secret)])
    lost.unlink()


def _holding(root: Path, secret: str) -> list[Path]:
    files = [path for path in root.rglob("*") if path.is_file() and "downloads" not in path.parts]
    return [path for path in files if secret.encode() in path.read_bytes()]
