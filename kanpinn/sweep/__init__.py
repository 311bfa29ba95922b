"""Sweeps: their jobs and folders, how they are launched, and the summary of what came of them."""
