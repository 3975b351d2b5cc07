"""Whether Python and the libraries have the versions that pyproject.toml requires and the lock pins."""

import importlib
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import metadata, util
from pathlib import Path
from typing import Any

from fusmae.doctor.finding import Finding, described, judged, listed
from fusmae.runs.environment import ONNXRUNTIME_GPU, installed_version

PYPROJECT, LOCK = Path("pyproject.toml"), Path("requirements.lock")
SHOWN = ("torch", "torchvision", "lightning", "mlflow", "prefect", "dvc", "fastapi", "onnx", "onnxruntime")
IMPORTED = ("torch", "onnxruntime", "rasterio")
"""Packages with compiled parts, which may be broken although their versions are right."""
_BREAKS = {
    "fastapi": "Prefect's server does not start with it",
    "torchvision": "it must be built against the torch that is installed",
}


def check_python() -> Iterator[Finding]:
    """Check Python's version against `requires-python`."""
    from packaging.specifiers import SpecifierSet

    got = ".".join(map(str, sys.version_info[:3]))
    wanted = _project().get("requires-python", "")
    mend = "rm -r .venv && make PYTHON=python3.12 .venv/installed"
    yield judged(SpecifierSet(wanted).contains(got), "python", "error", f"{got} in {sys.prefix}", wanted, mend)


def check_packages() -> Iterator[Finding]:
    """Check installed versions against pyproject.toml and the lock, and torchvision against its torch."""
    project = _project()
    if not project:
        yield Finding("packages", "skipped", f"no {PYPROJECT} here: run in the project's folder")
        return
    wanted = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    versions = ", ".join(f"{name} {version}" for name in SHOWN if (version := _installed(name)))
    yield from list(filter(None, map(_against, wanted))) or [Finding("packages", "ok", versions)]
    yield from _check_torchvision()
    yield from _check_onnxruntime()
    yield _check_lock()


def check_imports() -> Iterable[Finding]:
    """Import the packages with compiled parts."""
    loaders: dict[str, Callable[[], object]] = {name: partial(importlib.import_module, name) for name in IMPORTED}
    loaders["torchvision"] = _load_torchvision
    broken = []
    for name, load in loaders.items():
        try:
            load()
        # Importing a broken package may raise any exception.
        except Exception as error:
            mend = reinstall(name)
            broken.append(Finding(f"import {name}", "error", described(error), "a package that imports", mend))
    return broken or [Finding("imports", "ok", f"{', '.join(loaders)} import")]


def _load_torchvision() -> None:
    """Load only torchvision's compiled part, which fits one torch: importing all of it takes seconds."""
    import torch

    for library in package_files("torchvision", "_C*.so"):
        torch.ops.load_library(library)  # type: ignore[no-untyped-call]


def package_files(name: str, pattern: str) -> list[Path]:
    """Files of a package, which is not imported for this; none where it is not installed."""
    package = util.find_spec(name)
    folders = (package.submodule_search_locations if package else None) or []
    return [path for folder in folders for path in Path(folder).glob(pattern)]


def reinstall(*names: str) -> str:
    """The command that installs the versions in the lock; the named packages are reinstalled in any case."""
    pip = ".venv/bin/pip" if sys.prefix == str(Path(".venv").resolve()) else "python -m pip"
    remove = f"{pip} uninstall --yes {' '.join(names)} && " if names else ""
    return f"{remove}{pip} install --require-hashes -r {LOCK}"


def _project() -> dict[str, Any]:
    if not PYPROJECT.exists():
        return {}
    project: dict[str, Any] = tomllib.loads(PYPROJECT.read_text(encoding="utf-8")).get("project", {})
    return project if project.get("name") == "fusmae" else {}


def _installed(name: str) -> str | None:
    try:
        return installed_version(name)
    except metadata.PackageNotFoundError:
        return None


def _against(wanted: str) -> Finding | None:
    """What is wrong with the installed version of a package, by pyproject.toml's text; None where it is right."""
    from packaging.requirements import Requirement

    requirement = Requirement(wanted)
    name, got = requirement.name, _installed(requirement.name)
    if got and requirement.specifier.contains(got, prereleases=True):
        return None
    found = f"{name} {got}{f': {_BREAKS[name]}' if name in _BREAKS else ''}" if got else f"{name} is not installed"
    return Finding(f"package {name}", "error", found, f"{name}{requirement.specifier}", reinstall())


def _check_torchvision() -> Iterator[Finding]:
    """Check torchvision's requirement of the exact torch that it is built against, which pip may have ignored."""
    from packaging.requirements import Requirement

    torch, torchvision = _installed("torch"), _installed("torchvision")
    for requirement in map(Requirement, metadata.requires("torchvision") or () if torch and torchvision else ()):
        if requirement.name == "torch" and not requirement.specifier.contains(torch or "", prereleases=True):
            found = f"torchvision {torchvision} with torch {torch}: {_BREAKS['torchvision']}"
            yield Finding("torch pair", "error", found, f"torch{requirement.specifier}", reinstall())


def _check_onnxruntime() -> Iterator[Finding]:
    """Check that only one of the packages is installed that hold onnxruntime: each overwrites the other's files."""
    if all(any(metadata.distributions(name=name)) for name in ("onnxruntime", "onnxruntime-gpu")):
        mend = f"pip uninstall --yes onnxruntime onnxruntime-gpu && pip install '{ONNXRUNTIME_GPU}'"
        found = "onnxruntime and onnxruntime-gpu are both installed, in the same folder"
        yield Finding("onnxruntime", "error", found, "one of them: onnxruntime-gpu runs on the CPU, too", mend)


def _check_lock() -> Finding:
    if not LOCK.exists():
        return Finding("lock", "skipped", f"no {LOCK} here")
    pins = _pins()
    other = [
        f"{name} {got or 'missing'} instead of {pin}"
        for name, pin in sorted(pins.items())
        if (got := _installed(name)) != pin
    ]
    if not other:
        return Finding("lock", "ok", f"all {len(pins)} packages are the ones that {LOCK} pins")
    found = f"{len(other)} of {len(pins)} packages are others: {listed(other)}"
    return Finding("lock", "warning", found, f"what {LOCK} pins: the tests ran on those", reinstall())


def _pins() -> dict[str, str]:
    """Pinned version by package name, of the packages that the lock lists for this Python and platform."""
    from packaging.requirements import Requirement

    lines = [line for line in LOCK.read_text(encoding="utf-8").splitlines() if line[:1].isalnum() and "==" in line]
    pinned = [Requirement(line.rstrip("\\ ")) for line in lines]
    return {
        package.name: next(iter(package.specifier)).version
        for package in pinned
        if package.marker is None or package.marker.evaluate()
    }
