"""What is computed from the data at once, before the loop or after it."""
