"""`make torture`: everything at once for minutes, with faults from a seed, counted on both sides. See README.md."""
