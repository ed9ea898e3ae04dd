"""Tool calls as text: read, render, compare. Pure, like `core`, and below it."""
