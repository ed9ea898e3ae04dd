"""Seeds are the same everywhere and differ by every name."""

from __future__ import annotations

from itool_pipeline.core.seeds import derive_seed


def test_equal_on_every_machine() -> None:
    # printf '7\037trees\0371' | sha256sum, its first 64 bits, halved
    assert derive_seed(7, "trees", 1) == 0x3C336A55D47B25A3 >> 1


def test_every_name_counts() -> None:
    names: list[tuple[object, ...]] = [
        (),
        ("a",),
        ("b",),
        ("a", "b"),
        ("b", "a"),
        ("ab",),
        ("a", 1),
        ("a", 2),
        (1, "a"),
    ]
    seeds = {derive_seed(seed, *name) for seed in (0, 1, 11) for name in names}
    assert len(seeds) == 3 * len(names)
    assert all(0 <= seed < 2**63 for seed in seeds)
