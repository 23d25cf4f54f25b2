"""What a file says of its own making, and whether it is ours."""
