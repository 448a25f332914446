"""LivePortrait's networks: appearance, key points and motion to frames."""
