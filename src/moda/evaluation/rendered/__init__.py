"""Figures of what is seen in finished pictures."""
