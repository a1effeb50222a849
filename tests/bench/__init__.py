"""Benchmarks on real processes: `make bench`. Absolute figures depend on the machine; the bars are those of the requirements."""
