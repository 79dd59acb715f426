"""What every layout of scans and masks is read with, and the layouts that many tools share: nnU-Net raw data, BIDS."""

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pandas as pd

from ich import folders
from ich.label_names import EXTRA_AXIAL, name_kind
from ich.nifti import is_nifti
from ich.tables import LABELS

TABLE = "table or document of the dataset"
NO_IMAGE = "no scan was found for this mask"
NO_MASK = "no reference mask was found"
MEANING: dict[str, int | str] = {"blood": "unknown", **LABELS, EXTRA_AXIAL: "subdural"}
IMAGE_ENTITIES = ("sub", "ses", "acq", "ce", "rec", "run")


@dataclass
class Layout:
    """What a reader found below a root: cases, notes on the whole, DICOM files used, why others belong to no case."""

    rows: list[dict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    used: set[Path] = field(default_factory=set)
    reasons: dict[Path, str] = field(default_factory=dict)


def case_row(
    case_id: str, image: Path | None, mask: Path | None, *, need_image: bool = True, **known
) -> dict[str, object]:
    """One row of `Layout.rows`; what is not known is None, and a mask or needed scan that is missing is the reason."""
    names = ("files", "label_map", "hemorrhage_type", "scan_date", "site", "age", "sex", "split", "reason")
    row = (
        dict.fromkeys((*names, "second_mask"))
        | {"case_id": case_id, "patient_id": case_id, "extra_axial": False}
        | known
    )
    row["image"] = None if image is None else str(image)
    row["reference_mask"] = None if mask is None else str(mask)
    if isinstance(row["label_map"], dict):
        row["label_map"] = json.dumps(row["label_map"])
    missing = NO_MASK if mask is None else NO_IMAGE if image is None and need_image else None
    row["reason"] = row["reason"] or missing
    return row


def hidden(path: Path, root: Path) -> bool:
    """Whether a file, or a folder above it below `root`, is one of the operating system and not of the dataset."""
    place = path.relative_to(root)
    return folders.hidden(place) or "__MACOSX" in place.parts


def stem(path: Path) -> str:
    """Name of a NIfTI file without its ending."""
    return re.sub(r"(\.nii)?(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def nifti_files(folder: Path) -> dict[str, Path]:
    """NIfTI files of one folder by stem, without those that macOS leaves beside files it copies (`._<name>`).

    Raises
    ------
    ValueError : the same name stands there as .nii and as .nii.gz.
    """
    files = [p for p in sorted(folder.glob("*")) if is_nifti(p) and p.name[0] != "."]
    doubled = [name for name, count in Counter(map(stem, files)).items() if count > 1]
    if doubled:
        endings = " and as ".join(path.name.removeprefix(doubled[0]) for path in files if stem(path) == doubled[0])
        raise ValueError(f"{folder.name}: {doubled[0]} is there as {endings}, wanted one of them")
    return {stem(path): path for path in files}


def read_table(path: Path, wanted: tuple[str, ...], sep: str = ",") -> pd.DataFrame:
    """A table as text; line breaks in headings, blanks and stray quotes around fields are taken off.

    Raises
    ------
    ValueError : the table cannot be read, a wanted column is missing, or a quote in one is never closed.
    """
    try:
        table = pd.read_csv(path, dtype=str, sep=sep, encoding="utf-8-sig", encoding_errors="replace")
    except ValueError as error:  # among them pandas' errors of parsing, which do not name the file
        raise ValueError(f"{path.name}: not a table ({str(error).strip()})") from error
    table.columns = [" ".join(str(name).strip(" \"'").split()) for name in table.columns]
    found = {name.casefold(): name for name in table.columns}
    lacking = [name for name in wanted if name.casefold() not in found]
    if lacking:
        raise ValueError(f"{path.name}: no column {', '.join(lacking)}; found {', '.join(table.columns)}")
    table = table.rename(columns={found[name.casefold()]: name for name in wanted})
    for name in wanted:
        broken = table[name].str.contains("\n", na=False)
        if broken.any():
            line = int(broken.to_numpy().argmax()) + 2
            raise ValueError(f"{path.name}: column {name}: a quotation mark near line {line} is not closed")
    return table.apply(lambda column: column.str.strip().str.strip("\"'").str.strip()).replace("", None)


def folder_with(root: Path, *wanted: str) -> Path:
    """`root`, or the one folder nearest below it, that holds everything wanted.

    Raises
    ------
    ValueError : none does, or several.
    """
    folders = [root, *(p for p in sorted(root.rglob("*")) if p.is_dir() and not hidden(p, root))]
    holding = [folder for folder in folders if all((folder / name).exists() for name in wanted)]
    if not holding:
        found = ", ".join(sorted(p.name for p in root.iterdir())[:12]) if root.is_dir() else "no folder"
        raise ValueError(f"no folder here holds {' and '.join(wanted)}; found {found or 'nothing'}")
    depth = min(len(folder.parts) for folder in holding)
    nearest = [folder for folder in holding if len(folder.parts) == depth]
    if len(nearest) > 1:
        raise ValueError(f"{len(nearest)} folders hold {' and '.join(wanted)}: {', '.join(p.name for p in nearest)}")
    return nearest[0]


def deviations(what: str, found: set[str], documented: set[str]) -> list[str]:
    """A note if the names found are not those documented."""
    notes = [
        f"{word} {', '.join(sorted(names)[:10])}{', ...' if len(names) > 10 else ''}"
        for word, names in (("missing", documented - found), ("not documented", found - documented))
        if names
    ]
    return [f"{len(documented)} {what} documented, {len(found)} found: {'; '.join(notes)}"] if notes else []


def counted(what: str, found: int, documented: int) -> list[str]:
    """A note if the number found is not the one documented."""
    return [] if found == documented else [f"{documented} {what} documented, {found} found"]


def age_of(text: object) -> float | None:
    """Age in years as stated; None if it is no number of years from 0 to 120."""
    years = pd.to_numeric(text, errors="coerce") if isinstance(text, str) else None
    return float(years) if years is not None and 0 <= years <= 120 else None


def date_of(text: object) -> str | None:
    """The date (YYYY-MM-DD) that a text starts with, else None."""
    try:
        return date.fromisoformat(text[:10]).isoformat() if isinstance(text, str) else None
    except ValueError:
        return None


def sex_of(text: object) -> str | None:
    """F or M as stated, else None."""
    return {"f": "F", "female": "F", "m": "M", "male": "M"}.get(text.strip().lower()) if isinstance(text, str) else None


def nnunet(root: Path) -> Layout:
    """nnU-Net raw data (v2, or v1 with its reversed labels): imagesTr, labelsTr, and imagesTs where there is one."""
    folder = folder_with(root, "dataset.json", "imagesTr", "labelsTr")
    path = folder / "dataset.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        named, channels = about["labels"], about.get("channel_names") or about["modality"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name}: not JSON with labels and channel_names ({error})") from error
    if "dataset" in about:
        raise ValueError(f"{path.name} lists its files under 'dataset'; wanted them in imagesTr and labelsTr")
    ending = about.get("file_ending", ".nii.gz")
    if ending not in (".nii", ".nii.gz"):
        raise ValueError(f"{path.name}: file_ending is {ending!r}, wanted .nii or .nii.gz")
    meanings, notes = label_meanings(_value_names(named, path.name), path.name)
    channel = _ct_channel(channels, path.name)
    layout = Layout(notes=notes, reasons={path: TABLE})
    tested = any(nifti_files(folder / "labelsTs").values())
    for part, split in (("Tr", "train" if tested else None), ("Ts", "test")):
        masks = nifti_files(folder / f"labels{part}")
        images = {}
        for name, image in nifti_files(folder / f"images{part}").items():
            case, number = (name[:-5], name[-4:]) if re.search(r"_\d{4}$", name) else (name, channel)
            if number == channel:
                images[case] = image
            else:
                layout.reasons[image] = f"channel {number}, not the CT"
        for name in sorted({*images, *masks}):
            part_of = split if tested else None
            layout.rows.append(case_row(name, images.get(name), masks.get(name), label_map=meanings, split=part_of))
        if part == "Tr" and isinstance(about.get("numTraining"), int):
            layout.notes += counted("training cases", len({*images, *masks}), about["numTraining"])
    return layout


def _ct_channel(channels: dict, where: str) -> str:
    ct = [int(number) for number, name in channels.items() if re.search(r"\bct\b", str(name).lower().replace("_", " "))]
    if len(ct) != 1 and len(channels) != 1:
        named = ", ".join(map(str, channels.values()))
        raise ValueError(f"{where}: channels are {named}; wanted one of them called CT")
    return f"{ct[0] if ct else int(next(iter(channels))):04d}"


def _value_names(named: dict, where: str) -> list[tuple[int, str]]:
    """(value, name) of each label of a dataset.json; nnU-Net v1 wrote them the other way round."""
    if named and all(str(key).isdigit() for key in named):
        return [(int(value), str(name)) for value, name in named.items()]
    for name, value in named.items():
        if not isinstance(value, int):
            raise ValueError(f"{where}: label {name!r} is a region {value}; wanted labels of one value each")
    return [(value, name) for name, value in named.items()]


def label_meanings(named: list[tuple[int, str]], where: str) -> tuple[dict[str, int | str], list[str]]:
    """What each value of a mask means, from names such as "IVH", and notes; 0 is background.

    Raises
    ------
    ValueError : no name is one of blood, or some do not say what they are. A single one counts as blood of unknown
        type.
    """
    meanings: dict[str, int | str] = {}
    unclear = []
    for value, name in named:
        kind = name_kind(name)
        if value == 0 or kind == "ignore":
            meanings[str(value)] = 0
        elif kind in MEANING:
            meanings[str(value)] = MEANING[kind]
        elif name.lower() != "ignore":  # voxels that nobody judged: a mask that holds them cannot be measured
            unclear.append((value, name))
    if unclear and (len(unclear) > 1 or any(meanings.values()) or name_kind(unclear[0][1]) == "ambiguous"):
        names = ", ".join(f"{name!r} ({value})" for value, name in unclear)
        raise ValueError(f"{where}: labels {names} do not say what blood they are; wanted names such as IPH, IVH, SAH")
    if unclear:
        value, name = unclear[0]
        return meanings | {str(value): "unknown"}, [
            f"the only label, {name!r}, does not say what it is: taken for blood"
        ]
    if not any(meanings.values()):
        raise ValueError(f"{where}: labels {', '.join(name for _, name in named)} name no blood")
    return meanings, []


def bids(root: Path) -> Layout:
    """BIDS: sub-*/[ses-*/]ct/*_ct.nii.gz, masks in derivatives as *_mask or *_dseg with a table of labels."""
    images = [p for p in sorted(root.glob("sub-*/**/*")) if is_nifti(p) and stem(p).lower().endswith("_ct")]
    if not images:
        found = ", ".join(sorted(p.name for p in root.iterdir())[:12])
        raise ValueError(f"no sub-*/ct/sub-*_ct.nii.gz here; found {found or 'nothing'}")
    layout = Layout()
    masks = [
        p
        for p in sorted(root.glob("derivatives/**/sub-*"))
        if is_nifti(p) and stem(p).lower().endswith(("_mask", "_dseg"))
    ]
    blood = {mask: meant for mask in masks if (meant := _mask_meaning(mask, root, layout)) is not None}
    layout.reasons |= dict.fromkeys(blood, "mask of a scan that is not here")
    layout.notes = sorted(set(layout.notes))
    people = _participants(root, layout)
    drawn_on: dict[tuple, list[Path]] = defaultdict(list)
    for each in blood:
        drawn_on[_scan_of(each)].append(each)
    shifted = 0
    for image in images:
        entities, own = _entities(image), drawn_on[_scan_of(image)]
        subject = f"sub-{entities['sub']}"
        age, sex = people.get(subject, (None, None))
        acquired = _acquired(image, layout)
        if acquired is not None and acquired < "1925":  # BIDS: how shifted dates are marked
            acquired, shifted = None, shifted + 1
        known = {"patient_id": subject, "age": age, "sex": sex, "scan_date": acquired}
        if len(own) > 1:
            known["reason"] = f"{len(own)} reference masks were found, wanted one"
            layout.reasons |= dict.fromkeys(own, "one of several masks of the same scan")
        mask = own[0] if len(own) == 1 else None
        meanings = blood[mask] if mask else None
        if meanings == {}:
            known["reason"] = "no table (_dseg.tsv) says what the values of the mask are"
        layout.rows.append(case_row(stem(image)[: -len("_ct")], image, mask, label_map=meanings or None, **known))
    if shifted:
        layout.notes.append(f"{shifted} scan dates lie before 1925, which marks shifted dates: not used")
    return layout


def _entities(path: Path) -> dict[str, str]:
    parts = [part.partition("-") for part in stem(path).split("_")]
    return {name: value for name, dash, value in parts if dash}


def _scan_of(path: Path) -> tuple[str | None, ...]:
    """What tells one scan from another, the same for its masks."""
    entities = _entities(path)
    return tuple(entities.get(name) for name in IMAGE_ENTITIES)


def _mask_meaning(mask: Path, root: Path, layout: Layout) -> dict[str, int | str] | None:
    """What the values of a mask mean: {} if nothing tells, None if the file is no mask of blood on the scan's grid."""
    entities = _entities(mask)
    if "space" in entities:
        layout.reasons[mask] = f"mask in space {entities['space']}, wanted it on the scan"
        return None
    if stem(mask).lower().endswith("_dseg"):
        beside = mask.with_name(stem(mask) + ".tsv")
        above = [p for folder in mask.relative_to(root).parents for p in sorted((root / folder).glob("*dseg.tsv"))]
        shared = [p for p in above if "sub-" not in p.name]  # a table further up counts for all below it
        table = beside if beside.is_file() else shared[0] if shared else None
        if table is None:
            return {}
        rows = read_table(table, ("index", "name"), sep="\t").dropna(subset=["index", "name"])
        layout.reasons[table] = TABLE
        if not rows["index"].str.fullmatch(r"\d+").all():
            raise ValueError(f"{table.name}: column index holds values that are no whole numbers")
        return label_meanings(
            [(int(index), name) for index, name in zip(rows["index"], rows["name"], strict=True)], table.name
        )[0]
    said = [name_kind(entities[name]) for name in ("label", "desc") if name in entities]
    kinds = [kind for kind in said if kind != "unknown"]
    if not kinds:
        layout.notes.append(f"{_what(mask)} does not say what it holds: taken for blood of unknown type")
    kind = kinds[0] if kinds else "blood"
    if kind in MEANING:
        return {"1": MEANING[kind]}
    layout.reasons[mask] = "mask of something that is not blood, or of unclear name"
    return None


def _what(mask: Path) -> str:
    """Name of a kind of mask, the same for every subject."""
    return "_".join(part for part in stem(mask).split("_") if part.partition("-")[0] not in IMAGE_ENTITIES)


def _participants(root: Path, layout: Layout) -> dict[str, tuple]:
    path = root / "participants.tsv"
    if not path.is_file():
        layout.notes.append("participants.tsv is missing: age and sex are not known")
        return {}
    layout.reasons[path] = TABLE
    rows = read_table(path, ("participant_id",), sep="\t").to_dict("records")
    return {str(row["participant_id"]): (age_of(row.get("age")), sex_of(row.get("sex"))) for row in rows}


def _acquired(image: Path, layout: Layout) -> str | None:
    """Date of a scan as its *_scans.tsv states it."""
    folder = image.parent.parent
    for path in sorted(folder.glob("*_scans.tsv")):
        layout.reasons[path] = TABLE
        rows = read_table(path, ("filename", "acq_time"), sep="\t").to_dict("records")
        for row in rows:
            if row["filename"] == image.relative_to(folder).as_posix():
                return date_of(row["acq_time"])
    return None
