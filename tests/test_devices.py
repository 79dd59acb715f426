"""A mask does not depend on where and in what precision it was made: Dice over 0.99, volumes within 1 %."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from ich import gpu, model, replay, train, training_slices
from ich import predict as prediction
from ich.augment import Draws, augment
from ich.model import Settings
from ich.phantom import make_case, write_cohort
from ich.predict import Weights, predict
from ich.scan import Scan

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")


@pytest.fixture(scope="module")
def case():
    """A simulated hematoma of some size."""
    return make_case(3019, 1, 128)


def marked(case, device: str) -> np.ndarray:
    weights = Weights.load(model.SHIPPED_WEIGHTS, device)
    return predict(weights.network, weights.settings, Scan(case.grid, case.hu, "simulated")).labels > 0


def agree(one: np.ndarray, other: np.ndarray) -> None:
    assert one.sum() > 500
    assert 2 * (one & other).sum() / (one.sum() + other.sum()) > 0.99
    assert other.sum() == pytest.approx(one.sum(), rel=0.01)


@pytest.mark.parametrize(("tiles", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_cpu_uses_bfloat16_only_where_it_has_tiles_for_it(monkeypatch, tiles, dtype):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    assert model.autocast_dtype(torch.device("cpu")) == dtype


@pytest.mark.skipif(
    model.autocast_dtype(torch.device("cpu")) == torch.float32, reason="this CPU has no tiles for bfloat16"
)
def test_half_precision_marks_what_single_precision_does(case, monkeypatch):
    half = marked(case, "cpu")
    monkeypatch.setattr(model, "autocast_dtype", lambda device: torch.float32)
    agree(half, marked(case, "cpu"))


@pytest.mark.parametrize(("free", "jobs", "expected"), [(80e9, 8, 8), (8.1e9, 8, 4), (8.1e9, 2, 2), (0.5e9, 8, 1)])
def test_as_many_processes_share_a_gpu_as_its_memory_has_room_for(monkeypatch, free, jobs, expected):
    monkeypatch.setattr(gpu, "free_bytes", lambda device: free)
    assert gpu.processes(torch.device("cuda"), jobs) == expected


def test_processes_on_a_cpu_fit_into_its_memory(monkeypatch):
    monkeypatch.setattr(gpu, "effective_n_jobs", lambda jobs: 16)
    monkeypatch.setattr(gpu, "machine_bytes", lambda: 8.2e9)
    assert gpu.processes(torch.device("cpu"), -1) == 4
    assert gpu.processes(torch.device("cpu"), 6) == 6, "who asks for a number gets it"


@pytest.mark.parametrize(
    ("device", "jobs", "expected"),
    [("cuda", 8, ["cuda:0", "cuda:1"]), ("cuda", 1, ["cuda:0"]), ("cuda:1", 8, ["cuda:1"]), ("cpu", 8, ["cpu"])],
)
def test_processes_share_every_gpu_unless_one_is_named(monkeypatch, device, jobs, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert gpu.devices(torch.device(device), jobs) == expected


@needs_gpu
def test_a_gpu_marks_what_the_cpu_does(case):
    agree(marked(case, "cpu"), marked(case, "cuda"))


@needs_gpu
def test_a_gpu_renders_what_the_cpu_does(case):
    there = make_case(3019, 1, 128, "cuda")
    assert np.median(np.abs(there.hu.astype(float) - case.hu)) <= 1  # random numbers are the CPU's on both
    agree(case.labels > 0, there.labels > 0)


@needs_gpu
def test_slices_in_main_memory_train_as_those_on_the_gpu_do(monkeypatch):
    settings = Settings(pixel_mm=4.0, size=64)
    seen = {}
    for index in range(4):
        made = make_case(3019, index, 64)
        seen[str(index)] = training_slices.as_seen(made.hu, made.labels, made.grid, settings)
    recipe = train.Recipe(steps=6, batch_size=4, validate_every=3)
    monkeypatch.setattr(model, "autocast_dtype", lambda device: torch.float32)  # so that rounding stays small
    curves = []
    for free in (1e12, 0):
        monkeypatch.setattr(training_slices, "free_bytes", lambda device, free=free: free)
        with nullcontext() if free else pytest.warns(UserWarning, match="stay in main memory"):
            slices = training_slices.side_by_side(seen, settings, torch.device("cuda"))
        assert slices.hu.is_cuda == (free > 0)
        curves.append(train.train(slices, slices, settings, recipe)[1])
    assert curves[1]["loss"].to_numpy() == pytest.approx(curves[0]["loss"].to_numpy(), rel=0.02)


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_passes_told_to_a_gpu_once_train_as_those_told_each_time_do(monkeypatch, dtype):
    settings = Settings(pixel_mm=4.0, size=64)
    monkeypatch.setattr(model, "autocast_dtype", lambda device: dtype)
    made = make_case(3019, 1, 64)
    seen = {"1": training_slices.as_seen(made.hu, made.labels, made.grid, settings)}
    slices = training_slices.side_by_side(seen, settings, torch.device("cuda"))
    recipe = train.Recipe(steps=8, batch_size=4, validate_every=2, hard_share=0.25)
    curves = []
    for on in (True, False):
        monkeypatch.setattr(replay, "ON", on)
        curves.append(train.train(slices, slices, settings, recipe)[1]["loss"].to_numpy())
    assert curves[0] == pytest.approx(curves[1], rel=0.05)


@needs_gpu
def test_a_batch_is_augmented_where_it_lies():
    generator = torch.Generator("cuda").manual_seed(1)
    stack, labels = torch.zeros(4, 3, 64, 64, device="cuda"), torch.zeros(4, 64, 64, dtype=torch.long, device="cuda")
    moved, turned = augment(stack, labels, Draws(generator, 4, slice(None)), 0.5)
    assert moved.device.type == turned.device.type == "cuda"
    assert bool(moved.isfinite().all())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        torch.AcceleratorError("CUDA error: out of memory"),
        MemoryError("array"),
    ],
)
def test_a_scan_beyond_the_memory_stops_no_other(monkeypatch, tmp_path, error):
    cases = write_cohort(tmp_path, 3, 3019, 64, jobs=1)
    real, asked = prediction.predict, []

    def too_large(network, settings, scan, **how):
        asked.append(scan)
        if len(asked) == 2:
            raise error
        return real(network, settings, scan, **how)

    monkeypatch.setattr(prediction, "predict", too_large)
    found, failures, _ = prediction.predict_cases(model.SHIPPED_WEIGHTS, cases, tmp_path, "cpu")
    assert found["case_id"].tolist() == ["phantom-0000", "phantom-0002"]
    assert failures["case_id"].tolist() == ["phantom-0001"]
    assert "does not fit into what memory" in failures["reason"].iloc[0]
