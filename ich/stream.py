"""Simulated cases without end: rendered beside a training, which never sees a case twice after it was replaced."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Self

import torch
from joblib import effective_n_jobs

from ich.distributed import of_all, on_this_machine, share
from ich.gpu import PROCESS_BYTES, free_bytes, out_of_memory
from ich.model import Settings
from ich.phantom import make_case
from ich.training_slices import Seen, Slices, as_seen, side_by_side

MOST_JOBS = 16  # processes that render for a GPU
FIRST_SEED = 10**6  # of streams: far from the seeds of cohorts, so that no tested patient is trained on


def embedded_case(seed: int, settings: Settings, size: int, device: str, index: int) -> Seen:
    """Case `index` of the embedded kind as a network sees it, rendered on `device`."""
    case = make_case(FIRST_SEED + seed, index, size, device)
    return as_seen(case.hu, case.labels, case.grid, settings, device).of_the_head(settings)


class Stream:
    """Slices of `base`, which stay, and of a window of simulated cases that moves on at each renewal.

    Which cases a renewal holds follows from its number alone, so that a training that goes on after a stop sees the
    same ones. Cases are rendered ahead by other processes; `with` ends them. Of several processes that train as one,
    each renders its share and all exchange them.

    Parameters
    ----------
    render : case of an index, such as `embedded_case` with its first arguments given; runs in other processes.
    cases : simulated cases in the window. replaced : how many of them a renewal exchanges for new ones.
    base : cases that are always there, by case id.
    jobs : processes that render.
    """

    def __init__(
        self,
        render: Callable[[int], Seen],
        cases: int,
        replaced: int,
        settings: Settings,
        device: torch.device,
        base: Mapping[str, Seen] | None = None,
        jobs: int = 1,
    ):
        if not 0 <= replaced <= cases:
            raise ValueError(f"{replaced} of {cases} simulated cases are to be replaced, wanted 0 to {cases}")
        self.render, self.cases, self.replaced, self.jobs = render, cases, replaced, jobs
        self.settings, self.device, self.base = settings, device, dict(base or {})
        # Spawned, not forked: a CUDA context and the threads of torch do not survive a fork.
        self._workers = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_one_thread)
        self._asked: dict[int, Future[Seen]] = {}
        self._there: dict[int, Seen] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._workers.shutdown(cancel_futures=True)

    @property
    def renew(self) -> Callable[[int], Slices] | None:
        """For `train.train`: this stream, or None where nothing is simulated."""
        return self if self.replaced else None

    def __call__(self, renewal: int) -> Slices:
        """Slices after this many renewals; the cases of the next one are rendered meanwhile."""
        first = renewal * self.replaced
        window = range(first, first + self.cases)
        for index in [index for index in self._asked if index < first]:
            self._asked.pop(index).cancel()
        mine = share()
        for index in range(first, first + self.cases + self.replaced):
            if index % mine.world == mine.rank and index not in self._asked and index not in self._there:
                self._asked[index] = self._workers.submit(self.render, index)
        try:
            rendered = {index: self._asked.pop(index).result() for index in window if index in self._asked}
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise MemoryError(f"no room on {self.device} to simulate cases beside the training: {error}") from error
        known = self._there | of_all(rendered)
        self._there = {index: known[index] for index in window}
        simulated = {f"simulated-{index}": case for index, case in self._there.items()}
        return side_by_side(self.base | simulated, self.settings, self.device)


def embedded_stream(
    base: Mapping[str, Seen], cases: int, settings: Settings, device: torch.device, seed: int, size: int = 256
) -> Stream:
    """`base` joined by cases of the embedded kind, half of them new at each renewal, rendered on the training's device.

    Parameters
    ----------
    cases : simulated cases; 0 for `base` alone.
    seed : of the simulated patients. size : pixels on a side of their scans.
    """
    render = partial(embedded_case, seed, settings, size, str(device))
    # A GPU trains on cases faster than one process can render them.
    # Half of its memory is left to training, and every process of a machine has a GPU of its own.
    own_cores = effective_n_jobs(-1) // on_this_machine()
    room = int(free_bytes(device) / 2 / PROCESS_BYTES) if device.type != "cpu" else 1
    jobs = max(1, min(MOST_JOBS, own_cores - 1, room))
    return Stream(render, cases, -(-cases // 2), settings, device, base, jobs)


def _one_thread() -> None:
    torch.set_num_threads(1)
