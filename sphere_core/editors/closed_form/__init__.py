"""Closed-form editors: locate keys and targets, then solve."""
