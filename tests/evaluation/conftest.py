"""The study's tiny dataset and variants, to measure encoders on."""

from tests.study.conftest import _one_thread, compose, tiny, tiny_config, tiny_of

__all__ = ["_one_thread", "compose", "tiny", "tiny_config", "tiny_of"]
