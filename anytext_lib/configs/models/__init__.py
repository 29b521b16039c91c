"""Sizes of models by name: tiny (tests), mini (trained from scratch in the course), sd15 (official)."""
