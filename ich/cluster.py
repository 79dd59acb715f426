"""Per-case work on a Dask cluster: the scheduler's address is in the environment variable ICH_SCHEDULER.

Workers need the same folders as the caller (a shared file system) and this package; with one thread each
(`dask worker ADDRESS --nthreads 1`) a case that takes too long is ended as it is in a local process.
"""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from itertools import islice
from typing import Any

SCHEDULER = "ICH_SCHEDULER"
CONNECT_S = 10.0
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
AHEAD = 2000  # cases at the scheduler at a time: it holds about a kilobyte for each


class WorkerDiedError(RuntimeError):
    """A case killed every worker that tried it."""


def scheduler() -> str | None:
    """Address of the cluster that per-case work goes to; None: to processes of this machine."""
    return os.environ.get(SCHEDULER) or None


@cache
def _client(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise ModuleNotFoundError(f"{SCHEDULER} is {address}: pip install 'ich[cluster]' for Dask") from error
    try:
        return Client(address, timeout=CONNECT_S, set_as_default=False, name="ich")
    except (OSError, ValueError) as error:
        raise ConnectionError(f"no Dask scheduler answers at {address} ({error})") from error


def run(
    function: Callable[[int, tuple], tuple[int, Any]], given: dict[int, tuple], address: str
) -> Iterator[tuple[int, Any]]:
    """(number, result) of `function(number, arguments)` as cases finish; a result is a WorkerDiedError where every
    worker that tried a case died, also when no other case ran.

    Raises
    ------
    ConnectionError : no scheduler answers. ValueError : it has no worker. Whatever `function` raises.
    """
    from distributed import KilledWorker, as_completed

    client = _client(address)
    if not client.nthreads():
        raise ValueError(f"the Dask scheduler at {address} has no worker: start some with `dask worker {address}`")
    here, numbers = os.getcwd(), {}
    waiting = iter(given.items())
    suspects = []  # Dask blames every case that a dying worker held, not the one that it worked on

    def submit(item: tuple[int, tuple]) -> Any:
        future = client.submit(_in_folder, here, function, *item, pure=False)
        numbers[future.key] = item[0]
        return future

    pending = as_completed([submit(item) for item in islice(waiting, AHEAD)], loop=client.loop)
    try:
        for future in pending:
            number = numbers.pop(future.key)
            if isinstance(future.exception(), KilledWorker):
                suspects.append(number)
            else:
                yield future.result()
            pending.update([submit(item) for item in islice(waiting, 1)])
        for number in suspects:
            alone = submit((number, given[number]))
            died = isinstance(alone.exception(), KilledWorker)
            yield (number, WorkerDiedError(str(alone.exception()))) if died else alone.result()
    finally:
        client.cancel(list(pending.futures), force=True)


def _in_folder(folder: str, function: Callable, number: int, given: tuple) -> tuple[int, Any]:
    """Paths of a case may be relative to where the caller works."""
    _keep_memory()
    try:
        os.chdir(folder)
    except OSError as error:
        raise FileNotFoundError(f"a Dask worker does not see {folder}: workers need the caller's folders") from error
    return function(number, given)


@cache
def _keep_memory() -> None:
    """Let a worker keep freed memory up to glibc's own limits.

    Dask starts workers with MALLOC_TRIM_THRESHOLD_=65536: every array is then asked of the kernel anew, which makes
    cases whose arrays come and go take twice as long.
    """
    with suppress(OSError, AttributeError):  # another C library has no such limits
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(M_MMAP_THRESHOLD, 2**25)
        library.mallopt(M_TRIM_THRESHOLD, 2**26)
