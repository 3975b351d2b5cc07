"""The command line as a person meets it."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fusmae.cli import main

ROOT = Path(__file__).parents[1]
STAGES = list(yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"])
HEAVY = ("torch", "lightning", "mlflow", "onnxruntime", "pandas", "rasterio", "numpy", "sklearn", "pydantic", "dvc")


def fusmae(*arguments, cwd=ROOT):
    return subprocess.run([sys.executable, "-m", "fusmae", *arguments], cwd=cwd, capture_output=True, text=True)


def test_help_lists_every_stage_and_an_example_each():
    printed = fusmae("--help").stdout
    for stage in STAGES:
        assert f"\n  {stage} " in printed
        assert f"Example: fusmae {stage}" in " ".join(fusmae(stage, "--help").stdout.split())


def test_help_imports_nothing_heavy():
    script = (
        "import sys\nfrom fusmae.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print('imported:', [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert "imported: []" in done.stdout


def test_stages_that_train_nothing_start_without_lightning():
    script = (
        "import sys\nfrom fusmae.stages import evaluate, export, probe, variants\nimport fusmae.cli.stages\n"
        "from fusmae.training.stage import TrainingStage\n"
        "print([name for name in ('lightning', 'pytorch_lightning') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_a_mistake_is_one_paragraph_and_a_non_zero_code(tmp_path):
    done = fusmae("--params", str(tmp_path / "none.yaml"), "index", "--raw", "r", "--out", "o", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("fusmae: ")
    assert "none.yaml is not there" in done.stderr
    assert "next:" in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback(tmp_path):
    done = fusmae("--debug", "--params", str(tmp_path / "none.yaml"), "index", "--raw", "r", "--out", "o", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_an_unknown_key_is_named_with_its_path(tmp_path):
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["pretrain"]["epochz"] = 3
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    done = fusmae("index", "--raw", "r", "--out", "o", cwd=tmp_path)
    assert done.returncode == 1
    assert "pretrain.epochz: unknown key (got 3; expected no such key; did you mean epochs?)" in done.stderr


@pytest.mark.parametrize(
    ("given", "wanted"),
    [(("pretian",), "pretrain"), (("predict", "--modle", "x"), "--model"), (("--parms",), "--params")],
)
def test_a_misspelt_command_or_option_is_answered_with_the_nearest(given, wanted):
    done = fusmae(*given)
    assert done.returncode == 2
    assert wanted in done.stderr.splitlines()[-1]


def test_before_the_registry_is_asked_a_word_says_so(tmp_path):
    # By the time that MLflow begins to be imported.
    (tmp_path / "mlflow.py").write_text("raise ImportError('too soon')")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nfrom fusmae.cli import main\nmain(sys.argv[1:])"
    given = ("predict", "--model", "fusmae@nosuch", "--s2", "s2", "--out", "map.tif")
    done = subprocess.run([sys.executable, "-c", script, *given], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.startswith("looking up fusmae@nosuch in the registry\n")
    assert "too soon" in done.stderr


@pytest.mark.parametrize(
    ("stage", "paths", "wanted"),
    [
        (
            "shard",
            ("--raw", "r", "--receipt", "r", "--index", "none.parquet", "--out", "o", "--statistics", "s"),
            "dvc repro index",
        ),
        ("probe", ("--weights", "w", "--shards", "s", "--out", "o", "--run-file", "r"), "There is no checkpoint in w"),
        ("export", ("--weights", "w", "--shards", "s", "--out", "o"), "There is no checkpoint in w"),
        ("summary", (), "make pipeline"),
    ],
)
def test_a_missing_input_names_the_command_that_makes_it(stage, paths, wanted, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["--params", str(ROOT / "params.yaml"), stage, *paths])
    assert ended.value.code == 1
    assert wanted in capsys.readouterr().err
