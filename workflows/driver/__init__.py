"""Which task is done next, by which worker, and when to give up. Uses executors by their protocol, never Ray."""
