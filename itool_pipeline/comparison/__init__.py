"""Experiments beside each other on the same cases: `python -m itool_pipeline compare A B …`."""
