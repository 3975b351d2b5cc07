"""What raw datasets look like on disk."""

from collections.abc import Mapping, Sequence
from typing import Any

from fusmae.modalities import ModalityInput
from fusmae.sources.shared.source import Facts, Source


def open_source(name: str, settings: Mapping[str, Any], inputs: Sequence[ModalityInput] = ()) -> Source:
    """The reader of a raw dataset.

    Args:
        name: as `data.source.name` in `params.yaml`.
        settings: the rest of `data.source`.
        inputs: what tiles consist of; a source of files that a user brings checks them by it.
    """
    # Imported one at a time: each brings libraries that the others do without.
    match name:
        case "sample":
            from fusmae.sources.sample.source import SampleSource

            return SampleSource()
        case "bigearthnet":
            from fusmae.sources.bigearthnet.source import BigEarthNetSource

            return BigEarthNetSource(**settings)
        case "sen12ms":
            from fusmae.sources.sen12ms.source import Sen12msSource

            return Sen12msSource(**settings)
        case "synthetic":
            from fusmae.sources.synthetic.source import SyntheticSource

            return SyntheticSource(**settings)
        case "folder":
            from fusmae.sources.folder.source import FolderSource

            return FolderSource(**settings, inputs=inputs)
    raise ValueError(name)


__all__ = ["Facts", "Source", "open_source"]
