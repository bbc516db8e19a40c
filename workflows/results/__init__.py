"""From row files to tables, figures and status. Reads only."""
