"""The solve: slabs in time, levels, stages, steps."""
