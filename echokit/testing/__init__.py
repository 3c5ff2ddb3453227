"""What other people's tests use: pytest fixtures, and the proof kit for framings."""
