"""Checks that a scene's pixels are in the model's units, by tiles from all over it, before hours are spent on it.

A data set is examined as a whole (`fusmae.examination`). A scene is judged alone and by fewer pixels, so that only
values that are far off are refused, and an option turns the check off.
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
        Warnings about what the pixels alone can't show, in sentences for people.

    Raises:
        InputError: a scene is refused; the error states what is wrong and which option corrects it.
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
    """Print the warnings of `check_pixels` to standard error."""
    from rich.console import Console

    console = Console(stderr=True)
    for warning in warnings:
        console.print(f"warning: {warning}.", markup=False, highlight=False, soft_wrap=True)
