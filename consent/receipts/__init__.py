"""What a person gets for a yes, what proves it, and how it is checked."""
