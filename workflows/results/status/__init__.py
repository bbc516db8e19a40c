"""The state of a sweep on the terminal."""
