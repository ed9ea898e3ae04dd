"""The list of mutants is in step with the code: each applies exactly once, and its tests are there."""

from __future__ import annotations

from collections import Counter

import pytest

from itool_pipeline_tests.mutation_check import ROOT, Mutant, mutants


def test_every_mutant_applies_once() -> None:
    for mutant in mutants():
        source = (ROOT / "itool_pipeline" / mutant.file).read_text()
        mutated = mutant.applied(source)
        assert mutated != source
        compile(mutated, mutant.file, "exec")


def test_what_does_not_apply_once_is_refused() -> None:
    for source in ("", "x = 1\nx = 1\n"):
        with pytest.raises(ValueError, match="times in the module, not once"):
            Mutant("core/a.py", "twice", "x = 1", "x = 2", ()).applied(source)


def test_every_area_has_mutants_and_every_mutant_tests() -> None:
    found = mutants()
    assert all(mutant.tests for mutant in found)
    assert all((ROOT / "itool_pipeline_tests" / test).is_file() for mutant in found for test in mutant.tests)
    areas = Counter(mutant.area for mutant in found)
    assert areas["core"] >= 10
    assert areas["training"] + areas["engines"] >= 10
    assert areas["files"] + areas["store"] + areas["steps"] >= 20
