"""What a study's page says of the study itself."""

from collections.abc import Sequence
from pathlib import Path

from fusmae.config.study import StudyConfig
from fusmae.config.training import FinetuneConfig, ModelConfig, PretrainConfig, Readout
from fusmae.data.index import SPLITS
from fusmae.data.shards import ShardReader
from fusmae.study.comparable import drawn_places
from fusmae.study.results import Found

_READOUTS: dict[Readout, str] = {
    "mean": "the mean of all tokens",
    "cls": "the CLS token",
    "concat": "each sensor's mean over its tokens",
    "spread": "each sensor's mean and deviation over its tokens",
}


def study_about(
    study: StudyConfig,
    model: ModelConfig,
    pretrain: PretrainConfig,
    finetune: FinetuneConfig,
    shards: Path,
    cells: Sequence[Found],
) -> dict[str, str]:
    """Lines by heading: data, model, lengths, seeds, how intervals are made."""
    readers = {split: ShardReader(shards, split, verify=False) for split in SPLITS}
    test = readers["test"]
    sizes = ", ".join(f"{len(reader):,} {split}" for split, reader in readers.items())
    devices = sorted({str(found.cell.origin["device"]) for found in cells})
    seconds = sum(found.cell.cost["pretrain_seconds"] for found in cells)
    return {
        "Data": f"{test.origin.described.rstrip('.')}. Pairs: {sizes}. {len(test.classes)} classes, {study.kind}.",
        "Model": f"width {model.dim}, {model.depth} blocks, patches of {model.patch_px} px on tiles of "
        f"{max(item.side_px for item in test.inputs)} px, decoders {model.decoder_dim} × {model.decoder_depth}, "
        f"target normalisation {model.target_norm}, mask ratio "
        + ", ".join(f"{name} {ratio:g}" for name, ratio in model.mask_ratio.items()),
        "Pretraining": f"{pretrain.epochs} epochs of all training pairs in batches of {pretrain.batch_size}, without "
        f"labels; {seconds / 60:.0f} minutes for all cells together",
        "Protocols": f"{', '.join(study.protocols)}. kNN and probe read an encoder out as {_READOUTS[study.readout]}, "
        f"finetune as {_READOUTS[finetune.readout]}; a rival as it does itself. kNN: k = {study.neighbours}, "
        "cosine. Probe: logistic regression on standardised frozen features, its regularisation chosen on the whole "
        f"validation split. Finetune: {study.finetune.steps} steps of {study.finetune.batch_size} pairs at any share "
        f"of labels. Segment: a linear map of frozen tokens, {study.segment.steps} steps.",
        **_focus(study),
        "Labels": f"{', '.join(f'{100 * share:g}%' for share in study.shares)} of train: nested, stratified, without "
        "replacement; another draw for each seed, the same one for every variant",
        "Conditions": "kNN, probe and segment have a head for each set of modalities; finetune has one model for all, "
        f"trained with {finetune.modality_drop:.0%} of batches without one modality. Clouds hide "
        f"{study.clouded_share:.0%} of each s2 tile; heads were trained without clouds.",
        "Seeds": f"{', '.join(map(str, study.seeds))}: weights, order, masks and label subsets",
        "Intervals": f"95 %, from {study.bootstrap_resamples} resamples of {drawn_places(cells)} and of seeds, the "
        "same ones for every row, so that differences are paired. Pairs of one place or one acquisition are drawn "
        "together. With few seeds the intervals come out somewhat narrow.",
        "Machine": "; ".join(devices),
    }


def _focus(study: StudyConfig) -> dict[str, str]:
    if study.focus is None:
        return {}
    return {"In focus": f"{study.focus.about}: {'; '.join(study.focus.classes)}. Their score is the mean of their APs"}
