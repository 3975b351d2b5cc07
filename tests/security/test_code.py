"""What no line of the code may do, beyond what ruff's S rules and bandit already refuse in `make check`."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = sorted(path for folder in ("fusmae", "flows", "benchmarks", "deploy") for path in (ROOT / folder).rglob("*.py"))

# Each runs what a file says, or may: pickles by another name, graphs as code, a shell.
REFUSED = (
    *("pickle.load", "pickle.loads", "marshal.load", "marshal.loads", "shelve.open", "dill.load", "dill.loads"),
    *("cloudpickle.load", "cloudpickle.loads", "joblib.load", "pandas.read_pickle"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.full_load_all", "yaml.unsafe_load", "yaml.unsafe_load_all"),
    *("torch.jit.load", "torch.hub.load", "torch.export.load", "torch.package.PackageImporter"),
    *("mlflow.pyfunc.load_model", "mlflow.pytorch.load_model", "mlflow.sklearn.load_model"),
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput"),
    *("subprocess.getstatusoutput", "asyncio.create_subprocess_shell", "tempfile.mktemp"),
)
STARTS = ("subprocess.run", "subprocess.Popen", "subprocess.call", "subprocess.check_call", "subprocess.check_output")
# Calls that must say by a keyword that they run nothing.
WEIGHTS_ONLY = ("torch.load", "load_from_checkpoint")
UNPACK = ("extractall", "extract")
# Unpickles with classes of its own only: tests/sources/shared/test_unpickle.py.
MAY_IMPORT_PICKLE = {"fusmae/sources/shared/unpickle.py"}
# Security rules of ruff and bandit that a line may answer by a comment; any other is talked over here first.
ANSWERED = {
    "S101": "an invariant, said to mypy",
    "S108": "a path that is looked at, and nothing is written to",
    "S321": "public data over FTP, proved by a checksum",
    "S606": "a program becomes the next one, without a shell",
    "B321": "as S321",
    "B402": "as S321",
}


def findings(source: str) -> Iterator[str]:
    """Each refused thing in a piece of code."""
    tree = ast.parse(source)
    names = _imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from _in_call(node, names)


def _imported(tree: ast.AST) -> dict[str, str]:
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {item.asname: item.name for item in node.names if item.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {item.asname or item.name: f"{node.module}.{item.name}" for item in node.names}
    return names


def _in_call(node: ast.Call, names: dict[str, str]) -> Iterator[str]:
    called = ast.unparse(node.func)
    head, _, rest = called.partition(".")
    full = f"{names.get(head, head)}{'.' + rest if rest else ''}"
    given = {item.arg: ast.unparse(item.value) for item in node.keywords}
    if full in REFUSED:
        yield full
    if given.get("shell", "False") != "False":
        yield f"{full}(shell=)"
    if full in STARTS and node.args and isinstance(node.args[0], ast.Constant | ast.JoinedStr | ast.BinOp):
        yield f"{full} of a text"
    if given.get("allow_pickle", "False") != "False":
        yield f"{full}(allow_pickle=)"
    is_load = full.endswith(WEIGHTS_ONLY) or {"ckpt_path", "datamodule"} & given.keys()  # Lightning's trainer
    if is_load and given.get("weights_only") != "True":
        yield f"{full} without weights_only=True"
    if full.rpartition(".")[2] in UNPACK and isinstance(node.func, ast.Attribute) and given.get("filter") != "'data'":
        yield f"{full} without filter='data'"


def test_code_runs_nothing_that_a_file_says():
    assert {str(path): found for path in CODE if (found := list(findings(path.read_text(encoding="utf-8"))))} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle as p\np.loads(b'')", "pickle.loads"),
        ("from pickle import load as read\nread(f)", "pickle.load"),
        ("import yaml\nyaml.load(t, Loader=yaml.Loader)", "yaml.load"),
        ("import pandas as pd\npd.read_pickle('x')", "pandas.read_pickle"),
        ("import torch\ntorch.load('x')", "torch.load without weights_only=True"),
        ("import torch\ntorch.load('x', weights_only=False)", "torch.load without weights_only=True"),
        ("trainer.fit(m, datamodule=d)", "trainer.fit without weights_only=True"),
        ("trainer.test(m, ckpt_path='x')", "trainer.test without weights_only=True"),
        ("M.load_from_checkpoint('x')", "M.load_from_checkpoint without weights_only=True"),
        ("import numpy as np\nnp.load('x', allow_pickle=True)", "numpy.load(allow_pickle=)"),
        ("import subprocess\nsubprocess.run(a, shell=True)", "subprocess.run(shell=)"),
        ("from subprocess import run\nrun(f'git {a}')", "subprocess.run of a text"),
        ("import os\nos.system('x')", "os.system"),
        ("eval('1')", "eval"),
        ("tar.extractall(folder)", "tar.extractall without filter='data'"),
        ("import mlflow\nmlflow.pyfunc.load_model('x')", "mlflow.pyfunc.load_model"),
    ],
)
def test_each_refused_thing_is_found(source, found):
    assert list(findings(source)) == [found]


def test_pickle_is_imported_by_the_restricted_reader_only():
    importing = re.compile(r"^\s*(?:import|from)\s+(?:pickle|dill|cloudpickle|joblib|marshal|shelve)\b", re.MULTILINE)
    found = {str(path.relative_to(ROOT)) for path in CODE if importing.search(path.read_text(encoding="utf-8"))}
    assert found == MAY_IMPORT_PICKLE


def test_only_security_rules_that_have_an_answer_are_passed_over():
    comment, rule = re.compile(r"#\s*(noqa|nosec|ruff: noqa)\b([^#\n]*)"), re.compile(r"\b[A-Z]+\d{3}\b")
    found = {
        name
        for path in CODE
        for kind, rest in comment.findall(path.read_text(encoding="utf-8"))
        for name in rule.findall(rest) or [f"every rule by {kind}"]
        if name.startswith(("S", "every")) or kind == "nosec"
    }
    assert found == ANSWERED.keys()


def test_linters_leave_out_no_more_of_security_than_is_reasoned():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert "S" in settings["ruff"]["lint"]["select"]
    assert [rule for rule in settings["ruff"]["lint"]["ignore"] if rule.startswith("S")] == ["S603"]
    assert settings["ruff"]["lint"]["per-file-ignores"].keys() == {"tests/**", "**/__init__.py"}
    assert set(settings["bandit"].pop("skips")) <= {
        f"B{number}" for number in (101, 105, 107, 108, 311, 403, 404, 405, 603, 606)
    }
    assert settings["bandit"] == {}
