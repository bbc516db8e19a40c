"""Edit quality: probes of every edit, scored under named protocols, and free generation."""
