"""Peak memory and time of `examples` and `splits` on synthetic rows: python -m itool_pipeline_tests.bench.data_memory N

Words are counted in place of tokens, which takes a tenth of the time; `N tokens` asks the embedded model's tokenizer,
which a test or the demo has put into the storage. Each N wants a process of its own, because the peak is the process's.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from itool_pipeline.core.reward import GradePrompt
from itool_pipeline.core.types import Example
from itool_pipeline.steps import prepare
from itool_pipeline.store.paths import storage_paths
from itool_pipeline_tests.steps.by_hand import workspace

WORDS = [f"word{i}" for i in range(5000)]


def write_rows(path: Path, count: int) -> None:
    """Rows in xLAM's layout, each of its own words, with two to six tools: about as long as the set's."""
    draw = random.Random(0)

    def words(number: int) -> str:
        return " ".join(draw.choices(WORDS, k=number))

    with path.open("w") as file:
        for index in range(count):
            tools = [
                {
                    "name": f"tool_{draw.randrange(10**6)}",
                    "description": words(15),
                    "parameters": {
                        words(1): {"description": words(10), "type": "str", "default": ""} for _ in range(3)
                    },
                }
                for _ in range(draw.randint(2, 6))
            ]
            call = {"name": tools[0]["name"], "arguments": {name: words(2) for name in tools[0]["parameters"]}}
            row = {"id": index, "query": words(20), "answers": json.dumps([call]), "tools": json.dumps(tools)}
            file.write(("[" if index == 0 else ",") + json.dumps(row))
        file.write("]")


def peak() -> str:
    """Peak resident memory so far."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"


class Words:
    """In place of the chat template."""

    tools_shown_by = "system"

    def prompt(self, example: Example) -> list[int]:
        return [len(word) for word in f"{example.tools} {example.messages}".split()]

    def response(self, text: str) -> list[int]:
        return [len(word) for word in text.split()]

    def grade(self, example: Example) -> GradePrompt:
        return GradePrompt(tuple(self.prompt(example)), (1, 2), (1, 2, 3, 4))

    def tokenised_alone(self, text: str) -> bool:
        return False


def main(count: int, with_tokenizer: bool) -> None:
    if not with_tokenizer:
        prepare.chat = lambda ws: Words()  # type: ignore[assignment, return-value]
    model = sorted((storage_paths().root / "test_cache").glob("base_model.*.*"))[-1]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "rows.json"
        write_rows(data, count)
        ws = workspace(
            Path(folder) / "storage",
            model={"type": "hub", "name": str(model)},
            data={"type": "xlam", "path": str(data)},
        )
        ws.paths.root.mkdir()
        ws.paths.downloads.symlink_to(storage_paths().downloads.resolve())
        prepare.base_model(ws)
        print(f"{count} rows, {data.stat().st_size / 2**20:.0f} MiB; before: {peak()}", flush=True)
        for step in (prepare.examples, prepare.splits):
            start = time.perf_counter()
            made = step(ws).artifact.manifest.metadata
            print(
                f"{step.__name__}: {made['train_examples']} to train on, {time.perf_counter() - start:.0f} s, {peak()}"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]), "tokens" in sys.argv)
