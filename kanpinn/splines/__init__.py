"""B-splines and other bases on intervals: pure functions of arrays."""
