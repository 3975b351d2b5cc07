"""What raw datasets look like on disk."""

from collections.abc import Mapping, Sequence
from typing import Any

from fusmae.config.task import Kind
from fusmae.modalities import ModalityInput
from fusmae.sources.shared.source import Facts, Source


def open_source(
    name: str, settings: Mapping[str, Any], inputs: Sequence[ModalityInput] = (), kind: Kind = "multilabel"
) -> Source:
    """Return the reader of a raw dataset, by the name and the other settings of `data.source` in params.yaml.

    `inputs` are the arrays that a tile consists of; a source of files that the user provides needs them to read these.
    `kind` is the kind of labels, one of those that the source offers with these settings.
    """
    # Each source is imported only when it is asked for: each needs libraries that the others don't.
    match name:
        case "sample":
            from fusmae.sources.sample.source import SampleSource

            return SampleSource()
        case "bigearthnet":
            from fusmae.sources.bigearthnet.source import BigEarthNetSource

            return BigEarthNetSource(**settings, kind=kind)
        case "sen12ms":
            from fusmae.sources.sen12ms.source import Sen12msSource

            return Sen12msSource(**settings, kind=kind)
        case "synthetic":
            from fusmae.sources.synthetic.source import SyntheticSource

            return SyntheticSource(**settings, kind=kind)
        case "folder":
            from fusmae.sources.folder.source import FolderSource

            return FolderSource(**settings, inputs=inputs, kind=kind)
    raise ValueError(name)


__all__ = ["Facts", "Source", "open_source"]
