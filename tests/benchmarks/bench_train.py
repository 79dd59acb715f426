"""Time a training step and the forward pass in float32 and bfloat16, in both memory formats, compiled or not.

Prints a table and writes its rows into reports/checks/bench_train.csv beside those of other machines. On the first GPU
where there is one, else on one CPU thread.
What is switched on in `ich.model` is what is fastest here.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import itertools
import platform
import shutil
import time
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F

from ich import model

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = {"cpu": 12, "cuda": 200}


def seconds(run, device: torch.device, rounds: int) -> float:
    """Median of single runs after two that warm up."""
    times = []
    for number in range(rounds + 2):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number >= 2:
            times.append(time.perf_counter() - start)
    return float(pd.Series(times).median())


def timed(settings: model.Settings, half: torch.dtype, layout: torch.memory_format, compiled: bool, batch: int) -> dict:
    """Milliseconds of a training step and of a forward pass of one network."""
    device = model.choose_device("auto")
    torch._dynamo.reset()  # beyond a few networks it compiles no more
    torch.manual_seed(0)
    network = model.build_network(settings).to(device, memory_format=layout)
    run = torch.compile(network) if compiled else network
    shape = (batch, settings.in_channels, settings.size, settings.size)
    image = torch.rand(shape, device=device).contiguous(memory_format=layout)
    labels = torch.randint(0, settings.classes, (batch, settings.size, settings.size), device=device)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=True if device.type == "cuda" else None)

    def step() -> None:
        with torch.autocast(device.type, half, enabled=half != torch.float32):
            logits = run(image)
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    @torch.inference_mode()
    def forward() -> None:
        with torch.autocast(device.type, half, enabled=half != torch.float32):
            run(image)

    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    first = time.perf_counter() - start
    rounds = ROUNDS[device.type]
    trained = seconds(step, device, rounds)
    network.eval()
    return {"step_ms": 1000 * trained, "forward_ms": 1000 * seconds(forward, device, rounds), "first_step_s": first}


def main() -> None:
    torch.set_flush_denormal(True)
    device = model.choose_device("auto")
    if device.type == "cpu":
        torch.set_num_threads(1)
    units = ", ".join(name for name in ("amx_tile", "avx512_bf16") if getattr(torch.cpu, f"_is_{name}_supported")())
    cpu = f"{platform.machine()} with {units or 'no bfloat16'}, 1 thread"
    machine = torch.cuda.get_device_name() if device.type == "cuda" else cpu
    machine += f", torch {torch.__version__}"
    networks = {"demo": (model.Settings(), 10), "shipped": (model.load_weights(model.SHIPPED_WEIGHTS, device)[1], 10)}
    layouts = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}
    # torch.compile builds C++ on a CPU, and on a GPU Triton's launchers with a C compiler.
    compiled_or_not = (False, True) if shutil.which("g++" if device.type == "cpu" else "gcc") else (False,)
    path = ROOT / "reports" / "checks" / "bench_train.csv"
    before = pd.read_csv(path)
    rows = []
    for (name, (settings, batch)), half, (layout, memory), compiled in itertools.product(
        networks.items(), (torch.float32, torch.bfloat16), layouts.items(), compiled_or_not
    ):
        took = timed(settings, half, memory, compiled, batch)
        used = half == model.autocast_dtype(device) and layout == "channels last" and not compiled
        rows.append(
            {"network": name, "dtype": str(half).removeprefix("torch."), "layout": layout, "compiled": compiled}
            | took
            | {"used": used, "batch": batch, "machine": machine}
        )
        print(rows[-1], flush=True)
        table = pd.DataFrame(rows).round(2)  # written each time: compiling for a GPU takes a minute a network
        pd.concat([before[before["machine"] != machine], table]).to_csv(path, index=False)
    print(table.drop(columns="machine").to_string(index=False))


if __name__ == "__main__":
    main()
