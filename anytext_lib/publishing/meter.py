"""How much a running notebook has computed, and whether it is to be stopped: CPU seconds, not those of the clock.

A busy machine makes a notebook slow and not expensive, so its budget counts the CPU seconds of its processes. Two
further limits stop what computes little: a notebook that waits for something, and one that hardly gets a turn.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import psutil

from anytext_lib.device import cpu_count

SAMPLE_SECONDS = 0.5
WALL_FACTOR = 6
"""A notebook is stopped after this many times its budget by the clock, however little it has computed."""
IDLE_SHARE = 0.02
"""A notebook is blocked if it computed less than this share of a budget while a whole budget passed by the clock."""
BUSY_LOAD = 1.25
"""The machine is busy if its load average (1 minute) is more than this many times the number of cores."""


@dataclass(frozen=True)
class Usage:
    """CPU seconds that a notebook has used, seconds by the clock, and the load average of the last minute."""

    cpu_seconds: float
    seconds: float
    load: float

    @property
    def busy(self) -> bool:
        """Whether others wanted the processor, too."""
        return self.load > BUSY_LOAD * cpu_count()

    def __str__(self) -> str:
        state = "the machine was busy" if self.busy else "the machine was not busy"
        return (f"{self.cpu_seconds:.0f} CPU seconds in {self.seconds:.0f} s by the clock; {state}: "
                f"load average {self.load:.1f} on {cpu_count()} core{'s' * (cpu_count() != 1)}")


@dataclass
class Meter:
    """Watch the process `pid` and all its descendants against a budget in CPU seconds."""

    pid: int
    budget: float
    started: float = field(default_factory=time.perf_counter)
    _spent: dict[tuple[int, float], float] = field(default_factory=dict)
    _sampled: float = -1.0
    _mark: tuple[float, float] = (0.0, 0.0)

    @property
    def seconds(self) -> float:
        """Seconds by the clock since the start."""
        return time.perf_counter() - self.started

    def usage(self) -> Usage:
        """What has been used up to the last look."""
        return Usage(sum(self._spent.values()), self.seconds, psutil.getloadavg()[0])

    def excess(self) -> str | None:
        """The limit that has been passed, in words, or None; looks at the processes twice a second."""
        now = self.seconds
        if now - self._sampled < SAMPLE_SECONDS and self._sampled >= 0:
            return None
        self._sampled = now
        self._look()
        spent = sum(self._spent.values())
        if spent - self._mark[1] >= IDLE_SHARE * self.budget:
            self._mark = (now, spent)
        if spent > self.budget:
            return f"its budget of {self.budget:g} CPU seconds"
        if now - self._mark[0] > self.budget:
            return f"{self.budget:g} s in which it hardly computed (it waits for something)"
        if now > WALL_FACTOR * self.budget:
            return f"{WALL_FACTOR} times its budget of {self.budget:g} s by the clock"
        return None

    def _look(self) -> None:
        """Note the CPU seconds of every process of the family; those that have ended keep their last number."""
        try:
            parent = psutil.Process(self.pid)
            family = [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for member in family:
            try:
                times, key = member.cpu_times(), (member.pid, member.create_time())
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            self._spent[key] = times.user + times.system
