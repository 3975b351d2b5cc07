"""Registers exported models, each ONNX file (by its hash) once; the registered version becomes `challenger`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusmae.errors import RegistryError
from fusmae.files import file_sha256
from fusmae.runs.environment import installed_version
from fusmae.runs.mlflow_address import shown_uri
from fusmae.runs.mlflow_store import connect, find_run, known_run, open_experiment

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHALLENGER, CHAMPION = "challenger", "champion"
HASH_TAG = "fusmae.onnx_sha256"
IN_USE_TAG, CROWNED_TAG = LEDGER_TAGS = "fusmae.in_use", "fusmae.crowned"
"""Tags of a version that was made champion: each is the hash of an entry in the ledger."""
PROMOTED_COMMIT_TAG = "fusmae.promoted_commit"

MAX_DESCRIPTION = 5000
"""Maximum number of characters of a description in MLflow's tables."""

_ABOUT = """ONNX models that `dvc repro` registered; each version's page shows its card.

- alias `challenger`: the last version that was registered
- alias `champion`: the version in use; only `fusmae promote` and `fusmae rollback` move it, and
  `fusmae ledger {name}` shows who did, when and why
"""


@dataclass(frozen=True)
class Version:
    """A registered model version: the model's name, the version's number, and the SHA-256 of its ONNX file."""

    name: str
    number: str
    sha256: str


@contextmanager
def refusals_named(what: str) -> Iterator["MlflowClient"]:
    """Give MLflow's client to the block, which requests `what`, and convert errors that MLflow raises in it.

    Raises:
        RegistryError: MLflow refused the request.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        yield MlflowClient()
    except (MlflowException, OSError) as error:
        raise RegistryError(f"MLflow at {shown_uri()} does not give {what}: {error}") from error


def find_by_reference(name: str, *, alias: str | None = None, number: str | None = None) -> Version:
    """Find a version by its alias or its number.

    Raises:
        RegistryError: there is no such version, it was not registered by this project, or MLflow does not answer.
    """
    from mlflow.exceptions import MlflowException

    connect()
    what = f"{name}@{alias}" if alias else f"{name}/{number}"
    with refusals_named(what) as client:
        try:
            by_number = client.get_model_version
            found = client.get_model_version_by_alias(name, alias) if alias else by_number(name, number or "")
        except MlflowException as error:
            # MLflow reports a missing alias as an invalid value, as it does for many other errors.
            is_alias = error.error_code == "INVALID_PARAMETER_VALUE" and "not found" in error.message
            if not is_alias and error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise RegistryError(
                f"The registry at {shown_uri()} has no {what}: {error.message}",
                hint="`make ui` shows what there is; `dvc repro` registers, `fusmae promote` sets champion",
            ) from error
    if HASH_TAG not in found.tags:
        raise RegistryError(
            f"{name} version {found.version} was not registered by this project.",
            got=f"no tag {HASH_TAG}",
            expected="the SHA-256 of its ONNX file",
            hint="dvc repro register",
        )
    return Version(name, str(found.version), found.tags[HASH_TAG])


def champion_number(name: str) -> str:
    """Number of the version that is champion; "" if there is none.

    Raises:
        RegistryError: there is no such model, or MLflow does not answer.
    """
    connect()
    with refusals_named(f"the aliases of {name}") as client:
        return str(client.get_registered_model(name).aliases.get(CHAMPION, ""))


def all_versions(name: str) -> Sequence[Any]:
    """All versions of a registered model, as MLflow returns them; none if there is no such model.

    Raises:
        RegistryError: MLflow does not answer.
    """
    import mlflow

    connect()
    with refusals_named(f"the versions of {name}"):
        return mlflow.search_model_versions(filter_string=f"name = '{name}'")


def crown(name: str, number: str, ledger_entry: str, commit: str) -> None:
    """Tag a version with the hash of the ledger's entry that made it champion: the loss of either can be detected.

    `commit` has the code and parameters that made the version, as the gate found; "" if there is none.

    Raises:
        RegistryError: MLflow refuses.
    """
    with refusals_named(f"a tag to {name}/{number}") as client:
        client.set_model_version_tag(name, number, CROWNED_TAG, ledger_entry)
        if commit:
            client.set_model_version_tag(name, number, PROMOTED_COMMIT_TAG, commit)


def move_alias(name: str, number: str) -> None:
    """Move the alias `champion` to another version.

    Raises:
        RegistryError: MLflow refuses.
    """
    with refusals_named(f"the alias {CHAMPION} to {name}/{number}") as client:
        client.set_registered_model_alias(name, CHAMPION, number)


def protect(name: str, number: str, ledger_entry: str, ancestors: Sequence[str]) -> None:
    """Tag a version and the runs behind it as in use, and restore those of the runs that are marked as deleted.

    MLflow does not itself protect them from deletion; `mlflow gc` removes deleted runs for good. `ledger_entry` is the
    hash of the entry that makes it champion, `ancestors` ids of the runs behind it; those that the store lacks are
    left out.

    Raises:
        RegistryError: MLflow refuses.
    """
    with refusals_named(f"protection to {name}/{number}") as client:
        client.set_model_version_tag(name, number, IN_USE_TAG, ledger_entry)
        own = client.get_model_version(name, number).run_id
        for run_id in filter(known_run, {*ancestors, *([own] if own else [])}):
            if client.get_run(run_id).info.lifecycle_stage == "deleted":
                client.restore_run(run_id)
            client.set_tag(run_id, IN_USE_TAG, f"{name}/{number}")


def register_graph(
    name: str,
    graph: Path,
    *,
    extra_files: Sequence[Path],
    tags: Mapping[str, str],
    experiment: str,
    run_file: Path,
    description: str = "",
) -> Version:
    """Register an ONNX file in the run that trained it, or find the version that has the same file.

    The JSON `run_file` names that run; if the store lacks it, a new run of the experiment takes its place. The version
    has the tags, and one more with the hash; `extra_files` are stored with it, as its card. The description is Markdown
    for MLflow's page of the version, `MAX_DESCRIPTION` characters at most.

    Raises:
        RegistryError: MLflow refuses, or its files cannot be read.
    """
    import mlflow
    import onnx
    from mlflow.exceptions import MlflowException

    sha256 = file_sha256(graph)
    try:
        number = next((str(found.version) for found in all_versions(name) if found.tags.get(HASH_TAG) == sha256), None)
        client = mlflow.MlflowClient()
        if number is None:
            trained, model = find_run(run_file), onnx.load(graph)
            with (
                _left_as_it_ended(trained, client),
                mlflow.start_run(run_id=trained, experiment_id=open_experiment(experiment)),
            ):
                logged = mlflow.onnx.log_model(
                    model,
                    name="model",
                    signature=_signature(model.graph),
                    extra_files=[str(path) for path in extra_files],
                    pip_requirements=[
                        f"{package}=={installed_version(package)}" for package in ("onnxruntime", "numpy")
                    ],
                    save_as_external_data=False,
                )
            version = mlflow.register_model(logged.model_uri, name, tags={**tags, HASH_TAG: sha256})
            number = str(version.version)
        # Descriptions that exist stay.
        if not client.get_registered_model(name).description:
            client.update_registered_model(name, description=_ABOUT.format(name=name))
        if description and not client.get_model_version(name, number).description:
            client.update_model_version(name, number, description=description)
        client.set_registered_model_alias(name, CHALLENGER, number)
    except MlflowException as error:
        raise RegistryError(f"MLflow at {shown_uri()} refused to register {name}: {error.message}") from error
    return Version(name, number, sha256)


@contextmanager
def _left_as_it_ended(run_id: str | None, client: "MlflowClient") -> Iterator[None]:
    """Restore a run's status and end time, which logging a model changes, also when registering fails."""
    before = client.get_run(run_id).info if run_id else None
    try:
        yield
    finally:
        if run_id and before and before.end_time:
            client.set_terminated(run_id, status=before.status, end_time=before.end_time)


def _signature(graph: Any) -> Any:
    """MLflow's description of an ONNX graph's inputs and outputs: float32 arrays, the batch dimension first."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def schema(arrays: Any) -> Schema:
        sides = {array.name: [side.dim_value for side in array.type.tensor_type.shape.dim[1:]] for array in arrays}
        return Schema([TensorSpec(np.dtype(np.float32), (-1, *rest), name) for name, rest in sides.items()])

    return ModelSignature(inputs=schema(graph.input), outputs=schema(graph.output))
