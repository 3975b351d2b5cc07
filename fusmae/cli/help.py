"""`--help`: commands stand under headings, no line is cut, and an example can be copied into a shell."""

import inspect
import re
import textwrap
from typing import Any

from typer.core import TyperCommand, TyperGroup

# Longer than any first sentence: Typer cuts those that are longer than a line.
_NO_LIMIT = 1000
_EXAMPLE = "Example: "


class GroupedCommands(TyperGroup):
    """The commands by panels; Typer shows these by rich markup only, which takes longer to import than all the rest."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section per panel, in the order of the commands; their texts begin in the same column."""
        panels: dict[str, list[tuple[str, str]]] = {}
        width = max(len(name) for name in self.commands)
        for name in self.list_commands(ctx):
            command: Any = self.commands[name]
            panels.setdefault(command.rich_help_panel, []).append((name.ljust(width), command.get_short_help_str()))
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)


class CommandWithExample(TyperCommand):
    """A command whose first sentence is never cut, and whose examples continue after a backslash."""

    def get_short_help_str(self, limit: int = _NO_LIMIT) -> str:
        """The whole first sentence, for the list of commands and for completion in a shell."""
        return super().get_short_help_str(max(limit, _NO_LIMIT))

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write the paragraphs of the docstring."""
        for paragraph in inspect.cleandoc(self.help or "").split("\n\n"):
            formatter.write_paragraph()
            with formatter.indentation():
                if paragraph.startswith(_EXAMPLE):
                    paragraph = "\b\n" + _for_a_shell(paragraph, formatter.width - formatter.current_indent)
                formatter.write_text(paragraph)


def _for_a_shell(example: str, width: int) -> str:
    # A line ends neither inside quotes nor between an option and its value.
    whole = r'"[^"]*"|--[\w-]+ (?=[^-])'
    words = re.sub(whole, lambda found: found.group().replace(" ", "\0"), " ".join(example.split()))
    lines = textwrap.wrap(
        words, width - len(" \\"), subsequent_indent=" " * len(_EXAMPLE), break_long_words=False, break_on_hyphens=False
    )
    return " \\\n".join(lines).replace("\0", " ")
