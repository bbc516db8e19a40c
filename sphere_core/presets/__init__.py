"""Presets: cited hyperparameters, one YAML file a model family."""
