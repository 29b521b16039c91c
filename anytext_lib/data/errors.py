"""What can be wrong with a request about data; errors of one file of annotations or one picture stand where it is read.
"""

from __future__ import annotations

from anytext_lib.errors import AnyTextError


class DataOptionError(AnyTextError, ValueError):
    """An option has a value that cannot be used; the message names it, the value, and what it may be."""


class DataNotFoundError(AnyTextError, FileNotFoundError):
    """Data are not where they were looked for; the message says where, and what to do."""


class UnwritableError(AnyTextError, OSError):
    """A file cannot be written: no permission, or no room; the message names it, the reason and the remedy."""


class UnreadableError(AnyTextError, OSError):
    """A file is there, and the system does not give it; the message names it, the reason and the remedy."""
