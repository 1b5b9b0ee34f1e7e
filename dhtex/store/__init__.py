"""What survives a restart: the records held for others, and this node's own life. The only package with SQLite."""
