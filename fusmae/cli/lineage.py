"""`fusmae lineage`: what made a registered version."""

import json

import typer

from fusmae.cli.call import begin
from fusmae.cli.options import AsJson, ModelVersion


def lineage(reference: ModelVersion, as_json: AsJson = False) -> None:
    """Say what made a version: data, parameters, code, runs.

    It names the commit, parameters, hashes back to the raw archives, MLflow runs and versions of libraries.

    Example: fusmae lineage fusmae@champion
    """
    begin("lineage", looks_up=reference)
    from fusmae.release.lineage.trace import trace
    from fusmae.reports.lineage import lineage_text

    traced = trace(reference)
    typer.echo(json.dumps(traced.to_json(), indent=2, ensure_ascii=False) if as_json else lineage_text(traced))
