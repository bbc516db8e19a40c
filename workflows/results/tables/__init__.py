"""Tables of a sweep, as Arrow."""
