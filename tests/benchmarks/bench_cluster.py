"""Per-case work over processes and Dask workers of this machine: speed-up, overhead per case, and a large cohort.

    python tests/benchmarks/bench_cluster.py [--pairs 200] [--simulated 32] [--large 20000]

Prints a table and writes reports/checks/bench_cluster.csv. A pair is a simulated reference outline of 256 x 256 x 24
pixels and its displaced copy, evaluated from disk to table (some 20 ms); a simulated case has 128 x 128 pixels; pairs
of the large cohort have 96 x 96 x 12. What a case costs beyond its work is the time of a function that does nothing.
The large cohort goes on to the agreement panel.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import distributed
import numpy as np
import pandas as pd

from ich import cluster
from ich.agreement import panel
from ich.grid import Grid
from ich.measure import evaluate
from ich.parallel import each
from ich.phantom import make_case
from ich.scan import write_mask

ROOT = Path(__file__).resolve().parents[2]
FIELD_MM = 230.0


def write_pair(folder: Path, number: int, size: int, slices: int) -> None:
    """An ellipsoid with a wavy surface and its copy, moved by a pixel and a little larger or smaller."""
    random = np.random.default_rng([7, number])
    pixel, step = FIELD_MM / size, 120.0 / slices
    axes = random.lognormal(np.log(18), 0.35, 3)
    x, y = ((np.arange(size) - size / 2) * pixel - shift for shift in random.uniform(-30, 30, 2))
    z = (np.arange(slices) - slices / 2) * step
    wave = 1 + 0.15 * np.sin(np.arctan2(y[None], x[:, None]) * random.integers(2, 6))[:, :, None]
    squared = sum(
        (along / axis) ** 2 for along, axis in zip((x[:, None, None], y[None, :, None], z), axes, strict=True)
    )
    grid = Grid((size, size, slices), (pixel, pixel), z, np.diag([-pixel, -pixel, step, 1.0]), 0.0, step)
    for name, scale in (("reference", 1.0), ("prediction", random.normal(1, 0.05))):
        mask = (squared < (scale * wave) ** 2).astype(np.uint8)
        write_mask(folder / name / f"c{number:05d}.nii.gz", np.roll(mask, int(name == "prediction"), 0), grid)


def write_pairs(folder: Path, n: int, size: int, slices: int) -> tuple[dict[str, Path], dict[str, Path]]:
    """Paths by case of the references and of the predictions."""
    for name in ("reference", "prediction"):
        (folder / name).mkdir(parents=True)
    each(write_pair, [(folder, number, size, slices) for number in range(n)], -1)
    names = [f"c{number:05d}" for number in range(n)]
    return tuple({case: folder / kind / f"{case}.nii.gz" for case in names} for kind in ("reference", "prediction"))


def nothing(_number: int) -> None:
    """The case that costs no work."""


def simulated(number: int) -> float:
    """A head of 128 pixels with its bleed: a case that costs a good part of a second."""
    return float(make_case(77, number, 128).hu.mean())


@contextmanager
def dask(workers: int) -> Iterator[None]:
    """A scheduler and its workers, as `dask` starts them on a cluster; per-case work goes there meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.txt"
        with log.open("w") as out:
            environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}

            def start(*words: str) -> subprocess.Popen:
                command = [sys.executable, "-m", "dask", *words]
                return subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, env=environment)

            made = [start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")]
            while not (address := re.search(r"Scheduler at:\s+(tcp://\S+)", log.read_text())):
                time.sleep(0.2)
            made.append(
                start("worker", address.group(1), "--nthreads", "1", "--nworkers", str(workers), "--no-dashboard")
            )
            os.environ[cluster.SCHEDULER] = address.group(1)
            client = cluster._client(address.group(1))
            client.wait_for_workers(workers, timeout=120)
            try:
                yield
            finally:
                del os.environ[cluster.SCHEDULER]
                client.close()
                cluster._client.cache_clear()
                for process in reversed(made):
                    process.terminate()
                    process.wait()


def seconds(run) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def peak() -> dict[str, float]:
    """The most memory that this process has had so far."""
    return {"caller_peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--simulated", type=int, default=32)
    parser.add_argument("--large", type=int, default=20000)
    options = parser.parse_args()
    from bench_cluster import nothing, simulated  # by the name under which workers import it

    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as folder:
        pairs = write_pairs(Path(folder) / "pairs", options.pairs, 256, 24)
        few = tuple({case: paths[case] for case in list(paths)[:8]} for paths in pairs)
        expected: pd.DataFrame | None = None
        serial: dict[str, float] = {}

        def measured(name: str, workers: int, jobs: int) -> None:
            nonlocal expected
            evaluate(*few, jobs)  # starts and imports
            each(simulated, [(n,) for n in range(4)], jobs)
            found: list = []
            took = {
                "evaluate pairs": seconds(lambda: found.append(evaluate(*pairs, jobs).metrics)),
                "simulate cases": seconds(lambda: each(simulated, [(n,) for n in range(options.simulated)], jobs)),
            }
            expected = found[0] if expected is None else expected
            pd.testing.assert_frame_equal(found[0], expected, check_exact=True)
            empty = seconds(lambda: each(nothing, [(n,) for n in range(2000)], jobs)) / 2000
            for task, s in took.items():
                serial.setdefault(task, s)
                n = options.pairs if task == "evaluate pairs" else options.simulated
                rows.append({"task": task, "on": name, "workers": workers, "n": n, "seconds": s,
                             "speed_up": serial[task] / s, "overhead_ms_per_case": 1000 * empty})  # fmt: skip
                print(rows[-1], flush=True)

        measured("this process", 1, 1)
        measured("local processes", 2, 2)
        for workers in (1, 2, 4):
            with dask(workers):
                measured("Dask", workers, -1)
        large = write_pairs(Path(folder) / "large", options.large, 96, 12)
        with dask(2):
            found: list = []
            took = seconds(lambda: found.append(evaluate(*large, -1)))
        result = found[0]
        if len(result.failures) or len(result.cases) != options.large:
            raise ValueError(f"{len(result.failures)} of {options.large} pairs failed")
        rows.append({"task": "evaluate pairs", "on": "Dask", "workers": 2, "n": options.large, "seconds": took,
                     **peak()})  # fmt: skip
        blood = result.metrics[result.metrics["label"] == "blood"]
        took = seconds(lambda: panel(blood, "predicted_ml", "reference_ml"))
        rows.append({"task": "agreement, 2,000 resamples", "on": "this process", "workers": 1, "n": len(blood),
                     "seconds": took, **peak()})  # fmt: skip
    table = pd.DataFrame(rows)
    table["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, distributed {distributed.__version__}"
    table.to_csv(ROOT / "reports" / "checks" / "bench_cluster.csv", index=False, float_format="%.4g")
    print(table.drop(columns="machine").to_string(index=False))


if __name__ == "__main__":
    main()
