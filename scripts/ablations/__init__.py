"""What scripts/run_ablations.py measures, and its table."""
