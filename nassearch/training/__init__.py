"""Training: the one loop that trains a supernet, and how a training is saved and resumed."""
