"""A Dagster pipeline that makes a language model better at calling tools, by the method of the iTool paper."""

import os

# Before torch is loaded: threads that wait sleep. When they spin, two jobs on the same cores slow each other tenfold.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
