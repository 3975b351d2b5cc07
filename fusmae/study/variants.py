"""A variant's whole configuration: that of the study, in which the variant's own values replace others."""

from fusmae.config.data import DataConfig
from fusmae.config.params import Config, checked, parse_config
from fusmae.config.study import StudyConfig, VariantConfig
from fusmae.errors import ConfigError


def study_of(config: Config) -> StudyConfig:
    """The section `study`.

    Raises:
        ConfigError: the parameters have no such section, or it is wrong or does not fit the kind of labels.
    """
    if config.study is None:
        raise ConfigError(
            "These parameters have no section `study`.",
            hint="`make study` writes study/params.yaml; then `fusmae --params study/params.yaml …`",
        )
    study = checked(StudyConfig, config.study, where="section study")
    study.require_focus_fits(config.data.kind)
    return study


def variant_of(config: Config, name: str) -> VariantConfig:
    """One of the study's variants.

    Raises:
        ConfigError: the study has no variant of that name.
    """
    variants = study_of(config).variants
    if name not in variants:
        raise ConfigError("The study has no variant of that name.", got=name, expected=sorted(variants))
    return variants[name]


def model_modalities(variant: VariantConfig, tiles: DataConfig) -> tuple[str, ...]:
    """Names of the modalities of a variant's model, in order; one joined name where all bands are stacked.

    `tiles` is the variant's own section `data`, from `variant_config`.
    """
    names = tuple(tiles.modalities)
    return ("+".join(names),) if variant.is_stacked else names


def variant_config(config: Config, name: str, seed: int) -> Config:
    """The configuration that a variant is trained with.

    Where modalities are left out, so are their mask ratios; with one modality or a stack, fusion is off.

    Raises:
        ConfigError: the variant's values don't fit.
    """
    variant, values = variant_of(config, name), config.model_dump(mode="json")
    unknown = [modality for modality in variant.modalities if modality not in config.data.modalities]
    if unknown:
        raise ConfigError(
            f"study.variants.{name}.modalities names some that the data lacks.",
            got=unknown,
            expected=f"some of {list(config.data.modalities)}",
        )
    values["seed"] = seed
    values["model"] |= variant.model
    values["pretrain"] |= variant.pretrain
    if variant.modalities:
        for section, key in (("data", "modalities"), ("model", "mask_ratio")):
            values[section][key] = {name: values[section][key][name] for name in variant.modalities}
    if len(values["data"]["modalities"]) < 2 or variant.is_stacked:
        values["model"] |= {"early_fusion": False, "feature_fusion": False}
    return parse_config(values, where=f"study.variants.{name}")
