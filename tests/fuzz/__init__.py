"""Seeded fuzzing of every path by which a stranger's bytes come in; `scripts/fuzz` runs it for hours."""
