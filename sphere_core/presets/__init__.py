"""Presets: cited hyperparameters, one YAML file per model."""
