"""Coverage-guided fuzzing: whatever bytes come, what stands at the top of each target holds."""
