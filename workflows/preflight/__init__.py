"""What can be said before anything is loaded: the machine, the model, the price."""
