"""Three sample backends, a gateway before them, and requests that show what it does."""
