"""Values, errors and spectra of a trained network on a grid."""
