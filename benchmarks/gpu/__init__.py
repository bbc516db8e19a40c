"""The benchmark for one accelerator: measured ceilings, every method, a batch by stages, scoring, the published way."""
