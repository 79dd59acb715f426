"""What a network's probabilities are worth: temperature, reliability, and an interval of the volume.

Everything is fitted on the validation split and checked on the test split.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar

from ich.components import drop_specks
from ich.gpu import free_bytes
from ich.model import Settings, blood_probability, channels, largest, logits_of
from ich.resampling import patient_numbers
from ich.training_slices import Slices
from ich.validation import AT_ONCE, FALSE_ML, case_volumes

AT_STAKE = 0.01  # reliability is that of voxels more likely to be blood than this: the others are air, bone and brain
OFFSET_ML = 0.5  # added to every uncertain volume: where a network doubts nothing, outlines still differ a little
SMALLEST_ML = (0.0, 0.02, 0.05, 0.1, 0.2)
HOTTEST = 10.0
N_BINS = 10
RELIABILITY_COLUMNS = ["low", "high", "n", "blood", "probability", "share"]


@torch.inference_mode()
def calibrate(
    network: torch.nn.Module, slices: Slices, settings: Settings, level: float = 0.9
) -> tuple[Settings, dict]:
    """Temperature and volume interval from a validation split.

    Returns
    -------
    settings : with the temperature found, and with `smallest_ml` where they have no rule of certainty (`certain_ml`).
    calibration : of `volume_calibration`, for masks made with these settings, whose volume is that at the network's
        resolution; references count as they are where `slices` know it.
    """
    # Filled in place, as a list and its concatenation would take the memory twice; on the device where that has room.
    shape = (len(slices.hu), settings.classes, settings.size, settings.size)
    where = slices.device if 2 * math.prod(shape) < free_bytes(slices.device) / 2 else torch.device("cpu")
    logits, filled = torch.empty(shape, dtype=torch.float16, device=where), 0
    for stack in slices.hu_batches(AT_ONCE):
        logits[filled : filled + len(stack)] = logits_of(network, channels(stack, settings), settings)
        filled += len(stack)
    blood = (slices.labels > 0).to(where)
    settings = replace(settings, temperature=fit_temperature(logits, blood))
    found = torch.cat([largest(part) for part in logits.split(AT_ONCE)]).cpu().numpy()
    probability = torch.cat([blood_probability(part.float(), settings).half().cpu() for part in logits.split(AT_ONCE)])
    doubts = torch.cat([doubt(part.float()) for part in probability.split(AT_ONCE)])
    case, voxel_ml = slices.case.cpu(), slices.voxel_ml.cpu()
    uncertain = doubts * voxel_ml
    if _chooses_smallest(settings):
        settings = replace(settings, smallest_ml=choose_smallest(found, slices))
    predicted_ml, uncertain_ml = [], []
    for number in range(len(slices.case_ids)):
        mine = case == number
        mask, ml = np.moveaxis(found[mine.numpy()], 0, -1), voxel_ml[mine].numpy()
        if settings.smallest_ml > 0 or settings.certain_ml > 0:
            sure = np.moveaxis(probability[mine].numpy(), 0, -1)
            drop_specks(
                mask, ml, settings.smallest_ml, sure, settings.certain_ml, settings.certain, settings.certain_beside
            )
        predicted_ml.append(float(np.count_nonzero(mask, axis=(0, 1)) @ ml))
        uncertain_ml.append(float(uncertain[mine].sum()))
    measured = slices.reference_ml
    reference_ml = case_volumes(slices.labels, slices).cpu().numpy() if measured is None else np.array(measured)
    known = reference_ml, np.array(predicted_ml), np.array(uncertain_ml)
    return settings, volume_calibration(*known, level, slices.patients)


def uncalibrated(settings: Settings) -> Settings:
    """Settings without what `calibrate` finds."""
    smallest_ml = 0.0 if _chooses_smallest(settings) else settings.smallest_ml
    return replace(settings, temperature=1.0, smallest_ml=smallest_ml)


def _chooses_smallest(settings: Settings) -> bool:
    return settings.certain_ml == 0


def choose_smallest(found: np.ndarray, slices: Slices) -> float:
    """Volume in ml, of `SMALLEST_ML`, below which connected blood is best not marked; the least of equally good ones.

    Best is the highest mean over cases of Dice of blood; a case without blood scores as in `ich.validation.validate`.

    Parameters
    ----------
    found : (N, H, W) labels that a network gives the slices, none dropped.
    """
    case, voxel_ml = slices.case.cpu().numpy(), slices.voxel_ml.cpu().numpy()
    blood = (slices.labels > 0).cpu().numpy()
    scores = np.zeros((len(slices.case_ids), len(SMALLEST_ML)))
    for number in range(len(slices.case_ids)):
        mine = case == number
        reference, ml = np.moveaxis(blood[mine], 0, -1), voxel_ml[mine]
        for column, smallest in enumerate(SMALLEST_ML):
            mask = np.moveaxis(found[mine], 0, -1).copy()
            drop_specks(mask, ml, smallest)
            if reference.any():
                both, either = np.count_nonzero((mask > 0) & reference), np.count_nonzero(mask) + reference.sum()
                scores[number, column] = 2 * both / either
            else:
                scores[number, column] = FALSE_ML / (FALSE_ML + np.count_nonzero(mask, axis=(0, 1)) @ ml)
    return SMALLEST_ML[int(scores.mean(0).argmax())]


def fit_temperature(logits: torch.Tensor, blood: torch.Tensor) -> float:
    """Factor that logits are divided by so that the probability of blood has the least negative log-likelihood.

    Every pixel counts: fitted to the doubtful ones alone, a temperature would make all of the brain a little doubtful.

    Parameters
    ----------
    logits : (N, classes, H, W), background first. blood : (N, H, W) bool.

    Source: temperature scaling, Guo et al., ICML 2017, here of blood against background. It changes no mask.
    """
    if not bool(blood.any()) or bool(blood.all()):
        return 1.0  # nothing to tell apart

    def loss(log_temperature: float) -> float:
        total = torch.zeros((), dtype=torch.float64, device=logits.device)
        for part, target in zip(logits.split(AT_ONCE), blood.split(AT_ONCE), strict=True):
            scaled = part.float() / math.exp(log_temperature)
            logit = scaled[:, 1:].logsumexp(1) - scaled[:, 0]
            total += F.binary_cross_entropy_with_logits(logit, target.float(), reduction="sum")
        return float(total)

    span = math.log(HOTTEST)
    return round(math.exp(minimize_scalar(loss, bounds=(-span, span), method="bounded", options={"xatol": 1e-3}).x), 3)


def doubt(probability: torch.Tensor) -> torch.Tensor:
    """(N,) sum over pixels of p (1 - p), the variance of a pixel that is blood with probability p, of (N, H, W)."""
    return (probability * (1 - probability)).flatten(1).sum(1)


def volume_calibration(
    reference_ml: np.ndarray,
    predicted_ml: np.ndarray,
    uncertain_ml: np.ndarray,
    level: float = 0.9,
    patients: Sequence[str] | None = None,
) -> dict:
    """Conformal half-width of the volume interval, in units of (uncertain volume + 0.5 ml).

    Parameters
    ----------
    patients : whose each of the n scans is; without it every scan is of another patient.

    Returns
    -------
    level, n (scans), n_patients, factor (None where there are too few patients for this level), unit.

    Source: Lei et al., JASA 2018;113:1094, split conformal with residuals scaled by a difficulty estimate; the
    difficulty here is the uncertain volume, the sum over voxels of p (1 - p) times their volume. Scans of one patient
    are not exchangeable with those of others: each of K patients weighs 1 / (K + 1), shared by the patient's scans, and
    the factor is the smallest score up to which the weights add up to the level (Lee, Barber & Willett,
    arXiv:2306.06342, hierarchical conformal prediction). With a scan each, that is the ceil((n + 1) * level)-th score.
    """
    scores = np.abs(np.asarray(reference_ml) - predicted_ml) / (np.asarray(uncertain_ml) + OFFSET_ML)
    owner = np.arange(len(scores)) if patients is None else patient_numbers(patients, len(scores))
    scans = np.bincount(owner)
    order = np.argsort(scores)
    reached = np.cumsum(1 / scans[owner[order]]) / (len(scans) + 1)
    enough = np.flatnonzero(reached >= level - 1e-9)
    factor = float(scores[order[enough[0]]]) if len(enough) else None
    return {
        "level": level, "n": len(scores), "n_patients": len(scans), "factor": factor,
        "unit": f"uncertain volume + {OFFSET_ML:g} ml",
    }  # fmt: skip


def half_width_ml(uncertain_ml: float, calibration: dict) -> float | None:
    """Half-width of the interval of a volume; None where the validation split was too small for one."""
    return None if calibration["factor"] is None else calibration["factor"] * (uncertain_ml + OFFSET_ML)


def volume_interval(volume_ml: float, uncertain_ml: float, calibration: dict) -> tuple[float, float] | None:
    """Split conformal prediction interval of a volume in ml; None where the validation split was too small for one.

    `calibration` is what `volume_calibration` returned.
    """
    half = half_width_ml(uncertain_ml, calibration)
    return None if half is None else (max(0.0, volume_ml - half), volume_ml + half)


def count_bins(probability: np.ndarray, blood: np.ndarray) -> pd.DataFrame:
    """Voxels at stake, with over 1 % probability of blood, by that probability, of one case.

    Parameters
    ----------
    probability, blood : probability of blood and reference, of one shape.

    Returns
    -------
    Ten rows: low, high, n voxels, how many of them are blood, and the sum of their probabilities.
    """
    at_stake = probability > AT_STAKE
    p, y = probability[at_stake].astype(float), blood[at_stake]
    number = np.minimum((p * N_BINS).astype(int), N_BINS - 1)
    edges = np.linspace(0, 1, N_BINS + 1)
    counts = {
        name: np.bincount(number, weights, N_BINS) for name, weights in (("n", None), ("blood", y), ("probability", p))
    }
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], **counts})


def reliability(cases: list[pd.DataFrame]) -> pd.DataFrame:
    """Mean probability and share of blood of each bin over the `count_bins` of all cases, every voxel counting once.

    Returns
    -------
    low, high, n, blood, probability (mean), share (of blood); the latter two are missing in an empty bin.
    """
    if not cases:
        return pd.DataFrame(columns=RELIABILITY_COLUMNS, dtype=float)
    summed = pd.concat(cases).groupby(["low", "high"], as_index=False)[["n", "blood", "probability"]].sum()
    n = summed["n"].where(summed["n"] > 0)
    return summed.assign(probability=summed["probability"] / n, share=summed["blood"] / n)[RELIABILITY_COLUMNS]


def calibration_error(bins: pd.DataFrame) -> float:
    """Expected calibration error of a `reliability` table, 0..1: mean over voxels of |probability - share|.

    Source: Naeini et al., AAAI 2015, with ten bins of equal width, over the voxels at stake.
    """
    known = bins.dropna()
    return (
        float(np.average(np.abs(known["probability"] - known["share"]), weights=known["n"])) if len(known) else np.nan
    )
