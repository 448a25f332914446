"""Talking videos on disk to training examples."""
