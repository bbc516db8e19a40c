"""The report of sweeps as one self-contained HTML file. Reads only."""
