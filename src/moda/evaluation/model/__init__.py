"""Figures of a motion model, without pictures."""
