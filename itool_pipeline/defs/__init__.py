"""What Dagster loads: assets, checks, jobs, schedules, sensors and resources, one folder's worth of thin bodies."""
