"""2D, 2.5D and anisotropic 3D networks on the same embedded cohort, split and budget of time.

    python tests/benchmarks/architectures.py [--minutes 3] [--cases 60] [--size 128] [--seed 602]

Each is trained once for the budget, on one thread of a CPU (in processor time, which other work on the machine does
not touch) or on the first GPU, at the resolution of the demo network; Dice of blood is that of the test cases at this
resolution, and its difference from that of the first network (which `ich` has) that of each case with itself; both
means have 95 % intervals over patients. The 3D network is MONAI's DynUNet on blocks of eight slices, with kernels and
strides in the plane alone in its first levels, as nnU-Net builds one for slices of 5 mm. DynUNet on three slices is
trained twice, without and with the loss of its two lower levels (deep supervision). Writes
reports/checks/architectures.csv.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet
from small_cohort import ROOT, SHARES, dice_of_cases, prepare

from ich import model, splits, train, training_slices, validation
from ich.agreement import mean_by_group
from ich.augment import Draws, augment
from ich.loss import segmentation_loss

now = time.perf_counter if torch.cuda.is_available() else time.process_time
DEPTH = 8  # slices of a block of the 3D network


def train_slices(
    parts: dict[str, training_slices.Slices], settings: model.Settings, budget_s: float
) -> tuple[Callable, int, int]:
    """The network of `ich` for the budget: function from slices to labels, steps, parameters."""
    recipe = train.Recipe(steps=20, validate_every=20, seed=1)
    train.train(parts["train"], parts["validation"], settings, recipe)  # warms up
    start = now()
    train.train(parts["train"], parts["validation"], settings, recipe)
    steps = int(budget_s / (now() - start) * recipe.steps)
    recipe = train.Recipe(steps=steps, validate_every=max(1, steps // 3), seed=1)
    network, _ = train.train(parts["train"], parts["validation"], settings, recipe)
    return lambda slices: validation.predict_slices(network, slices, settings), steps, size_of(network)


def size_of(network: torch.nn.Module) -> int:
    """Number of parameters."""
    return sum(each.numel() for each in network.parameters())


def windows(hu: torch.Tensor, settings: model.Settings) -> torch.Tensor:
    """(2, K, H, W) brain and bone window of a stack of slices."""
    scaled = [
        ((hu.float() - low) / (high - low)).clamp(0, 1) for low, high in (settings.brain_window, settings.bone_window)
    ]
    return torch.stack(scaled)


def block(slices: training_slices.Slices, case: int, generator: torch.Generator, settings: model.Settings) -> tuple:
    """A mirrored or plain block (2, 8, H, W) of one case with its labels (1, 8, H, W), about blood half of the time."""
    mine = (slices.case == case).nonzero().flatten()
    blood = (slices.labels[mine] > 0).flatten(1).any(1).nonzero().flatten()
    n = max(len(mine) - DEPTH, 0) + 1
    first = int(torch.randint(n, (), generator=generator))
    if len(blood) and torch.rand((), generator=generator) < 0.6:
        about = int(blood[torch.randint(len(blood), (), generator=generator)])
        first = min(max(about - int(torch.randint(DEPTH, (), generator=generator)), 0), n - 1)
    rows = mine[first : first + DEPTH]
    rows = torch.cat([rows, rows[-1:].repeat(DEPTH - len(rows))])
    hu = slices.hu[rows].float() + torch.randn((), generator=generator) * 2
    hu = hu + torch.randn(hu.shape, generator=generator).to(hu.device) * 5 * torch.rand((), generator=generator)
    image, labels = windows(hu, settings), slices.labels[rows][None].long()
    if torch.rand((), generator=generator) < 0.5:
        image, labels = image.flip(2), labels.flip(2)
    return image, labels


def train_for(network: torch.nn.Module, budget_s: float, loss_of: Callable[[], torch.Tensor]) -> int:
    """Train for the budget with a learning rate that rises for a third of the time, then falls to nothing; steps."""
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-2)
    steps, start = 0, now()
    while (spent := (now() - start) / budget_s) < 1:
        share = spent / 0.3 if spent < 0.3 else 0.5 * (1 + np.cos(np.pi * (spent - 0.3) / 0.7))
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * share + 1e-5
        network.train()
        optimizer.zero_grad(set_to_none=True)
        loss_of().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        steps += 1
    return steps


def train_supervised(
    parts: dict[str, training_slices.Slices], settings: model.Settings, budget_s: float, lower: int
) -> tuple[Callable, int, int]:
    """DynUNet on slices with their neighbors; each of `lower` levels below the last counts half of the one above it."""
    slices = parts["train"]
    device = slices.hu.device
    torch.manual_seed(1)
    network = DynUNet(
        2, settings.in_channels, settings.classes, kernel_size=[3] * 4, strides=[1, 2, 2, 2],
        upsample_kernel_size=[2, 2, 2], filters=[16, 32, 64, 128], norm_name="batch",
        deep_supervision=lower > 0, deep_supr_num=max(lower, 1),
    ).to(device)  # fmt: skip
    random = torch.Generator(device).manual_seed(1)
    blood = (slices.labels > 0).flatten(1).any(1).nonzero().flatten()
    weights = 0.5 ** torch.arange(lower + 1)

    def loss_of() -> torch.Tensor:
        bleeding = blood[torch.randint(len(blood), (6,), generator=random, device=device)]
        anywhere = torch.randint(len(slices.hu), (4,), generator=random, device=device)
        rows = torch.cat([bleeding, anywhere])
        draws = Draws(random, len(rows), slice(None))
        stack, labels = augment(slices.hu_of(rows), slices.labels_of(rows), draws)
        with model.half_precision(device):
            answers = network(model.channels(stack, settings))
        levels = answers.unbind(1) if lower else (answers,)
        return sum(
            weight * segmentation_loss(level, labels)
            for weight, level in zip(weights / weights.sum(), levels, strict=True)
        )

    steps = train_for(network, budget_s, loss_of)
    return lambda wanted: validation.predict_slices(network, wanted, settings), steps, size_of(network)


def train_blocks(
    parts: dict[str, training_slices.Slices], settings: model.Settings, budget_s: float
) -> tuple[Callable, int, int]:
    """An anisotropic 3D network for the budget."""
    slices = parts["train"]
    device = slices.hu.device
    torch.manual_seed(1)
    flat, full = (1, 3, 3), (3, 3, 3)
    network = DynUNet(
        3, 2, settings.classes, kernel_size=[flat, flat, full, full], strides=[1, (1, 2, 2), (1, 2, 2), (2, 2, 2)],
        upsample_kernel_size=[(1, 2, 2), (1, 2, 2), (2, 2, 2)], filters=[16, 32, 64, 128], norm_name="batch",
    ).to(device)  # fmt: skip
    loss = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)
    generator = torch.Generator().manual_seed(1)

    def loss_of() -> torch.Tensor:
        chosen = torch.randint(len(slices.case_ids), (2,), generator=generator).tolist()
        image, labels = (
            torch.stack(each) for each in zip(*(block(slices, c, generator, settings) for c in chosen), strict=True)
        )
        with model.half_precision(device):
            logits = network(image.to(device))
        return loss(logits.float(), labels.to(device))

    steps = train_for(network, budget_s, loss_of)

    @torch.inference_mode()
    def label(slices: training_slices.Slices) -> torch.Tensor:
        network.eval()
        out = torch.zeros_like(slices.labels)
        for case in range(len(slices.case_ids)):
            mine = (slices.case == case).nonzero().flatten()
            n = -(-len(mine) // 4) * 4  # the network halves the slices twice at most
            rows = torch.cat([mine, mine[-1:].repeat(max(n, DEPTH) - len(mine))])
            with model.half_precision(device):
                logits = network(windows(slices.hu[rows], settings)[None])
            out[mine] = logits[0].argmax(0).to(torch.uint8)[: len(mine)]
        return out

    return label, steps, size_of(network)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=602, help="of the cohort; network and recipe were chosen on 501's")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    device, rows, first = model.choose_device("auto"), [], None
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        prepare(run, options.cases, options.size, options.seed)
        cases = {name: splits.open_split(run, name) for name in SHARES}
        for name, neighbors, fit in (
            ("2.5D, three slices", 1, train_slices),
            ("2D", 0, train_slices),
            ("2.5D, three slices, blood window", 1, train_slices),
            ("2.5D, five slices", 2, train_slices),
            ("2.5D, DynUNet", 1, partial(train_supervised, lower=0)),
            ("2.5D, DynUNet, deep supervision", 1, partial(train_supervised, lower=2)),
            ("3D, anisotropic", 0, train_blocks),
        ):
            blood_window = (40.0, 90.0) if "blood" in name else None
            settings = model.Settings(neighbors=neighbors, blood_window=blood_window)
            parts = {split: training_slices.load_slices(part, run, settings, device) for split, part in cases.items()}
            label, steps, parameters = fit(parts, settings, 60 * options.minutes)
            start = now()
            found, test = label(parts["test"]), parts["test"]
            predict_s = now() - start
            scores = cases["test"][["case_id", "patient_id", "hemorrhage_type"]].copy()
            scores["dice"] = scores["case_id"].map(dice_of_cases(found, test))
            first = scores if first is None else first
            scores["difference"] = scores["dice"] - first["dice"]
            both = pd.concat([scores, scores.assign(hemorrhage_type="all")])
            means = [mean_by_group(both, column, "hemorrhage_type", seed=1) for column in ("dice", "difference")]
            for dice, difference in zip(*(mean.itertuples() for mean in means), strict=True):
                rows.append(
                    {"network": name, "hemorrhage_type": dice.hemorrhage_type, "n": dice.n, "dice": dice.mean,
                     "dice_low": dice.mean_ci_low, "dice_high": dice.mean_ci_high, "difference": difference.mean,
                     "difference_low": difference.mean_ci_low, "difference_high": difference.mean_ci_high,
                     "minutes": options.minutes, "steps": steps, "parameters": parameters,
                     "predict_s_per_scan": predict_s / len(scores),
                     "cohort": f"{options.cases} embedded cases of {options.size} pixels, seed {options.seed}",
                     "machine": f"{platform.machine()}, {device.type}, torch {torch.__version__}"}
                )  # fmt: skip
            # Written anew each time: who stops here keeps what was measured.
            path = ROOT / "reports" / "checks" / "architectures.csv"
            pd.DataFrame(rows).to_csv(path, index=False, float_format="%.4g")
            print(name, steps, "steps", rows[-1], flush=True)


if __name__ == "__main__":
    main()
