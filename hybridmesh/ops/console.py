"""The terminal, as the verbs print to it."""

from __future__ import annotations

from collections.abc import Iterable

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
