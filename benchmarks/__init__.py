"""Measurements of the whole service as ratios against baselines of the same run. `python -m benchmarks --help`."""
