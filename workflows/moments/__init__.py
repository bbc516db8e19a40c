"""Second moments as work to do and as stored sets."""
