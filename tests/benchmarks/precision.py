"""Training in float32 and in bfloat16, on the same cases from the same seeds: loss, validation Dice, seconds.

    python tests/benchmarks/precision.py RUN [--seeds 1 2]

RUN is a run that 01_cohort has filled, such as reports/demo after `make study`; training is that of the demo, on one
CPU thread or one GPU. "biases trained" leaves the biases before batch normalization free, as they were before
`ich.training_state.hold_biases_without_effect`. Writes reports/checks/precision.csv.
"""

import argparse
import platform
import time
from pathlib import Path

import pandas as pd
import torch

from ich import model, splits, train, training_state
from ich.tables import write_plain
from ich.training_slices import load_slices

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Train each way and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--steps", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    settings, device = model.Settings(), model.choose_device()
    parts = {
        name: load_slices(splits.open_split(options.run, name), options.run, settings, device)
        for name in ("train", "validation")
    }
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    processor = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine() + " with AMX" * amx
    machine = f"{processor}, torch {torch.__version__}"
    hold, rows = training_state.hold_biases_without_effect, []
    for seed in options.seeds:
        recipe = train.Recipe(steps=options.steps, validate_every=options.steps // 4, seed=seed)
        for dtype in (torch.float32, torch.bfloat16):
            for biases in ("held", "trained"):
                model.autocast_dtype = lambda _, chosen=dtype: chosen
                training_state.hold_biases_without_effect = hold if biases == "held" else lambda network: None
                started = time.perf_counter()
                _, history = train.train(parts["train"], parts["validation"], settings, recipe)
                last = history.iloc[-1]
                rows.append(
                    {"precision": str(dtype).removeprefix("torch."), "biases": biases, "seed": seed,
                     "steps": recipe.steps, "loss": last["loss"], "validation_dice": last["validation_dice"],
                     "n_validation": len(parts["validation"].case_ids),
                     "seconds": round(time.perf_counter() - started), "machine": machine}
                )  # fmt: skip
                write_plain(pd.DataFrame(rows), ROOT / "reports" / "checks" / "precision.csv")
                print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
