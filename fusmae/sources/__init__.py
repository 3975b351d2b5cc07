"""What raw datasets look like on disk."""

from fusmae.errors import SourceError
from fusmae.sources.source import Source

READERS = ("sample",)
"""Names that `open_source` knows."""


def open_source(name: str) -> Source:
    """The reader of a raw dataset, by the name that `params.yaml` writes.

    Raises:
        SourceError: there is no reader of this name.
    """
    if name not in READERS:
        raise SourceError(
            "There is no reader for this data source.",
            got=name,
            expected=", ".join(READERS),
            hint="set data.source in params.yaml to one of these",
        )
    from fusmae.sources.sample import SampleSource

    return SampleSource()


__all__ = ["READERS", "Source", "open_source"]
