"""Per-case work over processes or a cluster: results in order, and no case lost when a process dies or hangs."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm import tqdm

from ich import cluster

# loky takes a worker that has loaded torch for one that leaks memory and starts another: nothing to tell a user of.
warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
CASE_LIMIT_S = 600.0  # longest time of one case; reading and checking a scan takes seconds


def each(
    function: Callable,
    arguments: Iterable[tuple],
    jobs: int = 1,
    what: str = "",
    dead: Any = None,
    limit_s: float = CASE_LIMIT_S,
    done: Callable[[int, Any], None] | None = None,
) -> list:
    """`function(*given)` for every tuple of arguments, in their order.

    A process that dies (a decoder that crashes, memory that runs out) takes unfinished cases with it: each of them is
    tried once more in a process of its own, and one that kills that too gives `dead(*given)`. A case that takes longer
    than `limit_s` dies in the same way, as nothing else ends a decoder that hangs.

    Where `ich.cluster.scheduler` names a Dask cluster the cases go there instead; Dask itself tries a case on other
    workers.

    Parameters
    ----------
    jobs : processes, -1 for one per core; 1 works in this process, where nothing protects from a crash.
    what : text of the progress bar; without it there is none.
    dead : makes the result of a case whose process died; without it the death is raised, and time has no limit.
    limit_s : longest time of one case, seconds, counted in its own process.
    done : called here with the number and result of each case as it finishes, in any order.
    """
    given = list(arguments)
    limit_s = limit_s if dead is not None else 0.0
    results: dict[int, Any] = {}
    bar = tqdm(total=len(given), desc=what, disable=not what, mininterval=10, ascii=True, file=sys.stderr)

    def keep(found: Iterator[tuple[int, Any]]) -> None:
        for number, result in found:
            if isinstance(result, cluster.WorkerDiedError):
                if dead is None:
                    raise result
                result = dead(*given[number])
            results[number] = result
            if done:
                done(number, result)
            bar.update()

    numbered = dict(enumerate(given))
    address = cluster.scheduler()
    try:
        if address:
            keep(cluster.run(partial(_limited, function, limit_s), numbered, address))
            return [results[number] for number in numbered]
        try:
            keep(_run(function, numbered, jobs, limit_s))
        except TerminatedWorkerError:
            if dead is None:
                raise
        for number in [number for number in numbered if number not in results]:
            try:
                # Two, since joblib works in this process where one is wanted.
                keep(_run(function, {number: given[number]}, 2, limit_s))
            except TerminatedWorkerError as error:
                keep(iter([(number, cluster.WorkerDiedError(str(error)))]))
    finally:
        bar.close()
    return [results[number] for number in numbered]


def _run(function: Callable, given: dict[int, tuple], jobs: int, limit_s: float) -> Iterator[tuple[int, Any]]:
    return Parallel(n_jobs=jobs, return_as="generator_unordered")(
        delayed(_in_process)(function, number, each_given, limit_s, os.getpid()) for number, each_given in given.items()
    )


def _in_process(function: Callable, number: int, given: tuple, limit_s: float, caller: int) -> tuple[int, Any]:
    return _limited(function, 0.0 if os.getpid() == caller else limit_s, number, given)


def _limited(function: Callable, limit_s: float, number: int, given: tuple) -> tuple[int, Any]:
    if not limit_s:
        return number, function(*given)
    # The signal itself ends the process: a handler in Python would wait for the decoder to return. Only the main thread
    # may say so; in the thread of a Dask worker the signal has that effect already.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        return number, function(*given)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
