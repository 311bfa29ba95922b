"""Explanation of a trained network: attribution, modules, separability and symmetry of the function it has learned."""
