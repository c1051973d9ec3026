"""Training ReLU RNNs in parameters that positive rescaling leaves alone, as optax transforms."""
