"""Closed forms read off a solution: structure, curves, constants, and the equation as their judge."""
