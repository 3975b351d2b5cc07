"""Stage study_pretrain: make the weights of one variant and seed of a study, which are then measured."""

from dataclasses import replace
from pathlib import Path

from fusmae.config.study import VariantConfig
from fusmae.config.training import PretrainConfig
from fusmae.data.statistics import read_statistics
from fusmae.data.verdict import require_verdict
from fusmae.evaluation.evidence import pretraining_callbacks
from fusmae.files import write_json
from fusmae.models.preprocess import Preprocessing
from fusmae.runs.distributed import require_one_process
from fusmae.runs.provenance import stage_code
from fusmae.study.variants import model_modalities
from fusmae.training.checkpoint import save_checkpoint
from fusmae.training.reconstruction import start_pretraining
from fusmae.training.stage import TrainingStage
from fusmae.training.trainer import History


def study_pretrain(
    chosen: VariantConfig,
    section: PretrainConfig,
    stage: TrainingStage,
    *,
    variant: str,
    shards: Path,
    verdict: Path,
    statistics: Path,
    out: Path,
    run_file: Path,
) -> None:
    """Write the checkpoint folder `out`, with `history.json` in it; a rival's own weights are not read here."""
    require_one_process("study_pretrain")
    require_verdict(verdict, shards)
    model, tiles = stage.model, stage.tiles
    data = stage.pairs(shards, section, model_modalities(chosen, tiles), model.num_patches(tiles.tile_px))
    preprocessing = Preprocessing(
        inputs=tuple(item for item in data.reader("train").inputs if item.modality in tiles.modalities),
        statistics=read_statistics(statistics),
        is_stacked=chosen.is_stacked,
    )
    module, start = start_pretraining(model, preprocessing, section, stage.seed)
    params = {"variant": chosen.model_dump(), "model": model.model_dump(), "pretrain": section.model_dump()}
    code, history = stage_code("pretrain", Path("study/dvc.yaml")), History()
    with stage.run(f"study-{variant}-{stage.seed}", params, code, [shards, statistics], run_file, data) as run:
        checkpoint = replace(start, provenance=run.facts)
        if chosen.start == "pretrained":
            callbacks = [*pretraining_callbacks(data, section), history]
            checkpoint = replace(checkpoint, weights=stage.fit(module, data, run, section.epochs, callbacks))
        save_checkpoint(out, checkpoint)
        write_json(out / "history.json", history.state_dict() | {"run_id": run.run_id})
