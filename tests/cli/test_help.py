"""Help, version and completion of the command line."""

import os
import shlex
import subprocess
import sys
from importlib import metadata

import pytest
import typer.main
from typer.testing import CliRunner

from fusmae import cli
from fusmae.cli import app
from tests.cli.conftest import ROOT

GROUP = typer.main.get_command(app)
COMMANDS = list(GROUP.commands)
PANELS = ("Pipeline stages", "Whole pipeline", "Models", "Scenes", "Study", "Help")


def help_of(*arguments, columns="80"):
    done = CliRunner().invoke(app, [*arguments, "--help"], prog_name="fusmae", env={"COLUMNS": columns})
    assert done.exit_code == 0
    return done.stdout


def panels():
    """Lines of `fusmae --help` by heading."""
    found = {}
    for line in help_of().splitlines():
        if line.endswith(":") and not line.startswith(" "):
            found[line.removesuffix(":")] = []
        elif found and line.startswith("  "):
            next(reversed(found.values())).append(line)
    return found


def examples(text):
    """The examples of a help page as a shell reads them when they are copied."""
    lines = text.replace("\\\n", "").splitlines()
    return [line.strip().removeprefix("Example: ") for line in lines if line.strip().startswith("Example: ")]


def test_commands_stand_in_groups():
    found = panels()
    assert tuple(name for name in found if name != "Options") == PANELS
    names = {panel: [line.split()[0] for line in found[panel]] for panel in PANELS}
    assert names["Models"] == ["promote", "rollback", "ledger", "lineage", "reproduce", "serve"]
    assert names["Scenes"] == ["predict", "embed", "drift", "tile"]
    assert names["Study"] == ["study", "study-pretrain", "study-measure", "study-report"]
    assert [name for panel in PANELS for name in names[panel]] == COMMANDS


def test_each_command_is_one_line_and_every_text_begins_in_the_same_column():
    rows = [line for panel in PANELS for line in panels()[panel]]
    assert len(rows) == len(COMMANDS)
    width = max(map(len, COMMANDS))
    assert all(line[2 : 2 + width].strip() in COMMANDS and line[2 + width : 4 + width] == "  " for line in rows)
    assert all(line[4 + width].isupper() and line.endswith(".") for line in rows)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns_and_no_line_is_cut(command):
    text = help_of(*command.split())
    assert max(map(len, text.splitlines())) <= 80
    assert "..." not in text.replace("[ARGS]...", "").replace("overrides...", "").replace("[overrides]...", "")
    assert "…" not in text


@pytest.mark.parametrize("command", COMMANDS)
def test_an_example_can_be_copied_and_names_options_that_there_are(command):
    found = examples(help_of(command))
    assert found
    for example in found:
        words = shlex.split(example)
        assert words[0] == "fusmae"
        assert command in words
        options = [word for word in words[words.index(command) :] if word.startswith("--")]
        known = {name for parameter in GROUP.commands[command].params for name in parameter.opts}
        assert set(options) <= known


@pytest.mark.parametrize("command", COMMANDS)
def test_an_example_has_all_that_its_command_needs(command):
    for example in examples(help_of(command)):
        words = shlex.split(example)
        GROUP.commands[command].make_context(command, words[words.index(command) + 1 :])


def test_no_line_of_an_example_ends_inside_quotes():
    assert '"agreed with A. Person: needed for the flood"' in help_of("promote")


def test_the_version_is_that_of_the_package():
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"fusmae {metadata.version('fusmae')}\n")


def test_code_that_is_not_installed_says_so(monkeypatch, capsys):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(cli, "version", absent)
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("fusmae: This code has no version, for it is not installed.\n")


def completed(line, shell="bash"):
    """What a shell offers after a line."""
    script = "import sys\nsys.argv[0] = 'fusmae'\nfrom fusmae.cli import main\nmain()"
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_TYPER_COMPLETE_ARGS": line}
    environment = {**os.environ, **asked, "_FUSMAE_COMPLETE": f"complete_{shell}"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("fusmae pre", ["pretrain", "predict"]),
        ("fusmae study-", ["study-pretrain", "study-measure", "study-report"]),
        ("fusmae shard --st", ["--statistics"]),
        ("fusmae predict --s1-units a", ["amplitude"]),
    ],
)
def test_a_shell_completes_commands_options_and_values(line, offered):
    assert completed(line).split() == offered


def test_completion_gives_the_whole_first_sentence():
    assert '"drift":"Compare new scenes with what a model learned from."' in completed("fusmae dr", "zsh")


def test_a_shell_can_be_taught(monkeypatch):
    # The tests may be started by anything.
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    done = CliRunner().invoke(app, ["--show-completion"], prog_name="fusmae")
    assert done.exit_code == 0
    assert "_FUSMAE_COMPLETE=complete_bash" in done.stdout
