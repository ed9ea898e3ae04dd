"""A Dagster pipeline that makes a language model better at calling tools, by the method of the iTool paper."""

import os

# Before torch is loaded: threads that wait spin for a moment only, then sleep. With the usual long spinning, two jobs
# on the same cores slow each other tenfold; without any, one job alone loses a fifth of its speed.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
