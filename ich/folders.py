"""What lies in a folder, links followed."""

import os
from pathlib import Path


def files_below(folder: Path) -> list[Path]:
    """Files in a folder and its subfolders, sorted, hidden ones too.

    Links to folders are followed, each folder once. A link to nothing counts as a file: who reads it says so.
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
        found += [Path(place, name) for name in names]
    return sorted(found)
