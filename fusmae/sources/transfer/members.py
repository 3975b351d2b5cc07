"""Members of an archive: which of them may be written, and where."""

import tarfile
from pathlib import Path

from fusmae.errors import SourceError
from fusmae.sources.transfer.storage import writing_to

_COPY_BYTES = 2**20


def safe_name(archive: str, member: tarfile.TarInfo) -> str:
    """Return a member's path inside the target folder, without `.` and double slashes.

    This is stricter than tarfile's data filter, which allows links that stay inside the target folder. Without links,
    the name alone determines where a member is written.

    Raises:
        SourceError: the member would leave the target folder, or is neither a file nor a folder.
    """
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if member.name.startswith("/") or ".." in parts or "\0" in member.name:
        fault = "its path leaves the folder that it is unpacked to"
    elif member.issym() or member.islnk():
        fault = f"it is a link to {member.linkname!r}"
    elif not (member.isreg() or member.isdir()):
        fault = "it is neither a file nor a folder"
    else:
        return "/".join(parts)
    raise SourceError(
        f"{archive} holds a member that can't be unpacked safely.",
        got=f"{member.name!r}: {fault}",
        expected="files and folders only, with paths inside the archive's own folder",
        hint="get the archive from the place that its data set names",
    )


class Tree:
    """A folder that members are written to, each completely or not at all.

    Args:
        root: path of the folder; created with the first member.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        # One temporary file for all members, outside of the unpacked data: a killed process leaves no file among them.
        self._partial = root / ".member.partial"
        self._last_folder: Path | None = None

    def write(self, tar: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> None:
        """Write one regular file.

        Raises:
            StorageError: the disk is full or refuses to write.
        """
        target = self._root / name
        with writing_to(target):
            if target.parent != self._last_folder:
                target.parent.mkdir(parents=True, exist_ok=True)
                self._last_folder = target.parent
            partial = self._partial.open("wb")
        content = tar.extractfile(member)
        assert content is not None, "regular files have content"  # noqa: S101
        with partial, content:
            while chunk := content.read(_COPY_BYTES):
                with writing_to(target):
                    partial.write(chunk)
            with writing_to(target):
                partial.flush()
        with writing_to(target):
            self._partial.replace(target)
