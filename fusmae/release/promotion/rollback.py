"""Take the champion back: the version that was champion before becomes it again."""

from fusmae.errors import PromotionError
from fusmae.inference.session import Session
from fusmae.release.promotion.champion import Change, move_champion, version_before
from fusmae.release.promotion.ledger import sentence
from fusmae.release.registry.model_file import model_file
from fusmae.release.registry.versions import champion_number


def roll_back(name: str, *, to: str, reason: str) -> str:
    """Move the alias back. The version was champion before, so no gate judges it; its file is checked and loaded.

    Args:
        name: registered model.
        to: number of an earlier champion; "" for the one before.
        reason: why, which the ledger records.

    Returns:
        The ledger's line.

    Raises:
        PromotionError: there is nothing to go back to.
        LedgerError: another process is changing the champion.
        RegistryError: the version is gone, its file is another, or MLflow refuses.
    """
    target = version_before(name, to)
    current = champion_number(name)
    if target.version == current:
        raise PromotionError(f"{target.label} is champion already.", hint=f"fusmae ledger {name}")
    Session(model_file(f"{name}/{target.version}").path)
    return sentence(move_champion(name, Change("rollback", target, reason=reason), current))
