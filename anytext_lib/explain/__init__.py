"""The losses on one's own photograph: what they see of it, and where they pull."""
