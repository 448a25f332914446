"""The multi-modal diffusion transformer: conditions to motion."""
