"""One run folder: solve, save, stop, resume."""
