"""What looks at the pictures and faces of an upload; each ends in one signal."""
