"""`make bench`: what our own engines gain, as ratios against a baseline measured in the same run."""
