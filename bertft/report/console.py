"""Where tables are printed: text stays what it is.

Rich takes [bold] for a style and :smile: for a picture, and drops a tag that it does not know; a
class, a column or a folder may be called like that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from bertft.utils.terminal import escape_controls

__all__ = ["line_printer", "plain_console"]


def plain_console(
    *,
    file: IO[str] | None = None,
    stderr: bool = False,
    width: int | None = None,
    quiet: bool = False,
) -> Console:
    """Rich's console without its markup, and without what a terminal would obey."""
    return _PlainConsole(
        file=file, stderr=stderr, width=width, quiet=quiet, markup=False, emoji=False
    )


class _PlainConsole(Console):
    """Every text is ``printed``, before it is measured and again where one was made elsewhere."""

    def render_str(self, text: str, **settings: Any) -> Text:
        return super().render_str(escape_controls(text), **settings)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control is None:
                segment = segment._replace(text=escape_controls(segment.text))
            yield segment


def line_printer(console: Console) -> Callable[[str], None]:
    """Prints a sentence as one line, however wide the terminal is: a path in it can be copied."""
    return partial(console.print, soft_wrap=True)
