"""The liveness check of a recorded clip."""
