"""The fact world: a small language model, trained here, and the facts it knows."""
