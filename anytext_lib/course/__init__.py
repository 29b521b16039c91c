"""The course: figures, recorded numbers, exercise checks, and the runner of its notebooks."""

from anytext_lib.course import style
from anytext_lib.course.explore import explore
from anytext_lib.course.log_by_timestep import explain_log
from anytext_lib.course.record import record
from anytext_lib.course.style import show, show_images
from anytext_lib.device import pick_device

__all__ = ["explain_log", "explore", "pick_device", "record", "show", "show_images", "style"]
