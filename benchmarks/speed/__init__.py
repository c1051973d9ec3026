"""Speed comparisons, run by `make speed`: each competitor interleaved with ours, its answer checked first."""
