"""From a sweep file to a plan; only `publish` writes: the sweep file, plan and specifications, below the root."""
