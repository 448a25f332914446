"""Metrics that need networks of others."""
