"""What Dagster loads: assets, checks, jobs, schedules, sensors and resources, one folder's worth of thin bodies."""

from itool_pipeline.defs.logs import make_it_the_default
from itool_pipeline.defs.run_loop import mend_run_loop

mend_run_loop()  # here, so that no use of the definitions does without
make_it_the_default()
