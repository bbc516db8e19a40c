"""Geometry of the edited weights: energy, spectra, and the bound of Theorem 1."""
