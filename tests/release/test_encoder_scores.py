"""kNN and a probe over an encoder's embeddings, and what there is to say where nothing has a label."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fusmae.config.task import Task
from fusmae.data.index import SPLITS, write_index
from fusmae.data.shard_writer import write_shards
from fusmae.data.shards import ShardReader
from fusmae.evaluation.neighbours import neighbour_answers
from fusmae.inference.session import EMBEDDING, Session
from fusmae.models.encoder import Encoder
from fusmae.release.encoder_scores import KNN, PROBE, frozen_answers
from fusmae.stages.measure_encoder import measure_encoder
from fusmae.training.checkpoint import Checkpoint, save_checkpoint
from tests.conftest import CLASSES, COUNTS, SHARD_PAIRS
from tests.sections import architecture_of, preprocess_of, runtime_section

SETTINGS = [("s1", "s2"), ("s1",), ("s2",)]


@pytest.fixture(scope="module")
def session(graph_of_version):
    return Session(graph_of_version["e1"])


@pytest.fixture(scope="module")
def embed(session):
    return lambda pixels, setting: session.run(pixels, setting, outputs=[EMBEDDING])[EMBEDDING]


def of_splits(shards):
    """Readers of all splits."""
    return {split: ShardReader(shards, split) for split in SPLITS}


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory, pairs, read_pair, inputs):
    """The tiny shards without any label."""
    folder = tmp_path_factory.mktemp("unlabelled") / "shards"
    bare = [replace(pair, labels=()) for pair in pairs]
    write_shards(bare, read_pair, folder, inputs=inputs, task=Task(), shard_pairs=SHARD_PAIRS)
    return folder


def test_probabilities_are_of_all_test_pairs_by_protocol_and_setting(embed, shards):
    found, num_bad = frozen_answers(embed, of_splits(shards), SETTINGS, neighbours=5, max_pairs=100)
    assert num_bad == 0
    assert set(found) == {(protocol, "+".join(setting)) for protocol in (KNN, PROBE) for setting in SETTINGS}
    assert {values.shape for values in found.values()} == {(COUNTS["test"], len(CLASSES))}
    readers = {split: ShardReader(shards, split) for split in ("train", "test")}
    features = {split: embed(reader.read(range(len(reader))), ("s2",)) for split, reader in readers.items()}
    expected = neighbour_answers(features["train"], np.asarray(readers["train"].labels), features["test"], k=5)
    np.testing.assert_allclose(found[KNN, "s2"], expected, atol=1e-6)


def test_of_many_pairs_some_are_learned_from_evenly_spread(embed, shards):
    read = []

    def watched(pixels, setting):
        read.append(len(next(iter(pixels.values()))))
        return embed(pixels, setting)

    frozen_answers(watched, of_splits(shards), SETTINGS[:1], neighbours=5, max_pairs=4)
    assert sum(read) == 4 + 4 + COUNTS["test"]
    assert ShardReader(shards, "train").spread(4) == [0, 5, 10, 16]
    assert ShardReader(shards, "train").spread(100) == list(range(COUNTS["train"]))


def test_numbers_that_are_not_finite_are_counted_and_count_as_0(embed, shards):
    def broken(pixels, setting):
        found = embed(pixels, setting).copy()
        found[0, 0] = np.nan
        return found

    found, num_bad = frozen_answers(broken, of_splits(shards), SETTINGS[:1], neighbours=5, max_pairs=100)
    assert num_bad == 4  # one per batch of 16: two of train, one each of validation and test
    assert all(np.isfinite(values).all() for values in found.values())


@pytest.fixture
def measured(tmp_path, graph_of_version, inputs, statistics, pairs, config):
    """Runs the stage on shards, with the encoder's graph and a checkpoint of other weights; scores and table."""
    preprocessing = preprocess_of(inputs, statistics).preprocessing
    architecture = architecture_of(preprocessing)
    torch.manual_seed(1)
    weights = {f"encoder.{name}": tensor for name, tensor in Encoder(architecture).state_dict().items()}
    save_checkpoint(tmp_path / "initial", Checkpoint(architecture, preprocessing, Task(), {}, weights))
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "model.onnx").symlink_to(graph_of_version["e1"])
    write_index(pairs, tmp_path / "index.parquet")

    def run(shards):
        measure_encoder(
            config.evaluate,
            runtime_section(),
            seed=0,
            exported=tmp_path / "exported",
            initial=tmp_path / "initial",
            shards=shards,
            index=tmp_path / "index.parquet",
            out=tmp_path / "out",
        )
        return json.loads((tmp_path / "out/scores.json").read_text()), (tmp_path / "out/table.md").read_text()

    return run


def test_the_stage_scores_the_graph_beside_the_initial_weights(measured, shards):
    scores, table = measured(shards)
    found = {protocol: set(rows) for protocol, rows in scores["rows"].items()}
    assert found == {key: {"pretrained", "random"} for key in (KNN, PROBE)}
    assert scores["num_places"] == 6
    assert scores["rows"][PROBE]["random"]["s1+s2"]["intervals"]["macro_ap"]
    assert "| probe | random | s2 |" in table


def test_without_labels_the_stage_says_so(measured, unlabelled):
    scores, table = measured(unlabelled)
    assert scores["rows"] == {}
    assert table == "Nothing was scored: train or test has no labels.\n"
