"""Read all of params.yaml and check it section by section; an error names the path of the key."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from fusmae.config.data import DataConfig
from fusmae.config.gate import DriftThresholds, EncoderThresholds, Thresholds
from fusmae.config.release import ExportConfig, ReferenceConfig, RegisterConfig, VariantsConfig
from fusmae.config.runtime import RuntimeConfig
from fusmae.config.section import Section
from fusmae.config.training import EvaluateConfig, FinetuneConfig, ModelConfig, PretrainConfig, ProbeConfig
from fusmae.errors import ConfigError
from fusmae.runs.utf8 import read_utf8

AnySection = TypeVar("AnySection", bound=Section)


class Config(Section):
    """All of params.yaml."""

    seed: int = Field(ge=0)  # random seed of every keyed draw
    data: DataConfig
    model: ModelConfig
    pretrain: PretrainConfig
    probe: ProbeConfig
    finetune: FinetuneConfig
    evaluate: EvaluateConfig
    export: ExportConfig
    variants: VariantsConfig
    reference: ReferenceConfig
    register_as: RegisterConfig
    gate: Thresholds
    encoder_gate: EncoderThresholds
    drift: DriftThresholds
    runtime: RuntimeConfig
    # Only the stages of a study check it (`fusmae.study.variants`): no other stage shall depend on its content.
    study: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _loss_fits_labels(self) -> "Config":
        fitting = {"focal": ("multiclass", "segmentation"), "dice": ("segmentation",)}.get(self.finetune.loss)
        if fitting and self.data.kind not in fitting:
            raise ValueError(
                f"finetune.loss: got {self.finetune.loss} with data.kind {self.data.kind}; expected cross_entropy, or "
                f"kind {' or '.join(fitting)}"
            )
        return self

    @model_validator(mode="after")
    def _gates_compare_scores_of_the_kind(self) -> "Config":
        known = {
            "multilabel": ("micro_ap", "macro_ap"),
            "multiclass": ("accuracy", "balanced_accuracy"),
            "segmentation": ("miou", "pixel_accuracy"),
            "regression": ("r2",),
        }
        # An encoder is measured on labels of tiles: the classes that a map has.
        of_tiles = "multilabel" if self.data.kind == "segmentation" else self.data.kind
        for name, kind in (("gate", self.data.kind), ("encoder_gate", of_tiles)):
            metric = getattr(self, name).metric
            if metric not in ("primary", *known[kind]):
                raise ValueError(
                    f"{name}.metric: got {metric} with data.kind {self.data.kind}; expected primary, or "
                    f"{' or '.join(known[kind])}"
                )
        return self

    @model_validator(mode="after")
    def _a_study_starts_from_initial_weights(self) -> "Config":
        for name in ("pretrain", "finetune"):
            if self.study is not None and (start := getattr(self, name).start):
                raise ValueError(
                    f'{name}.start: got {start} with a study; expected "": a study compares variants that it trains '
                    "itself, and its graph does not take other weights"
                )
        return self

    @model_validator(mode="after")
    def _model_fits_data(self) -> "Config":
        tile_px, model = self.data.tile_px, self.model
        if tile_px % model.patch_px:
            works = [side for side in range(8, 25) if tile_px % side == 0]
            raise ValueError(
                f"model.patch_px: {model.patch_px} does not divide a tile of {tile_px} px; use one of {works}"
            )
        for dim, heads, where in (
            (model.dim, model.num_heads, "model"),
            (model.decoder_dim, model.decoder_num_heads, "model.decoder"),
        ):
            if dim % heads or dim % 4:
                raise ValueError(f"{where}: width {dim} must be a multiple of 4 and of its {heads} heads")
        if len(self.data.modalities) < 2:
            only = ", ".join(self.data.modalities)
            for switch in ("early_fusion", "feature_fusion"):
                if getattr(model, switch):
                    raise ValueError(f"model.{switch}: got true with one modality ({only}); expected false")
            if self.pretrain.contrastive_weight:
                raise ValueError("pretrain.contrastive_weight: got one modality; expected two, or 0")
        for name in ("contrastive_weight", "ema_decay"):
            # The contrastive projections and the averaged copy of the model can't be split among processes.
            if self.runtime.strategy == "fsdp" and getattr(self.pretrain, name):
                raise ValueError(f"pretrain.{name}: got {getattr(self.pretrain, name)} with fsdp; expected 0, or ddp")
        got, expected = sorted(model.mask_ratio), sorted(self.data.modalities)
        if got != expected:
            raise ValueError(f"model.mask_ratio: got {got}; expected the modalities {expected}")
        return self


def load_config(path: Path) -> Config:
    """Read and check params.yaml.

    Raises:
        ConfigError: the file is absent, not UTF-8 or not YAML, or values are wrong; names the path of each.
    """
    try:
        values = yaml.safe_load(read_utf8(path, raises=ConfigError))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is not there.", hint="run from the project's folder, or pass --params") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    return parse_config(values, where=str(path))


def parse_config(values: Any, where: str) -> Config:
    """Check nested mappings as read from YAML; `where` names their origin in an error.

    Raises:
        ConfigError: values are wrong; names the path of each, what was got and what was expected.
    """
    return checked(Config, values, where)


def checked(section: type[AnySection], values: Any, where: str) -> AnySection:
    """Check values as a section of params.yaml.

    Raises:
        ConfigError: the same as from `parse_config`.
    """
    try:
        return section.model_validate(values)
    except ValidationError as error:
        problems = "\n".join(_explain(item, section) for item in error.errors())
        raise ConfigError(
            f"{where} is wrong:\n{problems}",
            hint="mend it, then `dvc repro`; `dvc checkout` brings back the outputs of the last run",
        ) from error


def _explain(item: Any, section: type[BaseModel]) -> str:
    parts = [str(part) for part in item["loc"]]
    if parts[:2] == ["data", "source"]:  # pydantic inserts the name of the source
        parts = parts[:2] + parts[3:]
    path = ".".join(parts) or "(whole file)"
    if item["type"] == "extra_forbidden":
        *parents, key = item["loc"]
        near = difflib.get_close_matches(str(key), _known_keys(section, parents), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"  {path}: unknown key (got {item['input']!r}; expected no such key{hint})"
    if item["type"] == "missing":
        return f"  {path}: missing (got nothing; expected a value)"
    if item["type"] == "value_error":
        return f"  {path}: {item['ctx']['error']}"
    is_text_for_rate = item["type"] == "float_type" and isinstance(item["input"], str)
    hint = " (YAML reads 1e-4 as text: write 1.0e-4)" if is_text_for_rate else ""
    return f"  {path}: got {item['input']!r}; expected: {item['msg']}{hint}"


def _known_keys(section: type[BaseModel], parents: Sequence[Any]) -> list[str]:
    """The valid keys at a place in a section; keys of a mapping and the tag of a union on the way are skipped."""
    sections = [section]
    for parent in parents:
        fields = [known.model_fields[parent] for known in sections if parent in known.model_fields]
        if fields:
            sections = [found for field in fields for found in _sections(field.annotation)]
        else:
            names = {known: known.model_fields.get("name") for known in sections}
            sections = [
                known for known, name in names.items() if name and parent in get_args(name.annotation)
            ] or sections
    return sorted({key for known in sections for key in known.model_fields})


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The sections in a type: `dict[str, Modality]`, a union of sources."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _sections(part)]
