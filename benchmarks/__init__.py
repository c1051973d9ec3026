"""The experiments and the speed comparisons, run as `python -m benchmarks`."""
