"""From row files to tables, figures and status. Below a root only `trackers` writes: what it has sent."""
