"""Sweeps as runs of an experiment tracker: one run per trajectory, one step per checkpoint."""
