"""Whether a scene's pixels are in the model's units, by tiles from all over it, before hours are spent on them.

A data set is examined as a whole (`fusmae.examination`); a scene is judged alone and by fewer pixels, so that only what
is far off is refused, and a person who knows better can say so.
"""

from collections.abc import Mapping, Sequence

from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.scene.s1_checks import check_backscatter
from fusmae.inference.scene.s2_checks import check_digital_numbers
from fusmae.inference.scene.sample import pooled, sample_tiles
from fusmae.inference.scene.scene import Scene


def check_pixels(reader: SceneReader, scenes: Mapping[str, Scene]) -> list[str]:
    """Refuse scenes whose pixels have other units, unstated nodata, another offset, or swapped polarisations.

    A modality without any data in the sample is not judged here.

    Returns:
        What can't be known from pixels alone, in sentences for people.

    Raises:
        InputError: names what is wrong and the option that mends it.
    """
    units = {item.modality: item.units for item in reader.inputs}
    warnings = [
        f"--{modality}-bands overrules what the files say: {'; '.join(scene.overruled)}"
        for modality, scene in scenes.items()
        if scene.overruled
    ]
    for modality, tiles in sample_tiles(reader, scenes).items():
        if units[modality] == "dB":
            warnings += check_backscatter(modality, pooled(tiles), scenes[modality])
        else:
            warnings += check_digital_numbers(modality, tiles, scenes[modality])
    return warnings


def print_warnings(warnings: Sequence[str]) -> None:
    """Print what `check_pixels` could not decide, beside the output."""
    from rich.console import Console

    console = Console(stderr=True)
    for warning in warnings:
        console.print(f"warning: {warning}.", markup=False, highlight=False, soft_wrap=True)
