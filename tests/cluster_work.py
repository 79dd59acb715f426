"""What test_cluster.py lets Dask's workers do: a module that they can import."""

import os
import signal
import time
from pathlib import Path


def double(number):
    return 2 * number


def slowly(number):
    time.sleep(0.2)
    return 2 * number


def double_or_die(number):
    time.sleep(0.1)  # so that other cases wait at the worker that dies
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def double_or_hang(number):
    if number == 3:
        time.sleep(60)
    return 2 * number


def die_once(number, folder):
    """Kill the worker the first time that case 3 is tried."""
    mark = Path(folder) / "tried"
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def who(_number):
    return os.getpid()


def fail(number):
    raise ValueError(f"case {number} cannot be")
