"""PDE problems: domain, unknowns, equations, conditions, reference."""
