"""The shipped weights: trained on simulated scans alone, four fifths of them far more varied than the embedded cohort.

`ich pretrain` makes them again. No voxel of a real scan takes part, neither in training nor in the choice of a step.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from ich import phantom, train, trained, variety
from ich.model import AIR_HU, Settings, crop, look_at, neighbor_index, shows_head
from ich.scan import Grid
from ich.train import Recipe, Slices

SETTINGS = Settings(pixel_mm=1.35, size=160, channels=(24, 48, 96, 160, 160), strides=(2, 2, 2, 2))
# How the trained network is used; chosen on simulated cases of the validation seed.
AFTERWARDS: dict = {"mirrored": True, "smallest_ml": 0.1, "certain_ml": 1.0, "certain": 0.88}
RECIPE = Recipe(
    steps=11000,
    batch_size=10,
    positive_share=0.5,
    hard_share=0.3,
    ema_decay=0.998,
    validate_every=1000,
    seed=1,
)
EMBEDDED_SHARE = 0.2  # of the training cases; the others are varied
RESERVED_SEED = 2019  # of the embedded cohort, which tests the weights


@dataclass(frozen=True)
class Source:
    """One simulated case: of the varied patients or of the embedded kind, by seed and index."""

    varied: bool
    seed: int
    index: int

    @property
    def name(self) -> str:
        return f"{'varied' if self.varied else 'embedded'}-{self.seed}-{self.index:05d}"


def sources(n: int, seed: int) -> list[Source]:
    """`n` cases, every fifth of the embedded kind.

    Raises
    ------
    ValueError
        The seed is that of the embedded cohort, which has to stay unseen.
    """
    if seed == RESERVED_SEED:
        raise ValueError(f"seed {seed} is that of the embedded cohort, on which the weights are tested: take another")
    every = round(1 / EMBEDDED_SHARE)
    return [Source(index % every != every - 1, seed, index) for index in range(n)]


def as_seen(hu: np.ndarray, labels: np.ndarray, grid: Grid, settings: Settings) -> dict[str, np.ndarray]:
    """What training keeps of a case: its slices at network resolution, without those beyond the head.

    Returns
    -------
    hu : (K, H, W) int16. labels : (K, H, W) uint8. voxel_ml : (K,) float32, volume of a pixel times its slice's weight.
    """
    cpu = torch.device("cpu")
    view = look_at(hu, grid, settings)
    small = crop(hu, view, settings, cpu, AIR_HU).round().clamp(-1024, 3071).to(torch.int16).numpy()
    shares = torch.stack([crop(labels == label, view, settings, cpu, 0) for label in range(1, settings.classes)], 1)
    seen = torch.cat([1 - shares.sum(1, keepdim=True), shares], 1).argmax(1).to(torch.uint8).numpy()
    head = np.flatnonzero(shows_head(torch.from_numpy(small), settings))
    kept = slice(head[0], head[-1] + 1) if len(head) else slice(None)
    voxel_ml = (grid.slice_weights_mm * settings.pixel_mm**2 / 1000).astype(np.float32)
    return {"hu": small[kept], "labels": seen[kept], "voxel_ml": voxel_ml[kept]}


def _render(source: Source, folder: Path, settings: Settings) -> Path:
    """Write one case as the network sees it, unless it is there."""
    path = folder / f"{source.name}.npz"
    if not path.is_file():
        make = variety.make_wide_case if source.varied else phantom.make_case
        case = make(source.seed, source.index)
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as stream:
            seen = as_seen(case.hu, case.labels, case.grid, settings)
            np.savez_compressed(stream, hu=seen["hu"], labels=seen["labels"], voxel_ml=seen["voxel_ml"])
        os.replace(temporary, path)
    return path


def render_slices(chosen: list[Source], folder: Path, settings: Settings, jobs: int = 1) -> Slices:
    """The slices of these cases; each case is rendered once and kept in `folder`.

    Parameters
    ----------
    folder : cache of one simulator version and one `settings`, as `cache_folder` names it.
    jobs : processes, -1 for one per core.
    """
    folder.mkdir(parents=True, exist_ok=True)
    work = joblib.Parallel(n_jobs=jobs, return_as="generator")(
        joblib.delayed(_render)(source, folder, settings) for source in chosen
    )
    paths = list(tqdm(work, total=len(chosen), desc="simulated cases", mininterval=20, ascii=True))
    lengths = []
    for path in paths:
        with np.load(path) as case:
            lengths.append(len(case["voxel_ml"]))
    starts = np.cumsum([0, *lengths])
    shape = (int(starts[-1]), settings.size, settings.size)
    # Thousands of cases: filled in place, since a list of them and its concatenation would need twice the memory.
    hu, labels = torch.empty(shape, dtype=torch.int16), torch.empty(shape, dtype=torch.uint8)
    voxel_ml = torch.empty(shape[0])
    for path, start, length in zip(paths, starts, lengths, strict=False):
        with np.load(path) as case:
            rows = slice(int(start), int(start) + length)
            hu[rows], labels[rows] = torch.from_numpy(case["hu"]), torch.from_numpy(case["labels"])
            voxel_ml[rows] = torch.from_numpy(case["voxel_ml"])
    neighbors = [neighbor_index(n, settings.neighbors) + int(s) for n, s in zip(lengths, starts, strict=False)]
    case_number = torch.from_numpy(np.repeat(np.arange(len(paths)), lengths))
    return Slices(hu, labels, torch.cat(neighbors), case_number, voxel_ml, tuple(source.name for source in chosen))


def cache_folder(root: Path, settings: Settings) -> Path:
    """Where rendered cases lie that one version of the simulators and one resolution make."""
    return root / f"v{phantom.VERSION}-{variety.VERSION}-{settings.size}-{settings.pixel_mm:g}mm"


def pretrain(
    out: Path,
    cache: Path,
    cases: int,
    validation_cases: int,
    recipe: Recipe,
    seed: int = 1,
    jobs: int = -1,
    start: Path | None = None,
) -> pd.DataFrame:
    """Simulate, train and write weights.safetensors, settings.json and training.csv into `out`.

    Parameters
    ----------
    cache : folder of rendered cases, about 1 MB each; what is there is not rendered again.
    seed : of the training cases; the validation cases have the next one.
    start : model folder whose weights the training goes on from.

    Returns
    -------
    The learning curve: step, loss, validation_dice, learning_rate.

    Raises
    ------
    ValueError
        The seeds reach the embedded cohort's, or there are too few cases to hold blood.
    """
    folder = cache_folder(cache, SETTINGS)
    validation = render_slices(sources(validation_cases, seed + 1), folder, SETTINGS, jobs)
    slices = render_slices(sources(cases, seed), folder, SETTINGS, jobs)
    for name, part in (("training", slices), ("validation", validation)):
        if not bool((part.labels > 0).any()):
            raise ValueError(f"none of the {len(part.case_ids)} {name} cases holds blood: take more")
    torch.set_num_threads(joblib.effective_n_jobs(jobs))
    torch.set_flush_denormal(True)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict] = []

    def report(row: dict) -> None:
        rows.append(row)
        pd.DataFrame(rows).to_csv(out / "training.csv", index=False)
        print("step {step:6d}  loss {loss:.3f}  validation Dice {validation_dice:.3f}".format(**row), flush=True)

    begun, settings, started_from = trained.begin(str(start or ""), SETTINGS)
    if replace(settings, **AFTERWARDS) != replace(SETTINGS, **AFTERWARDS):
        raise ValueError(f"{start}: {settings} is another network than {SETTINGS}")
    network, history = train.train(
        slices, validation, SETTINGS, recipe, report, checkpoint_file=out / "training.ckpt", start=begun
    )
    trained.keep(
        network,
        replace(SETTINGS, **AFTERWARDS),
        slices,
        validation,
        history,
        out,
        trained_on="simulated CT only (ich.variety and ich.phantom); no voxel of a real scan",
        simulated=True,
        recipe=vars(recipe),
        started_from=started_from,
        cases={"training": cases, "validation": validation_cases, "seed": seed, "embedded_share": EMBEDDED_SHARE},
        simulator={"phantom": phantom.VERSION, "variety": variety.VERSION},
    )
    (out / "training.ckpt").unlink(missing_ok=True)
    return history
