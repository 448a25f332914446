"""The training loop, its losses and its moving average of the weights."""
