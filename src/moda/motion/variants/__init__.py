"""What the paper's network is measured against: other blocks, objectives, latents, conditions."""
