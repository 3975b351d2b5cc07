"""Flows over the stages of dvc.yaml, as one task per stage; they need no server.

`python -m flows.pipeline` runs every stage, `python -m flows.pipeline pretrain` those of the flow `pretrain`.
"""

from argparse import ArgumentParser

from prefect import Flow, flow

from flows.notify import tell
from flows.run_stages import run_stages


@flow(on_failure=[tell], on_crashed=[tell])
def pipeline(overrides: list[str] | None = None, commit: str = "", only_new_data: bool = False) -> None:
    """Run every DVC stage in the order of the graph; the flow fails if a stage fails.

    Args:
        overrides: parameters that differ from params.yaml, such as pretrain.epochs=3 or model=small.
        commit: commit, branch or tag to work at; by default that of the worker's checkout.
        only_new_data: end after stage fetch, with a message, if the newest model version was made from the same raw
            files.
    """
    run_stages([], overrides or [], commit, only_new_data=only_new_data)


def _flow_of(name: str, description: str, *stages: str) -> Flow[..., None]:
    @flow(name=name, description=description, on_failure=[tell], on_crashed=[tell])
    def run(overrides: list[str] | None = None, commit: str = "") -> None:
        """Run some stages of dvc.yaml.

        Args:
            overrides: parameters that differ from params.yaml, such as pretrain.epochs=3 or model=small.
            commit: commit, branch or tag to work at; by default that of the worker's checkout.
        """
        run_stages(stages, overrides or [], commit)

    return run


preprocess = _flow_of(
    "preprocess",
    "Fetch the source, index its pairs, pack them into shards and examine them.",
    *("fetch", "index", "shard", "examine"),
)
pretrain = _flow_of("pretrain", "Pretrain the encoder by masked reconstruction.", "start", "pretrain")
finetune = _flow_of(
    "finetune", "Probe and finetune, from pretrained and from initial weights.", "start", "probe", "finetune"
)
evaluate = _flow_of("evaluate", "Score every model over the whole test set.", "evaluate")
release = _flow_of(
    "release",
    "Export to ONNX, check parity, describe the training data, make smaller variants and register the challenger.",
    *("export", "reference", "variants", "register", "measure-encoder", "register-encoder"),
)


if __name__ == "__main__":
    flows = {named.name: named for named in (pipeline, preprocess, pretrain, finetune, evaluate, release)}
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("flow", nargs="?", choices=flows, default="pipeline")
    flows[parser.parse_args().flow]()
