"""The live selfie: movements drawn, a clip taken in, its check, and what is kept of it."""
