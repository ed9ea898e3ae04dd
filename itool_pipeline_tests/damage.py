"""What a bad disk does."""

from __future__ import annotations

from pathlib import Path


def flip_a_byte(file: Path) -> None:
    """The one in the middle becomes another; the size stays."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
