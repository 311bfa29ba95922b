"""Separable networks, and normal equations from points that share coordinates."""
