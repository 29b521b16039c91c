"""AnyText2's objectives, taken apart: a library and a course of notebooks about text in generated images."""

__version__ = "0.1.0"
