"""Shows progress: on a terminal one bar, redrawn at each step; otherwise a line for each part."""

import time
from typing import TextIO

WIDTH = 24


class Progress:
    """Shows the progress of each part on `stream`. Results go to another stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._redraws = stream.isatty()
        self._part, self._steps, self._done = "", 1, 0
        self._began = time.monotonic()

    def begin(self, part: str, *, steps: int) -> None:
        """Start a new part with this number of steps."""
        self._part, self._steps, self._done = part, max(steps, 1), 0
        if self._redraws:
            self._draw("")
        else:
            self._write(f"{part} …\n")

    def step(self, doing: str) -> None:
        """Call this before each step, with its description."""
        if self._redraws:
            self._draw(doing)
        self._done += 1

    def end(self) -> None:
        """Clear the line."""
        if self._redraws:
            self._write("\r\x1b[K")

    def _draw(self, doing: str) -> None:
        share = min(self._done / self._steps, 1.0)
        seconds = time.monotonic() - self._began
        text = f"{bar(share)} {share:4.0%}  {seconds:4.0f} s  {self._part}"
        self._write(f"\r\x1b[K{text}{': ' if doing else ''}{doing}")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def bar(share: float) -> str:
    full = round(share * WIDTH)
    return f"[{'█' * full}{'·' * (WIDTH - full)}]"
