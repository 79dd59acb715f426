"""The shipped weights: trained on simulated scans alone, four fifths of them far more varied than the embedded cohort.

`ich pretrain` makes them again. No voxel of a real scan takes part, neither in training nor in the choice of a step.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from ich import distributed, phantom, train, trained, variety
from ich.atomic import replacing
from ich.model import Settings, build_network, choose_device, load_weights
from ich.recipe import Recipe
from ich.training_slices import Seen, Slices, as_seen, joined

SETTINGS = Settings(pixel_mm=1.125, size=192, channels=(24, 48, 96, 160, 160), strides=(2, 2, 2, 2))
# How the trained network is used; chosen on simulated cases of the validation seed.
AFTERWARDS: dict = {"mirrored": True, "smallest_ml": 0.1, "certain_ml": 1.0, "certain": 0.9, "certain_beside": 0.8}
RECIPE = Recipe(
    steps=11000,
    batch_size=10,
    positive_share=0.5,
    hard_share=0.3,
    ema_decay=0.998,
    validate_every=1500,
    seed=1,
)
NOT_TESTED = (
    "patients with hemorrhage (two real heads without any were looked at), children, contrast, CT angiography, slices "
    "over 10 mm or under 1 mm, cone-beam CT, trauma, tumors and bleeds older than a few days"
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


def _render(source: Source, folder: Path, settings: Settings) -> Path:
    """Write one case as the network sees it, unless it is there."""
    path = folder / f"{source.name}.npz"
    if not path.is_file():
        make = variety.make_wide_case if source.varied else phantom.make_case
        case = make(source.seed, source.index)
        with replacing(path) as part, part.open("wb") as stream:
            seen = as_seen(case.hu, case.labels, case.grid, settings).of_the_head(settings)
            np.savez_compressed(stream, **vars(seen))
    return path


def render_slices(
    chosen: list[Source], folder: Path, settings: Settings, jobs: int = 1, device: torch.device | None = None
) -> Slices:
    """The slices of these cases; each case is rendered once and kept in `folder`.

    Parameters
    ----------
    folder : cache of one simulator version and one `settings`, as `cache_folder` names it.
    jobs : processes, -1 for one per core.
    device : where the slices are to lie, the first GPU where there is one unless given.
    """
    work = joblib.Parallel(n_jobs=jobs, return_as="generator")(
        joblib.delayed(_render)(source, folder, settings) for source in chosen
    )
    paths = list(tqdm(work, total=len(chosen), desc="simulated cases", mininterval=20, ascii=True))
    lengths = []
    for path in paths:
        with np.load(path) as case:
            lengths.append(len(case["voxel_ml"]))
    cases = (_read(path) for path in paths)
    return joined(cases, [source.name for source in chosen], lengths, settings, device or choose_device())


def _read(path: Path) -> Seen:
    with np.load(path) as case:
        return Seen(**{name: case[name] for name in case.files})


def cache_folder(root: Path, settings: Settings) -> Path:
    """Where rendered cases lie that one version of the simulators and one resolution make."""
    return root / f"v{phantom.VERSION}-{variety.VERSION}-{settings.size}-{settings.pixel_mm:g}mm-{settings.slab_mm:g}mm"


def pretrain(
    out: Path,
    cache: Path,
    cases: int,
    validation_cases: int,
    recipe: Recipe,
    seed: int = 1,
    jobs: int = -1,
    start: Path | None = None,
    settings: Settings | None = None,
) -> pd.DataFrame:
    """Simulate, train and write weights.safetensors, settings.json and training.csv into `out`.

    Alone, or as one of the processes that torchrun started: the first one renders, and writes what comes of it.

    Parameters
    ----------
    cache : folder of rendered cases, about 1 MB each; what is there is not rendered again.
    seed : of the training cases; the validation cases have the next one.
    start : model folder whose weights the training goes on from; its pixels may have another size.
    settings : of the network, `SETTINGS` unless given; how it is used afterwards is `AFTERWARDS`.

    Returns
    -------
    The learning curve: step, loss, validation_dice, learning_rate.

    Raises
    ------
    ValueError
        The seeds reach the embedded cohort's, there are too few cases to hold blood, or `start` is another network.
    """
    settings = settings or SETTINGS
    begun = trained.Start(None, settings, {})
    if start:
        network, of_start, card = load_weights(start, torch.device("cpu"))
        begun = trained.Start(network.state_dict(), of_start, card)
    if build_network(begun.settings).state_dict().keys() != build_network(settings).state_dict().keys():
        raise ValueError(f"{start}: {begun.settings} is another network than {settings}")
    folder = cache_folder(cache, settings)
    drawn = sources(validation_cases, seed + 1), sources(cases, seed)
    with distributed.joined() as device:
        first = distributed.share().rank == 0
        if not first:
            distributed.wait()  # until what is read now has been rendered
        validation, slices = (render_slices(each, folder, settings, jobs, device) for each in drawn)
        if first:
            distributed.wait()
        for name, part in (("training", slices), ("validation", validation)):
            if not bool((part.labels > 0).any()):
                raise ValueError(f"none of the {len(part.case_ids)} {name} cases holds blood: take more")
        torch.set_num_threads(joblib.effective_n_jobs(jobs))
        torch.set_flush_denormal(True)
        rows: list[dict] = []

        def report(row: dict) -> None:
            rows.append(row)
            with replacing(out / "training.csv") as part:
                pd.DataFrame(rows).to_csv(part, index=False)
            print("step {step:6d}  loss {loss:.3f}  validation Dice {validation_dice:.3f}".format(**row), flush=True)

        network, history = train.train(
            slices, validation, settings, recipe, report, checkpoint_file=out / "training.ckpt", start=begun.state
        )
        if not first:
            return history
        trained.keep(
            network,
            replace(settings, **AFTERWARDS),
            slices,
            validation,
            history,
            out,
            trained_on="simulated CT only (ich.variety and ich.phantom); no voxel of a real scan",
            not_tested=NOT_TESTED,
            simulated=True,
            recipe=vars(recipe),
            started_from=begun.card.get("sha256"),
            cases={"training": cases, "validation": validation_cases, "seed": seed, "embedded_share": EMBEDDED_SHARE},
            simulator={"phantom": phantom.VERSION, "variety": variety.VERSION},
        )
        (out / "training.ckpt").unlink(missing_ok=True)
        return history
