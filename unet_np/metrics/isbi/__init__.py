"""Metrics of the ISBI 2012 challenge (Table 1): warping, Rand and pixel error, later scores."""
