"""Experiments that are too long for a notebook: run by a command, stored as data, drawn by the notebooks."""
