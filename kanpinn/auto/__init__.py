"""Choice of network, levels, time slabs and weights by the estimated error."""
