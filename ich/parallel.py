"""Per-case work over processes: results in order, a progress bar, and no case lost when a process dies or hangs."""

import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm import tqdm

CASE_LIMIT_S = 600.0  # longest time of one case; reading and checking a scan takes seconds


def each(
    function: Callable,
    arguments: Iterable[tuple],
    jobs: int = 1,
    what: str = "",
    dead: Any = None,
    limit_s: float = CASE_LIMIT_S,
) -> list:
    """`function(*given)` for every tuple of arguments, in their order.

    A process that dies (a decoder that crashes, memory that runs out) takes unfinished cases with it: each of them is
    tried once more in a process of its own, and one that kills that too gives `dead(*given)`. A case that takes longer
    than `limit_s` dies in the same way, as nothing else ends a decoder that hangs.

    Parameters
    ----------
    jobs : processes, -1 for one per core; 1 works in this process, where nothing protects from a crash.
    what : text of the progress bar; without it there is none.
    dead : makes the result of a case whose process died; without it the death is raised, and time has no limit.
    limit_s : longest time of one case, seconds, counted in its own process.
    """
    given = list(arguments)
    limit_s = limit_s if dead is not None else 0.0
    results: dict[int, Any] = {}
    bar = tqdm(total=len(given), desc=what, disable=not what, mininterval=10, ascii=True, file=sys.stderr)
    try:
        _run(function, dict(enumerate(given)), jobs, results, bar, limit_s)
    except TerminatedWorkerError:
        if dead is None:
            raise
        for number in [number for number in range(len(given)) if number not in results]:
            try:
                # Two, since joblib works in this process where one is wanted.
                _run(function, {number: given[number]}, 2, results, bar, limit_s)
            except TerminatedWorkerError:
                results[number] = dead(*given[number])
                bar.update()
    finally:
        bar.close()
    return [results[number] for number in range(len(given))]


def _run(
    function: Callable, given: dict[int, tuple], jobs: int, results: dict[int, Any], bar: tqdm, limit_s: float
) -> None:
    work = Parallel(n_jobs=jobs, return_as="generator_unordered")(
        delayed(_numbered)(function, number, each_given, limit_s, os.getpid()) for number, each_given in given.items()
    )
    for number, result in work:
        results[number] = result
        bar.update()


def _numbered(function: Callable, number: int, given: tuple, limit_s: float, caller: int) -> tuple[int, Any]:
    if not limit_s or os.getpid() == caller:
        return number, function(*given)
    # The signal itself ends the process: a handler in Python would wait for the decoder to return.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        return number, function(*given)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
