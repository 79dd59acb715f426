"""How busy training keeps the device, whether rendering keeps up with it, and how fast a folder of scans is predicted.

    python tests/benchmarks/bench_device.py [--steps 60] [--cases 6] [--scans 8] [--jobs -1]

On the first GPU where there is one, else on the CPU (training and rendering on one thread). Training is that of the
`paper` profile; scans have 512 x 512 pixels, those that are rendered beside a training, by as many processes as there,
256 x 256. The share of time in which a GPU computes is that of a profile of the same training. Of scans there are at
least four for each process. Writes reports/checks/bench_device.csv.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import argparse
import platform
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import joblib
import pandas as pd
import torch
import yaml
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from ich import gpu, model, phantom, predict, replay, train
from ich.stream import MOST_JOBS, embedded_stream
from ich.training_slices import Slices, as_seen, side_by_side

ROOT = Path(__file__).resolve().parents[2]
PAPER = ROOT / "notebooks" / "profiles" / "paper.yaml"
SEED = 8019


class Counting(TorchDispatchMode):
    """Counts operations: on a GPU each is a launch or more."""

    n = 0

    def __torch_dispatch__(self, operation, types, given=(), named=None):
        self.n += 1
        return operation(*given, **(named or {}))


def busy_share(slices: Slices, settings: model.Settings, recipe: train.Recipe) -> float:
    """Share of the time in which a kernel ran, between the first and the last tenth of the kernels of a training: those
    are of what comes before and after its steps."""
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        train.train(slices, slices, settings, recipe)
    return busy(
        (event.time_range.start, event.time_range.end)
        for event in found.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
    )


def busy(spans: Iterable[tuple[float, float]]) -> float:
    """Share of the time that is within one of the spans, the first and the last tenth of them left out."""
    inner = sorted(spans)
    tenth = len(inner) // 10
    inner = inner[tenth : len(inner) - tenth]
    covered, until = 0.0, inner[0][0]
    for start, end in inner:
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    return covered / (until - inner[0][0])


def rendered_a_second(settings: model.Settings, device: torch.device) -> tuple[float, int]:
    """Slices a second that processes beside a training render, and how many processes these are."""
    cases = 2 * MOST_JOBS if device.type == "cuda" else 2
    with embedded_stream({}, cases, settings, device, SEED) as stream:
        for renewal in range(2):  # until every process is at work; they render ahead of what is asked for
            stream(renewal)
        started, slices = time.perf_counter(), 0
        for renewal in range(2, 5):
            slices += int((stream(renewal).case >= cases - stream.replaced).sum())
        return slices / (time.perf_counter() - started), stream.jobs


def seconds_to_train(slices: Slices, settings: model.Settings, recipe: train.Recipe) -> float:
    started = time.perf_counter()
    train.train(slices, slices, settings, recipe)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--scans", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=-1)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    device = model.choose_device("auto")
    given = yaml.safe_load(PAPER.read_text())["parameters"]
    settings = model.Settings(pixel_mm=given["pixel_mm"], size=given["network_size"])
    machine = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    machine += f", {joblib.cpu_count()} cores, torch {torch.__version__}"
    rows: list[dict] = []

    def note(what: str, value: float, unit: str, n: int) -> None:
        rows.append({"what": what, "value": value, "unit": unit, "n": n, "device": device.type, "machine": machine})
        print(rows[-1], flush=True)

    phantom.make_case(SEED, 0, 64, str(device))  # templates are built and moved once
    started = time.perf_counter()
    cases = [phantom.make_case(SEED, index, 512, str(device)) for index in range(options.cases)]
    rendering = (time.perf_counter() - started) / len(cases)
    seen = {case.case_id: as_seen(case.hu, case.labels, case.grid, settings).of_the_head(settings) for case in cases}
    slices = side_by_side(seen, settings, device)
    note("rendering a case of 512 x 512", rendering, "s", len(cases))
    note("slices rendered", len(slices.hu) / len(cases) / rendering, "a second", len(cases))
    beside, processes = rendered_a_second(settings, device)
    note(f"slices rendered beside a training, {processes} processes", beside, "a second", 3)

    few = train.Recipe(steps=10, validate_every=1000, seed=1)
    many = replace(few, steps=few.steps + options.steps)
    seconds_to_train(slices, settings, few)
    step = (seconds_to_train(slices, settings, many) - seconds_to_train(slices, settings, few)) / options.steps
    note("training step of the paper profile", 1000 * step, "ms", options.steps)
    note("slices trained on", few.batch_size / step, "a second", options.steps)
    counts = []
    for recipe in (few, replace(few, steps=12)):
        with Counting() as counting:
            train.train(slices, slices, settings, recipe)
        counts.append(counting.n)
    note("operations of a training step", (counts[1] - counts[0]) / 2, "", 2)
    if device.type == "cuda":
        note("share of time in which the GPU computes", busy_share(slices, settings, many), "", options.steps)
        replay.ON = True
        both = seconds_to_train(slices, settings, few), seconds_to_train(slices, settings, many)
        note("training step told to the GPU once", 1000 * (both[1] - both[0]) / options.steps, "ms", options.steps)
        share = busy_share(slices, settings, many)
        note("share of time in which the GPU computes, step told once", share, "", options.steps)
        replay.ON = False

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        jobs = joblib.effective_n_jobs(gpu.processes(device, options.jobs))
        n = max(options.scans, 4 * jobs)
        table = phantom.write_cohort(made, n, SEED, 512, jobs=options.jobs)
        work = (model.SHIPPED_WEIGHTS, table[["case_id", "image", "reference_mask"]], made)
        took = []
        # The first time no process has a network, and one that was slow to start may have none after.
        for _ in range(3):
            started = time.perf_counter()
            found, failures, _ = predict.predict_cases(*work, jobs=options.jobs)
            took.append(time.perf_counter() - started)
            if len(found) != n:
                raise ValueError(failures.to_string())
        note(f"scan of a folder, from disk to disk, {jobs} processes", 1000 * min(took[1:]) / n, "ms", n)
    pd.DataFrame(rows).to_csv(ROOT / "reports" / "checks" / "bench_device.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
