"""The one base class of the library's own errors: what a command reports in one line, without a traceback."""

from __future__ import annotations


class AnyTextError(Exception):
    """Something that was given cannot be used; the message says what is wrong, where, and what to do about it.

    Errors of the library derive from it, and from the built-in class that fits (``ValueError``, ``OSError``,
    ``RuntimeError``), so that both can be caught. The command `anytext` prints the message and exits with
    ``exit_status``; it catches nothing broader, so a mistake in the code keeps its traceback.

    Attributes:
        exit_status: 2 where the request was wrong, 1 where a right one failed while it was carried out.
    """

    exit_status = 2


class OptionError(AnyTextError, ValueError):
    """An option, or an argument of a public function, has a value that cannot be used, alone or beside another."""


class MissingFileError(AnyTextError, FileNotFoundError):
    """A file or folder that was named is not there."""


class UsageError(AnyTextError):
    """A command line cannot be understood: an unknown command or option, a missing or malformed value."""


class CourseError(AnyTextError):
    """The course was asked for something it cannot do; the message says what, where, and what to do."""
