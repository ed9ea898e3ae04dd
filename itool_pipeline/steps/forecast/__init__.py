"""A dry run: what an experiment would make, and what of time and memory that would take."""
