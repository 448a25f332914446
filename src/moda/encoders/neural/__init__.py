"""Pictures, video and sound as the published networks take them."""
