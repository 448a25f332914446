"""Programs that run as processes of their own, as files; this folder holds nothing else."""
