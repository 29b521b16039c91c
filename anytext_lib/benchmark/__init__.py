"""The benchmark of AnyText: from its annotation files to pictures, scores with intervals, and published figures."""
