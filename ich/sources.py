"""Datasets that a cohort can be made of: for each, where it comes from, the folders it is read from, and its cases.

A reader never guesses: what a dataset does not say stays empty, what it says twice and differently is a reason to leave
the case out, and every file that belongs to no case is listed with the reason.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ich import datasets, layouts
from ich.dicom_tree import chosen_series, dicom_tree, files_of
from ich.folders import files_below, real_path
from ich.layouts import TABLE, Layout, age_of, case_row, date_of, hidden, sex_of
from ich.own_cases import from_folders, from_manifest

COLUMNS = [
    "case_id",
    "patient_id",
    "image",  # NIfTI file or folder of DICOM files
    "files",  # of the DICOM series in that folder
    "reference_mask",
    "second_mask",  # a second reader's, in the same values
    "label_map",  # JSON: value of the mask to 0..3, "subdural", "epidural" or "unknown"
    "hemorrhage_type",
    "scan_date",
    "site",
    "age",  # years
    "sex",
    "split",
    "extra_axial",  # whether the dataset states subdural or epidural blood
    "reason",
]
OWN = "your own data"
OTHER_FILE = "not part of the layout"


@dataclass(frozen=True)
class Kind:
    """A kind of dataset, as the command line calls it."""

    name: str
    title: str
    layout: str
    citation: str  # empty for data that nobody has published
    license: str
    obtained: str
    public_ids: bool  # identifiers are published with the dataset and need no pseudonym
    read: Callable[[Path], Layout]
    simulated: bool = False


@dataclass(frozen=True, eq=False)
class Found:
    """Cases of a dataset, the files that belong to none, and what a report must say about the whole."""

    kind: Kind
    cases: pd.DataFrame
    left_out: pd.DataFrame  # file, from the root, and reason
    notes: tuple[str, ...]


def find_cases(kind: str, root: Path) -> Found:
    """The cases of a dataset below `root`, nothing read but headers and tables.

    Returns
    -------
    cases with `COLUMNS`, all there; `reason` says why a case cannot be used. `left_out` has every other file.

    Raises
    ------
    ValueError
        The kind is unknown; the root, a folder or a file of the layout is missing; no case is there. Says what was
        found, what was wanted and where the dataset is obtained.
    """
    if kind not in KINDS:
        raise ValueError(f"kind of dataset {kind!r} is not known, wanted one of {', '.join(KINDS)}")
    chosen, root = KINDS[kind], Path(root)
    wanted = f"Wanted: {chosen.layout} Obtained from {chosen.obtained}."
    if not root.exists():
        raise ValueError(f"{chosen.title}: {root}: no such file or folder. {wanted}")
    try:
        layout = chosen.read(root)
    except ValueError as error:
        raise ValueError(f"{chosen.title}: {error}. {wanted}") from error
    if not layout.rows:
        raise ValueError(f"{chosen.title}: {root.name}: no case at all. {wanted}")
    cases = pd.DataFrame(layout.rows, columns=COLUMNS, dtype=object)
    cases = cases.where(cases.notna(), None).astype({"extra_axial": bool})
    doubled = cases.loc[cases["case_id"].duplicated(), "case_id"]
    if len(doubled):
        raise ValueError(f"{chosen.title}: case {doubled.iloc[0]} is there more than once")
    return Found(chosen, cases, _left_out(layout, root), tuple(layout.notes))


def _left_out(layout: Layout, root: Path) -> pd.DataFrame:
    """Every file below `root` that no case uses, with the reason; of a manifest, the files beside those it names."""
    named = {Path(row[name]) for row in layout.rows for name in ("image", "reference_mask", "second_mask") if row[name]}
    used = {real_path(path) for path in (*named, *layout.used)}
    base = root if root.is_dir() else root.parent
    paths = set(files_below(base)) if root.is_dir() else {root}
    if not root.is_dir():
        folders = {path.parent for path in (*named, *layout.used) if path.is_relative_to(base)}
        paths |= {path for folder in folders for path in folder.iterdir()}
    rows = []
    for path in sorted(paths):
        if (path.is_file() or path.is_symlink()) and real_path(path) not in used:
            system = "hidden file of the operating system" if hidden(path, base) else None
            reason = system or layout.reasons.get(path, OTHER_FILE)
            rows.append({"file": path.relative_to(base).as_posix(), "reason": reason})
    return pd.DataFrame(rows, columns=["file", "reason"])


def _manifest(root: Path) -> Layout:
    """Cases that a CSV lists; its paths are from its folder."""
    if root.is_dir():
        raise ValueError(f"{root.name} is a folder, wanted the CSV file itself")
    frame = from_manifest(root, root.parent)
    layout = _listed(frame, root.parent, {root: TABLE})
    own = [str(name) for name in frame if name not in (*COLUMNS, "series", "source", "simulated")]
    if own:
        layout.notes.append(f"columns not taken in, as a pseudonymous cohort has known ones alone: {', '.join(own)}")
    return layout


def _folders(root: Path) -> Layout:
    """Masks, and scans of the same names, in two folders."""
    folder = layouts.folder_with(root, "masks")
    images, about = folder / "images", folder / "scans.csv"
    frame = from_folders(
        folder / "masks", images if images.is_dir() else None, folder, about if about.is_file() else None
    )
    return _listed(frame, folder, {about: TABLE, folder / "masks" / "scans.csv": TABLE})


def _phantom(root: Path) -> Layout:
    """Simulated cases as `ich phantom` writes them."""
    folder = layouts.folder_with(root, "cases.csv", "images", "masks")
    layout = _listed(from_manifest(folder / "cases.csv", folder), folder, {folder / "cases.csv": TABLE})
    layout.reasons |= dict.fromkeys((folder / "rows").glob("*"), "record of how a case was simulated")
    layout.notes.append("the cases are simulated: they are no patients")
    return layout


def _listed(frame: pd.DataFrame, base: Path, reasons: dict[Path, str]) -> Layout:
    """Cases of a table whose paths are from `base`; files it names that are not there are the reason."""
    layout = Layout(reasons=reasons, notes=list(frame.attrs.get("notes", ())))
    for listed in frame.astype(object).where(frame.notna(), None).to_dict("records"):
        image, mask = (_path(listed.get(name), base) for name in ("image", "reference_mask"))
        reason = _missing(image, "scan") or _missing(mask, "reference mask")
        second, files = _there(_path(listed.get("second_mask"), base)), None
        if image is not None and os.path.isdir(image):
            chosen, problem, others = chosen_series(image, listed.get("series"))
            files, reason = (tuple(sorted(files_of(chosen))) if chosen else None), reason or problem
            layout.reasons |= others
            layout.used |= files_of(chosen) if chosen else set()
            image = image if chosen else None
        names = ("hemorrhage_type", "site", "split")
        known = {name: listed.get(name) for name in (*names, "patient_id")}
        known |= {"age": age_of(listed.get("age")), "sex": sex_of(listed.get("sex")), "files": files}
        known |= {"scan_date": date_of(listed.get("scan_date")), "second_mask": second and str(second)}
        layout.rows.append(
            case_row(listed["case_id"], _there(image), _there(mask), need_image=False, reason=reason, **known)
        )
    stated = frame["scan_date"].notna().sum() if "scan_date" in frame else 0
    unread = int(stated) - sum(row["scan_date"] is not None for row in layout.rows)
    if unread:
        layout.notes.append(f"{unread} scan dates are not of the form YYYY-MM-DD: not used")
    return layout


def _path(text: str | None, base: Path) -> Path | None:
    return None if text is None else Path(os.path.normpath(base / text))


def _missing(path: Path | None, what: str) -> str | None:
    return f"the {what} that is named is not there" if path is not None and not os.path.exists(path) else None


def _there(path: Path | None) -> Path | None:
    return path if path is not None and os.path.exists(path) else None  # Path.exists fails on too long a name


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "physionet",
            "PhysioNet CT-ICH 1.3.1",
            "ct_scans/049.nii to 130.nii, masks/ of the same names, hemorrhage_diagnosis_raw_ct.csv, and "
            "Patient_demographics.csv (how it encodes types is taken from programs that read it).",
            "Hssayeni M. Computed Tomography Images for Intracranial Hemorrhage Detection and Segmentation, version "
            "1.3.1. PhysioNet 2020, doi:10.13026/4nae-zg36; Hssayeni MD et al. Data 2020;5(1):14",
            "PhysioNet Restricted Health Data License 1.5.0",
            "https://physionet.org/content/ct-ich/1.3.1/ after signing the data use agreement",
            True,
            datasets.physionet,
        ),
        Kind(
            "instance",
            "INSTANCE 2022",
            "train_2/data/001.nii.gz to 100.nii.gz and train_2/label/ of the same names, 1 being blood of any type.",
            "Li X et al. The state-of-the-art 3D anisotropic intracranial hemorrhage segmentation on non-contrast head "
            "CT: the INSTANCE challenge. arXiv:2301.03281",
            "CC BY-NC-ND, for the challenge only unless its organizers allow more",
            "https://instance.grand-challenge.org/Dataset/ after registration",
            True,
            datasets.instance,
        ),
        Kind(
            "bhsd",
            "BHSD",
            "label_192/images/ID_<patient>_ID_<study>.nii.gz and 'label_192/ground truths' of the same names: 1 "
            "epidural, 2 parenchymal, 3 ventricular, 4 subarachnoid, 5 subdural.",
            "Wu B et al. BHSD: a 3D multi-class brain hemorrhage segmentation dataset. MLMI 2023, "
            "doi:10.1007/978-3-031-45673-2_15",
            "MIT; the scans are of the RSNA 2019 hemorrhage challenge, whose terms hold too",
            "https://huggingface.co/datasets/WuBiao/BHSD (label_192.zip)",
            True,
            datasets.bhsd,
        ),
        Kind(
            "mbh-seg",
            "MBH-Seg",
            "of 2025, MBH_Train_2025_voxel-label/<case>/image.nii.gz and label_annot_<n>.nii.gz; of 2024, "
            "MBH_train_label/imagesTr and labelsTr; values as BHSD's. Read from programs that use the data, as the "
            "organizers' own description was not at hand.",
            "Wang D et al. MICCAI2025 MBH-Seg Challenge. Zenodo 2025, doi:10.5281/zenodo.15094748",
            "MIT; the scans are of the RSNA 2019 hemorrhage challenge, whose terms hold too",
            "https://huggingface.co/datasets/mbhseg (mbhseg24, mbhseg25)",
            True,
            datasets.mbh_seg,
        ),
        Kind(
            "cq500",
            "Seg-CQ500",
            "data/volumes/info.csv with columns name, IPH, IVH, SAH, SDH, EDH (probabilities), and for each name "
            "data/volumes/CQ500-CT-<n>/CT.nii with ICH_mask.nii.gz. The names of the five columns of types and their "
            "threshold of 0.5 are not from a description of the dataset: compare them with your copy.",
            "Spahr A et al. Label-efficient deep semantic segmentation of intracranial hemorrhages in CT-scans. "
            "Frontiers in Neuroimaging 2023; scans of CQ500, Chilamkurthy S et al. Lancet 2018;392:2388-96",
            "CC BY-NC-SA 4.0 (that of CQ500)",
            "https://zenodo.org/records/8063221 (Seg-CQ500.zip)",
            True,
            datasets.cq500,
        ),
        Kind(
            "nnunet",
            "nnU-Net raw data",
            "dataset.json with labels whose names say what blood they are, imagesTr/<case>_0000.nii.gz, "
            "labelsTr/<case>.nii.gz, and imagesTs with labelsTs if there are any.",
            "Isensee F et al. nnU-Net. Nature Methods 2021;18:203-11",
            "that of the data",
            OWN,
            False,
            layouts.nnunet,
        ),
        Kind(
            "bids",
            "BIDS",
            "sub-<s>/[ses-<t>/]ct/sub-<s>[_ses-<t>]_ct.nii.gz and below derivatives/ its *_dseg.nii.gz with a table "
            "*_dseg.tsv (index, name), or one *_mask.nii.gz whose label- or desc- says what blood it is. BIDS has no "
            "final rule for CT yet (proposal BEP024).",
            "Gorgolewski KJ et al. The brain imaging data structure. Scientific Data 2016;3:160044",
            "that of the data",
            OWN,
            False,
            layouts.bids,
        ),
        Kind(
            "manifest",
            "Manifest",
            "a CSV with case_id and reference_mask, and optionally image, series, patient_id, scan_date, "
            "hemorrhage_type, site, age, sex, split, second_mask; paths are from the CSV's folder.",
            "",
            "that of the data",
            OWN,
            False,
            _manifest,
        ),
        Kind(
            "folders",
            "Two folders",
            "masks/<case>.nii.gz with images/<case>.nii.gz, images/<case>_0000.nii.gz or a DICOM folder images/<case>, "
            "and optionally scans.csv (case_id, patient_id, hemorrhage_type, scan_date).",
            "",
            "that of the data",
            OWN,
            False,
            _folders,
        ),
        Kind(
            "dicom",
            "DICOM files",
            "one tree of DICOM files with the masks as SEG or RTSTRUCT in it, or as NIfTI files named as the folder "
            "that holds the series.",
            "",
            "that of the data",
            OWN,
            False,
            dicom_tree,
        ),
        Kind(
            "phantom",
            "Simulated cases",
            "cases.csv, images/, masks/ and second_reader/ as `ich phantom` writes them.",
            "",
            "that of this package",
            "`ich phantom --out DIR`",
            True,
            _phantom,
            simulated=True,
        ),
    )
}
