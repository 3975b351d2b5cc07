"""Progress bars of long steps."""

from collections.abc import Iterator
from contextlib import contextmanager

from fusmae.sources.transfer.segments import Show


@contextmanager
def progress(title: str) -> Iterator[Show]:
    """Show a progress bar in bytes on a terminal, otherwise one line; written to stderr, so that stdout stays clean.

    Yields:
        Function that takes the number of bytes done and their total; may be called from any thread.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        console.print(title, markup=False)
        yield lambda _done, _total: None
        return
    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}", markup=False), *columns, console=console) as bars:
        bar = bars.add_task(title, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)
