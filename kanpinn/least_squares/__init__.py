"""Weighted residuals of a problem, their Jacobian and normal equations."""
