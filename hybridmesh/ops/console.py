"""The terminal, as the verbs print to it, and the files that they write."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer
from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from hybridmesh.legible import legible


class Console(RichConsole):
    """Rich's, but that nothing which is printed steers the terminal, whoever said it. Colours are rich's own."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich's."""
        if isinstance(renderable, Text):  # before it is broken into lines, for an escape is longer
            renderable = renderable.copy()
            renderable.plain = legible(renderable.plain)
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(legible(segment.text), segment.style)


def for_lines(*, stderr: bool = False) -> Console:
    """A terminal for lines: they stay whole, however long, and have no colours but those that they are given."""
    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def try_to_write(file: Path, option: str) -> None:
    """Refuses a file that cannot be written, before anything is looked at, which takes its time."""
    try:
        if file.is_fifo():
            return  # whoever reads it would take this for the end
        there = file.exists() or file.is_symlink()
        file.open("ab").close()
        if not there:
            file.unlink()
    except OSError as error:
        raise typer.BadParameter(
            f"{file} cannot be written ({error.strerror}): nothing was looked at. "
            "Fix: a file that you may write, in a folder that is there.",
            param_hint=option,
        ) from None
