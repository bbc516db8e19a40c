"""Pure tensor functions: energy, spectra, low-rank updates. Knows no model and no file."""
