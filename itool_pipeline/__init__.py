"""A Dagster pipeline that makes a language model better at calling tools, by the method of the iTool paper."""
