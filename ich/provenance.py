"""What a run was made of: code, packages, machine, tables, inputs. Names no host, user or absolute path."""

import hashlib
import importlib.metadata
import platform
import re
import subprocess
from pathlib import Path

import pandas as pd

from ich.folders import files_below


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def describe_tables(folder: Path) -> dict[str, dict]:
    """SHA-256 and number of rows of every CSV in `folder`, by file name."""
    return {path.name: {"sha256": file_hash(path), "rows": _rows(path)} for path in sorted(folder.glob("*.csv"))}


def describe_figures(folder: Path) -> dict[str, str]:
    """SHA-256 of every SVG and PNG in `folder`, by file name."""
    return {path.name: file_hash(path) for path in sorted(folder.glob("*.*")) if path.suffix in (".svg", ".png")}


def describe_pages(run: Path) -> dict[str, str]:
    """SHA-256 of every page, executed notebook, table for print and the captions of a run, by paths from its folder."""
    paths = [*(run / "html").glob("*"), *(run / "notebooks").glob("*.ipynb"), run / "figures" / "captions.json"]
    paths += [path for ending in ("tex", "docx") for path in (run / "tables").glob(f"*.{ending}")]
    return {path.relative_to(run).as_posix(): file_hash(path) for path in sorted(paths) if path.is_file()}


def _rows(path: Path) -> int:
    try:
        return len(pd.read_csv(path, dtype="str"))
    except pd.errors.EmptyDataError:
        return 0


def describe_input(path: Path) -> dict:
    """SHA-256 of a file, or of the names and hashes of a folder's files in the order of their names."""
    if path.is_file():
        return {"sha256": file_hash(path)}
    files = [file for file in files_below(path) if file.is_file()]
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(path).as_posix()} {file_hash(file)}\n".encode())
    return {"sha256": digest.hexdigest(), "files": len(files)}


def code_version(project: Path) -> dict:
    """Commit of the project and whether files, reports aside, differ from it; None without a repository."""
    top = _git(project, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != project.resolve():
        return {"commit": None, "dirty": None}
    changed = _git(project, "status", "--porcelain", "--", ".", ":(exclude)reports")
    return {"commit": _git(project, "rev-parse", "HEAD"), "dirty": None if changed is None else bool(changed)}


def as_committed(path: Path) -> bool:
    """Whether git knows a folder and nothing in it differs from the last commit."""
    return _git(path, "ls-files", ".") not in (None, "") and _git(path, "status", "--porcelain", "--", ".") == ""


def _git(project: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(project), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def package_versions() -> dict[str, str]:
    """Installed version of ich and of each package it depends on."""
    stated = importlib.metadata.requires("ich") or []
    names = [re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in stated if "extra ==" not in text]
    return {name: importlib.metadata.version(name) for name in ["ich", *sorted(names)]}


def machine() -> dict:
    """Python, architecture, system and accelerator."""
    import torch  # takes seconds, and only a finished run needs it

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "device": device,
    }
