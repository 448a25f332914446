"""What every program of ours that listens to a network does before it looks at a request."""
