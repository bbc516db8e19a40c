"""What one process does to one task: edit, score, build moments. Independent of Ray and of sweep files."""
