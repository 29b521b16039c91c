"""Upstream's checkpoints: their names of tensors, reading and writing them, and the model where training starts."""
