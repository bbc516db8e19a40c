"""What a trajectory is: models, edit requests, editors, regularizers, checkpoints. Knows no cluster."""
