"""What lies in a folder, links followed."""

import os
from pathlib import Path

UNREAD = (".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh")  # images of volumes that are to be converted first


def hidden(path: Path) -> bool:
    """Whether a name on the way to a file begins with a dot."""
    return any(part.startswith(".") for part in path.parts)


def real_path(path: Path) -> Path:
    """The absolute path, links followed; of links that lead in a circle, as far as they can be."""
    return Path(os.path.realpath(path))  # Path.resolve raises there before Python 3.13


def files_below(folder: Path) -> list[Path]:
    """Files in a folder and its subfolders, sorted, hidden ones too.

    Links to folders are followed, each folder once. A link to nothing counts as a file: who reads it says so. Pipes,
    sockets and devices do not: who reads one may wait forever.
    """
    found: list[Path] = []
    seen: set[str] = set()
    for place, subfolders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders.sort()
        paths = (Path(place, name) for name in names)
        found += [path for path in paths if path.is_file() or not path.exists()]
    return sorted(found)
