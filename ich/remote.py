"""Data at an address such as s3://bucket/folder, through fsspec: fetched once into a local cache, then read as files.

The cache is ICH_CACHE, else ~/.cache/ich. What is there is fetched again only where the store says that the object has
changed or the copy no longer has the hash it had; nothing is ever written to the store. Of several processes that want
the same folder one fetches it, and the others wait.
"""

import hashlib
import json
import math
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from ich.atomic import locked, replacing, write_text
from ich.provenance import file_hash

AT_ONCE = 16  # objects on their way at a time
RECORD = ".fetched.json"


def is_remote(address: str | Path) -> bool:
    """Whether this is an address and no path."""
    return re.match(r"[a-z][a-z0-9+.-]+://", str(address)) is not None


def local(address: str | Path) -> Path:
    """A path that holds what is at `address`: a path itself, or the copy of a file or folder of a store.

    For a CSV file its whole folder is fetched, as a manifest names files beside it.

    Raises
    ------
    ValueError : no such protocol, its package is not installed, nothing is there, or a name leads out of the folder.
    OSError : the store does not answer.
    """
    if not is_remote(address):
        return Path(address)
    text = str(address).rstrip("/")
    shown = re.sub(r"://[^/@]*@", "://", text)  # without a password
    import fsspec

    try:
        store, path = fsspec.core.url_to_fs(text)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{shown}: {error}") from error
    name = PurePosixPath(path).name
    single = store.isfile(path)
    whole = single and not name.lower().endswith(".csv")
    base = path if not single else str(PurePosixPath(path).parent)
    objects = {path: store.info(path)} if whole else store.find(base, detail=True)
    if not objects:
        raise ValueError(f"{shown}: nothing is there")
    place = hashlib.sha256(text.rsplit("/", 1)[0].encode() if single else text.encode()).hexdigest()[:16]
    folder = _cache() / place
    top = folder if single else folder / name
    wanted = {path: top / name} if whole else {each: _below(top, base, each, shown) for each in objects}
    folder.mkdir(parents=True, exist_ok=True)
    with locked(_cache() / f".{place}.lock", f"{shown} in the cache", wait_s=math.inf):
        _fetch(store, wanted, folder)
    return top / name if single else top


def _cache() -> Path:
    return Path(os.environ.get("ICH_CACHE") or Path.home() / ".cache" / "ich")


def _below(folder: Path, base: str, name: str, shown: str) -> Path:
    relative = PurePosixPath(name).relative_to(base) if name.startswith(base) else PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        raise ValueError(f"{shown}: {name!r} leads out of its folder")
    return folder.joinpath(*relative.parts)


def _fetch(store: Any, wanted: dict[str, Path], folder: Path) -> None:
    record = folder / RECORD
    known = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}

    def get(item: tuple[str, Path]) -> tuple[str, dict]:
        name, path = item
        key = str(path.relative_to(folder))
        version = str(store.ukey(name))
        before = known.get(key)
        if before and before["version"] == version and path.is_file() and file_hash(path) == before["sha256"]:
            return key, before
        with replacing(path) as part:
            store.get_file(name, str(part))
        return key, {"version": version, "sha256": file_hash(path)}

    with ThreadPoolExecutor(AT_ONCE) as pool:
        fetched = dict(pool.map(get, wanted.items()))
    write_text(record, json.dumps(known | fetched, indent=1, sort_keys=True))
