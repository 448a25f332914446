"""Metrics as pure functions, and the report that runs them."""
