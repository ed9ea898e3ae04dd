"""Token ids out of the spool are those that were rendered, and each was rendered once."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from itool_pipeline.core.types import Example
from itool_pipeline.steps.token_spool import TokenSpool
from itool_pipeline_tests.steps.by_hand import example


def test_each_is_rendered_once_and_comes_back(tmp_path: Path) -> None:
    draw, rendered = random.Random(0), Counter[str]()
    ids = {f"e{i}": tuple(draw.choices(range(2**31), k=draw.randrange(9))) for i in range(50)}
    examples = {key: example(key) for key in [*ids, "refused"]}

    def render(asked: Example) -> tuple[int, ...] | None:
        rendered[asked.id] += 1
        return ids.get(asked.id)

    spool = TokenSpool(tmp_path, render)
    for key in draw.choices(list(examples), k=400):
        found = ids.get(key)
        if draw.random() < 0.5:
            assert spool(examples[key]) == found
        else:
            assert spool.length(examples[key]) == (None if found is None else len(found))
    assert set(rendered.values()) == {1}
    assert list(tmp_path.iterdir()) == [], "its file is no part of the artifact"
