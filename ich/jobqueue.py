"""Workers as jobs of a queue (Slurm, PBS and others): a Dask scheduler here for as long as a command runs."""

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

SYSTEMS = {
    "slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster", "oar": "OARCluster",
    "moab": "MoabCluster", "htcondor": "HTCondorCluster",
}  # fmt: skip


@contextmanager
def scheduler(given: str | None) -> Iterator[str | None]:
    """Address of a Dask scheduler: `given`, or where that is a YAML file, of one whose workers the queue starts.

    The file has `system` (slurm, pbs, ...), `jobs` (how many, each one worker with one thread), `memory` (of a job) and
    whatever else dask-jobqueue takes for the system: queue, account, walltime, job_script_prologue and so on. Jobs are
    cancelled at the end. `wait_minutes` (60) is the longest wait for the first of them.

    Raises
    ------
    ValueError : the file does not say what is needed, or says what dask-jobqueue does not know.
    ModuleNotFoundError : dask-jobqueue is not installed.
    TimeoutError : no job started in time.
    """
    if given is None or Path(given).suffix not in (".yaml", ".yml"):
        yield given
        return
    settings = _read(Path(given))
    system, jobs = settings.pop("system"), settings.pop("jobs")
    wait_minutes = settings.pop("wait_minutes", 60)
    with _made(system, settings, given) as cluster:
        cluster.scale(jobs=jobs)
        print(f"{jobs} jobs asked of {system}; waiting for the first", file=sys.stderr, flush=True)
        try:
            cluster.wait_for_workers(1, timeout=60 * wait_minutes)
        except TimeoutError as error:
            raise TimeoutError(f"{given}: no job of {system} started within {wait_minutes:g} minutes") from error
        yield cluster.scheduler_address


def _read(path: Path) -> dict[str, Any]:
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: holds no settings, wanted system, jobs and memory")
    missing = [name for name in ("system", "jobs", "memory") if name not in settings]
    if missing:
        raise ValueError(f"{path}: says nothing of {', '.join(missing)}")
    if settings["system"] not in SYSTEMS:
        raise ValueError(f"{path}: system is {settings['system']!r}, wanted one of {', '.join(SYSTEMS)}")
    if type(settings["jobs"]) is not int or settings["jobs"] < 1:
        raise ValueError(f"{path}: jobs is {settings['jobs']!r}, wanted a number from 1")
    return settings


def _made(system: str, settings: dict[str, Any], given: str) -> Any:
    try:
        import dask_jobqueue
    except ImportError as error:
        raise ModuleNotFoundError(f"{given} asks for jobs of {system}: pip install 'ich[cluster]'") from error
    kind = getattr(dask_jobqueue, SYSTEMS[system])
    known = {
        name
        for source in (kind.__init__, kind.job_cls.__init__, dask_jobqueue.core.Job.__init__)
        for name in inspect.signature(source).parameters
    }
    if unknown := sorted(set(settings) - known):
        raise ValueError(f"{given}: dask-jobqueue's {SYSTEMS[system]} takes no {', '.join(unknown)}")
    # One thread each: a case that takes too long is ended with its worker.
    return kind(cores=1, processes=1, **settings)
