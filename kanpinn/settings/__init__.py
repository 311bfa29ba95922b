"""Hydra and YAML become checked, typed objects."""
