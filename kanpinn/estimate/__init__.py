"""Estimates of the error of a solution without a reference."""
