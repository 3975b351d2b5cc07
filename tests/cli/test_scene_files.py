"""Options that name scenes of any modality, beside the short ones of s1 and s2."""

import pytest
import typer
from typer.testing import CliRunner

from fusmae.cli.scene_files import SceneFiles, takes_scenes
from fusmae.errors import InputError
from fusmae.inference.scene.scene import Reading


def named(*arguments):
    """What a command gets that has these options."""
    app, got = typer.Typer(), []

    @app.command()
    @takes_scenes
    def command(files: SceneFiles, last: str = "") -> None:
        got.append(files)

    done = CliRunner().invoke(app, [*arguments, "--last", "x"])
    if done.exception:
        raise done.exception
    return got[0]


def test_short_and_general_options_name_the_same_scenes():
    short = ["--s1", "a", "--s2", "b", "--s1-bands", "VV, VH", "--s1-units", "power", "--s2-offset", "0"]
    general = ["--scene", "s1=a", "--scene", "s2=b", "--bands", "s1=VV,VH", "--units", "s1=power", "--offset", "s2=0"]
    assert named(*short) == named(*general)
    assert named(*general) == SceneFiles(
        {"s1": ("a",), "s2": ("b",)}, {"s1": Reading(("VV", "VH"), "power"), "s2": Reading(offset=0)}
    )


def test_any_modality_can_be_named_and_a_path_may_hold_an_equals_sign():
    files = named("--scene", "dem=in/year=2020/dem.tif", "--bands", "dem=height", "--s2", "a", "--s2", "b")
    assert files == SceneFiles({"s2": ("a", "b"), "dem": ("in/year=2020/dem.tif",)}, {"dem": Reading(("height",))})


def test_nothing_named_is_no_scene():
    assert named() == SceneFiles()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scene", "dem.tif"], r"(?s)--scene can't be used.*got: +dem.tif.*MODALITY=PATH, such as s1=scenes/s1.tif"),
        (["--scene", "=dem.tif"], r"(?s)--scene can't be used.*MODALITY=PATH"),
        (["--scene", "dem="], r"(?s)--scene can't be used.*MODALITY=PATH"),
        (["--bands", "VV,VH"], r"(?s)--bands can't be used.*MODALITY=NAMES"),
        (["--units", "s1=watts"], r"(?s)--units can't be used.*units are dB, power, amplitude"),
        (["--offset", "s2=many"], r"(?s)--offset can't be used.*MODALITY=NUMBER"),
        (
            ["--scene", "s1=a", "--scene", "s1=b"],
            r"(?s)name s1 twice.*got: +s1=b.*give one folder that holds all files",
        ),
        (["--s1", "a", "--scene", "s1=b"], r"(?s)--scene and its short forms name s1 twice"),
        (["--s2-offset", "0", "--offset", "s2=1000"], r"(?s)--offset and its short forms name s2 twice.*leave one out"),
    ],
)
def test_an_option_that_can_not_be_used_says_how_it_is_written(arguments, message):
    with pytest.raises(InputError, match=message):
        named(*arguments)
