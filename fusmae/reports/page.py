"""Fills the templates of this room: each page is one file that needs no network."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fusmae.files import write_text

_ROOM = Path(__file__).parent


def write_page(path: Path, template: str, **facts: object) -> None:
    """Write the file `template` of `templates`, filled with facts; every text among them is escaped.

    Raises:
        jinja2.UndefinedError: the template names something that is no fact.
        StorageError: the disk is full.
    """
    write_text(path, _environment().get_template(template).render(facts))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_ROOM / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # `{{ 0.5 | formatted(".3f") }}`
    environment.filters["formatted"] = format
    # A style sheet or script, which a page holds inside itself.
    environment.globals["static"] = lambda name: (_ROOM / "static" / name).read_text(encoding="utf-8")
    # As `tojson` writes it: in a script element, without spaces, in the order given.
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment
