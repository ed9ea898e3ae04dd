"""What each asset does, without Dagster: read input artifacts, call the method, write an artifact and its rows."""
