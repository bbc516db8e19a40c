"""What one process does to one task: edit, score, build moments. Knows neither Ray nor sweep files."""
