"""What is done next, by which worker, and when to give up. Knows executors by their protocol, never Ray."""
