"""Model families as data: one YAML file names the modules that editing needs."""
