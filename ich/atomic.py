"""Files that are there whole or not at all, whatever ends the program or fills the disk meanwhile."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path beside `path` to write to; at the end it takes the place of `path`, after an error it is removed.

    Folders on the way are made; a link at `path` is replaced and not written through.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.tmp")
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def locked(lock: Path, said: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the file `lock` alone; it stays, and the system frees it when a process dies.

    Raises
    ------
    TimeoutError : another process held it for all of `wait_s`; says that `said` is in use, and by which process.
    """
    last = time.monotonic() + wait_s
    with lock.open("a+", encoding="utf-8") as held:
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= last:
                    held.seek(0)
                    holder = held.read().strip() or "unknown"
                    raise TimeoutError(f"{said} is in use by process {holder}") from None
                time.sleep(0.05)
        held.truncate(0)
        held.write(str(os.getpid()))
        held.flush()
        yield


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, UTF-8, in one step."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file in one step."""
    with replacing(path) as part:
        part.write_bytes(content)
