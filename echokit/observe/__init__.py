"""What a run tells: the transcript, JSON lines."""
