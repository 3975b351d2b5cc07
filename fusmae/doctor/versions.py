"""Whether Python and the libraries have the versions that pyproject.toml requires and the lock pins."""

import importlib
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata, util
from pathlib import Path
from typing import Any

from fusmae.doctor.finding import Finding, described

PYPROJECT, LOCK = Path("pyproject.toml"), Path("requirements.lock")
SHOWN = ("torch", "torchvision", "lightning", "mlflow", "prefect", "dvc", "fastapi", "onnx", "onnxruntime")
IMPORTED = ("torch", "onnxruntime", "rasterio")
"""Packages with compiled parts, which may be broken although their versions are right."""
_BREAKS = {
    "fastapi": "Prefect's server does not start with it",
    "torchvision": "it must be built against the torch that is installed",
}
_NUM_SHOWN = 4


def check_python() -> Iterator[Finding]:
    """Check Python's version against `requires-python`."""
    from packaging.specifiers import SpecifierSet

    got = ".".join(map(str, sys.version_info[:3]))
    wanted = _project().get("requires-python", "")
    if SpecifierSet(wanted).contains(got):
        yield Finding("python", "ok", f"{got} in {sys.prefix}")
    else:
        yield Finding("python", "error", got, wanted, "rm -r .venv && make PYTHON=python3.12 .venv/installed")


def check_packages() -> Iterator[Finding]:
    """Check installed versions against pyproject.toml and the lock, and torchvision against its torch."""
    from packaging.requirements import Requirement

    project = _project()
    if not project:
        yield Finding("packages", "skipped", f"no {PYPROJECT} here: run in the project's folder")
        return
    wanted = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    wrong = [finding for text in wanted if (finding := _against(Requirement(text)))]
    yield from wrong
    if not wrong:
        versions = {name: _installed(name) for name in SHOWN}
        yield Finding("packages", "ok", ", ".join(f"{name} {version}" for name, version in versions.items() if version))
    yield from _check_torchvision()
    yield from _check_lock()


def check_imports() -> Iterator[Finding]:
    """Import the packages with compiled parts."""
    loaders: dict[str, Callable[[], object]] = {name: partial(importlib.import_module, name) for name in IMPORTED}
    loaders["torchvision"] = _load_torchvision
    broken = False
    for name, load in loaders.items():
        try:
            load()
        # Importing a broken package may raise any exception.
        except Exception as error:
            broken = True
            yield Finding(f"import {name}", "error", described(error), "a package that imports", reinstall(name))
    if not broken:
        yield Finding("imports", "ok", f"{', '.join(loaders)} import")


def _load_torchvision() -> None:
    """Load only torchvision's compiled part, which fits one torch: importing all of it takes seconds."""
    import torch

    found = util.find_spec("torchvision")
    for folder in (found.submodule_search_locations if found else None) or []:
        for library in Path(folder).glob("_C*.so"):
            torch.ops.load_library(library)  # type: ignore[no-untyped-call]


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
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _against(requirement: Any) -> Finding | None:
    got, expected = _installed(requirement.name), f"{requirement.name}{requirement.specifier}"
    if got and requirement.specifier.contains(got, prereleases=True):
        return None
    why = f": {_BREAKS[requirement.name]}" if got and requirement.name in _BREAKS else ""
    found = f"{requirement.name} {got}{why}" if got else f"{requirement.name} is not installed"
    return Finding(f"package {requirement.name}", "error", found, expected, reinstall())


def _check_torchvision() -> Iterator[Finding]:
    """Check torchvision's requirement of the exact torch that it is built against, which pip may have ignored."""
    from packaging.requirements import Requirement

    torch, torchvision = _installed("torch"), _installed("torchvision")
    if not (torch and torchvision):
        return
    for text in metadata.requires("torchvision") or ():
        requirement = Requirement(text)
        if requirement.name == "torch" and not requirement.specifier.contains(torch, prereleases=True):
            found = f"torchvision {torchvision} with torch {torch}: {_BREAKS['torchvision']}"
            yield Finding("torch pair", "error", found, f"torch{requirement.specifier}", reinstall())


def _check_lock() -> Iterator[Finding]:
    if not LOCK.exists():
        yield Finding("lock", "skipped", f"no {LOCK} here")
        return
    pins = _pins()
    other = [
        f"{name} {got or 'missing'} instead of {pin}"
        for name, pin in sorted(pins.items())
        if (got := _installed(name)) != pin
    ]
    if not other:
        yield Finding("lock", "ok", f"all {len(pins)} packages are the ones that {LOCK} pins")
        return
    rest = f" and {len(other) - _NUM_SHOWN} more" if len(other) > _NUM_SHOWN else ""
    found = f"{len(other)} of {len(pins)} packages are others: {', '.join(other[:_NUM_SHOWN])}{rest}"
    yield Finding("lock", "warning", found, f"what {LOCK} pins: the tests ran on those", reinstall())


def _pins() -> dict[str, str]:
    """Pinned version by package name, of the packages that the lock lists for this Python and platform."""
    from packaging.requirements import Requirement

    pins = {}
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if line[:1].isalnum() and "==" in line:
            requirement = Requirement(line.rstrip("\\ "))
            if requirement.marker is None or requirement.marker.evaluate():
                pins[requirement.name] = next(iter(requirement.specifier)).version
    return pins
