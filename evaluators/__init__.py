"""Scores of an edited model: edit quality, general ability, geometry."""
