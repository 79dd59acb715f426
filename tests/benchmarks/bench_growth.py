"""Growth of cost: of a case with slices and image size, of a cohort with cases, and the distance from the floor.

Prints a table and writes reports/checks/bench_growth.csv: for each task and what grows, seconds and peak memory at
every size and the exponent fitted to them (1: in proportion). The floor is what the machine cannot beat: the bytes of
the mask or scan at the speed of a copy, or the operations of the network at that of a matrix product. One thread.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch are imported

import ctypes
import gc
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from ich import model
from ich.abc2 import abc2_variants
from ich.agreement import panel
from ich.grid import Grid
from ich.measure import measure_masks
from ich.model import SHIPPED_WEIGHTS, load_weights
from ich.overlap import overlap
from ich.predict import predict
from ich.scan import Scan, write_mask

ROOT = Path(__file__).resolve().parents[2]
SIZES, SLICES, CASES, PAIRS = (128, 256, 384, 512), (8, 16, 32, 64, 128), (8, 16, 32, 64), (250, 500, 1000, 2000)
FIELD_MM = 230.0


def scan(size: int, slices: int) -> tuple[Grid, np.ndarray, np.ndarray]:
    """A disc of brain in a ring of bone with one ball of blood: grid, HU, mask."""
    pixel, step = FIELD_MM / size, 160.0 / slices
    x = (np.arange(size) - size / 2) * pixel
    z = np.arange(slices) * step
    radius = np.hypot(x[:, None], x[None])[:, :, None]
    hu = np.select([radius < 75, radius < 82], [35, 900], -1000) + 0 * z[None, None]
    ball = (x[:, None, None] - 20) ** 2 + x[None, :, None] ** 2 + (z[None, None] - 80) ** 2 < 22**2
    hu = np.where(ball, 65, hu) + np.random.default_rng(0).normal(0, 3, hu.shape)
    grid = Grid(hu.shape, (pixel, pixel), z, np.diag([-pixel, -pixel, step, 1.0]), 0.0, step)
    return grid, hu.astype(np.int16), ball


def seconds(run: Callable[[], object], rounds: int = 3) -> float:
    """Fastest of some runs after one that warms up."""
    run()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def peak_mb(run: Callable[[], object]) -> float:
    """Memory of the process during a run, at most, over that before it: arrays, tensors and all else (Linux)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what earlier runs have freed goes back to the system
    Path("/proc/self/clear_refs").write_text("5")  # the highest value is that from now on
    before = _memory_kb("VmRSS")
    run()
    return (_memory_kb("VmHWM") - before) * 1024 / 1e6


def _memory_kb(name: str) -> int:
    return int(re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


def copy_bytes_a_second() -> float:
    """Speed of a copy of 256 MB."""
    block = np.ones(2**28, np.uint8)
    return block.size / seconds(lambda: block.copy())


def operations_a_second(dtype: torch.dtype) -> float:
    """Speed of a product of 1,024 x 1,024 matrices."""
    a = torch.rand(1024, 1024).to(dtype)
    return 2 * 1024**3 / seconds(lambda: a @ a)


def per_case(size: int, slices: int) -> Iterator[tuple[str, Callable[[], object], float]]:
    """Task, its run and its floor in seconds."""
    grid, hu, ball = scan(size, slices)
    shifted = np.roll(ball, 2, 0)
    place = grid.spacing_mm, grid.positions_mm
    network, settings, _ = load_weights(SHIPPED_WEIGHTS, torch.device("cpu"))
    image = torch.zeros(slices, settings.in_channels, settings.size, settings.size)
    with FlopCounterMode(display=False) as counted, torch.inference_mode():
        network(image)
    operations = counted.get_total_flops() * (2 if settings.mirrored else 1)
    half = model.autocast_dtype(torch.device("cpu"))
    yield "ABC/2, all variants", lambda: abc2_variants(ball, *place), ball.nbytes / copy_bytes_a_second()
    yield "overlap panel", lambda: overlap(ball, shifted, *place), 2 * ball.nbytes / copy_bytes_a_second()
    yield (
        "prediction, shipped weights",
        lambda: predict(network, settings, Scan(grid, hu, "simulated")),
        operations / operations_a_second(half) + hu.nbytes / copy_bytes_a_second(),
    )


def rows_of(task: str, grows: str, at: int, run: Callable[[], object], floor_s: float | None) -> dict:
    """One row of the table."""
    took = seconds(run)
    return {"task": task, "grows": grows, "at": at, "seconds": took, "peak_mb": peak_mb(run),
            "times_floor": took / floor_s if floor_s else np.nan}  # fmt: skip


def cohorts() -> Iterator[dict]:
    """A folder of masks to its table, and agreement of pairs."""
    with tempfile.TemporaryDirectory() as folder:
        grid, _, ball = scan(256, 32)
        paths = [Path(folder) / f"{number:03d}.nii.gz" for number in range(max(CASES))]
        for path in paths:
            write_mask(path, ball.astype(np.uint8), grid)
        for n in CASES:
            yield rows_of("masks to table, 1 process", "cases", n, lambda n=n: measure_masks(paths[:n], 1), None)
    rng = np.random.default_rng(0)
    for n in PAIRS:
        reference = rng.lognormal(3, 0.8, n)
        table = pd.DataFrame({"reference": reference, "method": reference * rng.normal(1, 0.1, n)})
        yield rows_of("agreement, 2,000 resamples", "cases", n, lambda t=table: panel(t, "method", "reference"), None)


def main() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    rows = [
        rows_of(task, grows, at, run, floor)
        for grows, cases in (("pixels on a side", [(n, 32) for n in SIZES]), ("slices", [(256, n) for n in SLICES]))
        for size, slices in cases
        for at in (size if grows.startswith("pixels") else slices,)
        for task, run, floor in per_case(size, slices)
    ]
    table = pd.DataFrame([*rows, *cohorts()])
    for (task, grows), part in table.groupby(["task", "grows"]):
        slope = np.polyfit(np.log(part["at"]), np.log(part["seconds"]), 1)[0]
        table.loc[(table["task"] == task) & (table["grows"] == grows), "exponent"] = slope
    table = table.sort_values(["task", "grows", "at"])
    table["machine"] = f"{platform.machine()}, 1 thread, torch {torch.__version__}, numpy {np.__version__}"
    table.to_csv(ROOT / "reports" / "checks" / "bench_growth.csv", index=False, float_format="%.3g")
    print(table.drop(columns="machine").to_string(index=False, float_format="%.3g"))


if __name__ == "__main__":
    main()
