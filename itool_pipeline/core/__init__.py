"""The method of the iTool paper in pure Python: no torch, no Dagster, no files."""
