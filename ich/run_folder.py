"""A run's folder: made ready for a new run, the one before kept until the first notebook of the new one is done."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ich.folders import real_path

FOLDERS = ("tables", "notebooks", "html", "figures")
OF_A_RUN = (*FOLDERS, "data", "model", "predictions", "case", "settings.yaml", "manifest.json", "progress.json")
READINGS = Path("tables", "readers.csv")  # what people have measured


def unlike_names(runs: Sequence[Path]) -> list[str]:
    """The names of run folders, those that several have numbered."""
    names = [run.resolve().name for run in runs]
    seen = [names[: place + 1].count(name) for place, name in enumerate(names)]
    return [f"{name} ({count})" if names.count(name) > 1 else name for name, count in zip(names, seen, strict=True)]


def lock(run: Path) -> Path:
    """What a process holds, by `ich.atomic.locked`, while it works in a run."""
    return run.with_name(f".{run.name}.lock")


def before(run: Path) -> Path:
    """Where the run that `set_aside` replaces is kept."""
    return run.with_name(f".{run.name}.before")


def set_aside(run: Path, inputs: Mapping[str, Path]) -> None:
    """Move a run away for a new one of its name.

    A new one whose first notebook was never done is removed instead: the one before it stays where it is kept.

    Parameters
    ----------
    inputs : what the new run reads, by parameter.

    Raises
    ------
    FileExistsError
        The folder is no run's, or holds what would be lost: other files, readings, or an input of the new run.
    """
    if not any((run / name).is_file() for name in ("settings.yaml", "manifest.json")):
        raise FileExistsError(f"{run.name} holds files and no settings.yaml: not a run, so it is not removed")
    others = sorted(path.name for path in run.iterdir() if path.name not in OF_A_RUN and path.name[0] != ".")
    if others:
        raise FileExistsError(f"{run.name} holds {', '.join(others)}, none of a run's: move it away first")
    if (run / READINGS).is_file():
        raise FileExistsError(
            f"{run.name} holds {READINGS.as_posix()}, which readers have measured: move it away first"
        )
    for name, path in inputs.items():
        if real_path(path).is_relative_to(real_path(run)):
            raise FileExistsError(f"{name} lies in {run.name}, which --overwrite removes: give another --name")
    if not before(run).exists() or done_in(run):
        settle(run)
        run.rename(before(run))
    else:
        shutil.rmtree(run)


def done_in(run: Path) -> list[str]:
    """The notebooks that a run has done."""
    for name, found in (("manifest.json", lambda content: content["notebooks"]), ("progress.json", dict)):
        if (run / name).is_file():
            return list(found(json.loads((run / name).read_text(encoding="utf-8"))))
    return []


def settle(run: Path) -> None:
    """Remove the run before this one."""
    if before(run).is_dir():
        shutil.rmtree(before(run))


def restore(run: Path) -> None:
    """Put the run before in the place of this one, of which nothing came."""
    shutil.rmtree(run, ignore_errors=True)
    if before(run).is_dir():
        before(run).rename(run)


def make(run: Path) -> None:
    """Make the folders of a run.

    Raises
    ------
    OSError : nothing can be written there.
    """
    try:
        for folder in FOLDERS:
            (run / folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=run):
            pass
    except OSError as error:
        raise OSError(f"run folder {run.name} cannot be written: {error.strerror}") from error
