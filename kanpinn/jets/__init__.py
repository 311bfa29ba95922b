"""Values with derivatives, carried by closed-form rules."""
