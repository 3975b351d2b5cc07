"""Published backbones as frozen feature extractors, to be probed on the same data and bands as Fus-MAE's encoder."""

from fusmae.rivals.build import RIVALS, build_rival
from fusmae.rivals.rival import Rival

__all__ = ["RIVALS", "Rival", "build_rival"]
