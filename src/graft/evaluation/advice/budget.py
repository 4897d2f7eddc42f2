"""`Budget`: seconds that may be spent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class Budget:
    """Seconds from now on. Final.

    Parameters
    ----------
    seconds : float or None
        How many; None: no end.
    clock : callable
        Seconds now.
    """

    def __init__(self, seconds: float | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.clock = seconds, clock
        self._began = clock()

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return self.clock() - self._began

    @property
    def left(self) -> float:
        """Seconds that are left; infinite where there is no end."""
        return math.inf if self.seconds is None else max(self.seconds - self.spent, 0.0)
