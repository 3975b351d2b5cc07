"""Fills the Markdown templates of release/: files in the folder `templates` beside the module that fills them."""

from collections.abc import Iterable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape


def fill(template: Path, **facts: object) -> str:
    """The text of a template; `[1, "a"] | row` in it is one line of a table.

    Raises:
        jinja2.UndefinedError: the template names something that is no fact.
    """
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=select_autoescape(),  # HTML only
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["row"] = _row
    return environment.get_template(template.name).render(facts)


def _row(cells: Iterable[object]) -> str:
    """One line of a Markdown table; vertical bars within cells are escaped."""
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
