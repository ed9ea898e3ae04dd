"""How shares are written in reports and model cards."""

from __future__ import annotations


def counted_share(share: float, count: int, total: int, low: float, high: float) -> str:
    """A share with its counts and its 95% interval."""
    return f"{share:.1%} ({count}/{total}; {low:.0%}-{high:.0%})"
