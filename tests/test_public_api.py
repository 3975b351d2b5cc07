"""The public API: what `import fusmae` gives, frozen, and how little it imports."""

import importlib.metadata
import subprocess
import sys
from types import ModuleType

import pytest

import fusmae
from fusmae import errors


def test_the_public_api_is_frozen():
    assert fusmae.__all__ == ["FusmaeError", "PretrainedEncoder", "__version__", "load", "open_shards"]
    assert all(getattr(fusmae, name) for name in fusmae.__all__)
    own = {
        name for name, value in vars(fusmae).items() if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert own - {"TYPE_CHECKING", "Any"} == {"FusmaeError"}


def test_every_error_of_the_package_is_a_fusmae_error():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 10
    assert all(issubclass(kind, fusmae.FusmaeError) for kind in kinds)


def test_the_version_is_that_of_the_installed_package():
    assert fusmae.__version__ == importlib.metadata.version("fusmae")


def test_another_name_is_no_attribute():
    with pytest.raises(AttributeError, match="has no attribute 'Encoder'"):
        _ = fusmae.Encoder


def test_importing_the_package_imports_the_standard_library_and_its_errors_only():
    script = "import sys; before = set(sys.modules); import fusmae; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported = done.stdout.split()
    assert [name for name in imported if name.partition(".")[0] == "fusmae"] == ["fusmae", "fusmae.errors"]
    others = {name.partition(".")[0] for name in imported} - {"fusmae"}
    assert others <= sys.stdlib_module_names
