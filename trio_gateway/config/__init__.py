"""Config files and what they mean. Plain data: nothing here waits, and nothing imports Trio."""
