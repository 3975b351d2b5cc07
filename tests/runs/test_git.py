"""The checkout behind a temporary one that `dvc exp run --temp` or `--queue` makes."""

import pytest

from fusmae.runs.git import is_temporary, original_folder
from fusmae.runs.mlflow_address import store_path
from fusmae.runs.resume_folder import resume_path


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("FUSMAE_RESUME_ROOT", raising=False)

    def enter(folder):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(tmp_path / folder)
        return tmp_path

    return enter


@pytest.fixture(params=[".dvc/tmp/exps/tmpabc", ".dvc/tmp/exps/standalone/tmpabc"], ids=["queue", "temp"])
def temporary(request):
    """Where DVC puts them, in the project's folder."""
    return request.param


def test_any_other_folder_is_its_own_home(make):
    here = make("project/.dvc/tmp") / "project/.dvc/tmp"
    assert original_folder() == here
    assert not is_temporary()


def test_a_temporary_checkout_has_the_checkout_as_its_home(make, temporary):
    top = make("project/.git").joinpath("project")
    make(f"project/{temporary}/.git")
    make(f"project/{temporary}")
    assert original_folder() == top
    assert is_temporary()


@pytest.mark.parametrize("project", ["", "teams/sar"])
def test_it_is_the_same_folder_of_the_repository(make, temporary, project):
    """A temporary checkout holds all of the repository: another project of it, or the study, is found in it."""
    top = make("repository/.git").joinpath("repository")
    checkout = f"repository/{project}/study/{temporary}"
    make(f"{checkout}/.git")
    make(f"{checkout}/{project}/study")
    assert original_folder() == top / project / "study"
    make(f"{checkout}/{project}")
    assert original_folder() == top / project


def test_runs_and_resume_checkpoints_of_a_temporary_checkout_are_kept_in_the_home(make, temporary, monkeypatch):
    top = make("project/.git").joinpath("project")
    make(f"project/{temporary}/.git")
    make(f"project/{temporary}")
    assert store_path() == top / "mlruns" / "mlflow.db"
    assert resume_path("pretrain", "0" * 16) == top / ".fusmae" / "resume" / f"pretrain-{'0' * 16}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlruns/mlflow.db")
    assert store_path() == top / "mlruns" / "mlflow.db"
