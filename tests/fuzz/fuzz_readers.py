"""Mutated small files through every reader: each must end as a valid result or an error of the project's own kind.

    make fuzz, or PYTHONPATH=tests python -m fuzz.fuzz_readers [INPUTS] [SEED] [OUT.csv]

Mutations are seeded, so that a finding can be had again: its reader, seed and number are printed.
"""

import csv
import gzip
import importlib.metadata
import io
import os
import platform
import random
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from made_dicom import image

from ich import tables
from ich.dicom import read_dicom_scan
from ich.measure import measure_mask
from ich.nifti import read_mask, write_mask
from ich.own_cases import from_manifest
from ich.scan import Scan, read_scan
from ich.sources import find_cases
from ich.study import read_profile

LIMIT_S = 5.0
STRANGE = [
    "",
    "0",
    "-1",
    "1e308",
    "nan",
    "inf",
    "=1+1",
    "../../x",
    "x" * 300,
    "\u202e患者",
    "\\",
    "'",
    '"',
    ",",
    "\n",
    "\t",
]
INTEGERS = [0, 1, -1, 127, 128, 255, 256, 32767, -32768, 65535, 2**31 - 1, -(2**31), 2**32 - 1]


@dataclass(frozen=True)
class Reader:
    """How one kind of input is made, changed and read."""

    name: str
    seeds: list[bytes]
    mutate: Callable[[random.Random, bytearray], bytes]
    read: Callable[[Path, bytes], object]
    share: float  # of all inputs


def mutate_header(length: int) -> Callable[[random.Random, bytearray], bytes]:
    """Change a few numbers within the first `length` bytes, now and then cut or pack the file."""

    def mutate(chance: random.Random, raw: bytearray) -> bytes:
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(min(length, len(raw)))
            kind = chance.randrange(4)
            if kind == 0:
                raw[at] = chance.randrange(256)
            elif kind == 1:
                raw[at] ^= 1 << chance.randrange(8)
            else:
                size = chance.choice((2, 4, 8))
                at -= at % 2
                new = (chance.choice(INTEGERS) % 2 ** (8 * size)).to_bytes(size, "little")
                if kind == 3:
                    new = np.array(chance.choice((0, -1, 1e-30, 1e30, np.nan, np.inf)), f"<f{max(size, 4)}").tobytes()
                raw[at : at + len(new)] = new
        if chance.random() < 0.05:
            del raw[chance.randrange(len(raw)) :]
        if chance.random() < 0.02:
            packed = gzip.compress(raw, 1)
            raw = bytearray(packed[: chance.randrange(2, len(packed) + 1)])
        return bytes(raw)

    return mutate


def mutate_text(chance: random.Random, raw: bytearray) -> bytes:
    """Change cells, lines and bytes of a text."""
    for _ in range(chance.randint(1, 3)):
        at, kind = chance.randrange(len(raw) + 1), chance.randrange(6)
        if kind == 0:
            raw[at:at] = chance.choice(STRANGE).encode()
        elif kind == 1:
            raw[at : at + chance.randrange(12)] = chance.choice(STRANGE).encode()
        elif kind == 2:
            raw[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 3:
            del raw[at : at + chance.randrange(20)]
        elif kind == 4:
            start = chance.randrange(len(raw) + 1)
            raw[at:at] = raw[start : start + chance.randrange(60)]
        else:
            raw[at:at] = chance.choice(
                (b"\r\n", b"\xef\xbb\xbf", b"!!python/name:os.system ", b"&a ", b"*a", b"{", b"[", b": ")
            )
    return bytes(raw)


def mutate_mask(chance: random.Random, raw: bytearray) -> bytes:
    """Other labels, shapes, spacing and shear: a mask file that is well formed."""
    shape = tuple(chance.choice((1, 1, 2, 3, 5, 9)) for _ in range(3))
    random_labels = np.random.default_rng(chance.getrandbits(32))
    labels = (random_labels.random(shape) < chance.choice((0, 0.02, 0.5, 1))) * random_labels.integers(0, 5, shape)
    affine = np.diag([chance.choice((0, 1e-3, 0.3, 0.5, -0.5, 5, 31, np.nan)) if chance.random() < 0.1 else
                      chance.choice((0.4, 0.5, -0.5, 5)) for _ in range(3)] + [1.0])  # fmt: skip
    if chance.random() < 0.3:
        affine[chance.randrange(3), chance.randrange(3)] += chance.choice((0.01, 0.3, -2, 1e9))
    if chance.random() < 0.3:
        affine[:, :3] = affine[:, chance.sample(range(3), 3)]
    made = nib.Nifti1Image(labels.astype(chance.choice((np.uint8, np.int16, np.float32))), None)
    made.header["sform_code"], made.header["srow_x"] = 1, affine[0]
    made.header["srow_y"], made.header["srow_z"] = affine[1], affine[2]
    return made.to_bytes()


def _nifti_seeds(folder: Path) -> list[bytes]:
    labels = np.zeros((6, 5, 4), np.uint8)
    labels[2:4, 1:4, 1:3] = 1
    plain = nib.Nifti1Image(labels, np.diag([0.5, 0.5, 5, 1])).to_bytes()
    second = nib.Nifti2Image(labels.astype(np.int16), np.diag([-0.5, 0.5, 5, 1])).to_bytes()
    (folder / "seed.nii").write_bytes(plain)
    _, grid = read_mask(folder / "seed.nii")
    write_mask(folder / "own.nii", labels, grid)
    return [plain, second, (folder / "own.nii").read_bytes()]


def _dicom_seeds() -> list[bytes]:
    made = []
    for k in range(4):
        stream = io.BytesIO()
        header = image(np.full((6, 8), 30, np.int16), [0.0, 0.0, 5.0 * k], k + 1, "1.2.826.0.1.3680043.8.498.1")
        header.save_as(stream, enforce_file_format=True)
        made.append(stream.getvalue())
    return made


def readers(folder: Path) -> list[Reader]:
    """Every reader with its seeds, files being kept below `folder`."""
    dicom = _dicom_seeds()
    for k, content in enumerate(dicom[1:], 1):
        (folder / "series").mkdir(exist_ok=True)
        (folder / "series" / f"{k}.dcm").write_bytes(content)
    (folder / "m.nii").write_bytes(_nifti_seeds(folder)[0])

    def in_file(name: str, read: Callable[[Path], object]) -> Callable[[Path, bytes], object]:
        def run(place: Path, content: bytes) -> object:
            (place / name).write_bytes(content)
            return read(place / name)

        return run

    def series(place: Path, content: bytes) -> object:
        (place / "series" / "0.dcm").write_bytes(content)
        return read_dicom_scan(place / "series")

    def measured(path: Path) -> object:
        return measure_mask(path)

    listed = b"case_id,patient_id,image,reference_mask,hemorrhage_type,scan_date,age,split\n" + b"".join(
        f"{n:03d},p{n},,m.nii,parenchymal,2020-01-0{n},6{n},train\n".encode() for n in range(1, 4)
    )
    table = b"case_id,patient_id,hemorrhage_type,reference_ml,network_ml,abc2_ml\n" + b"".join(
        f"{n:03d},p{n},mixed,{n}.5,{n}.25,{n}.75\n".encode() for n in range(1, 4)
    )
    profile = (
        b"title: A study\nnotebooks: [01_cohort, 04_agreement]\n"
        b"parameters:\n  n_cases: 9\n  04_agreement.margin_ml: 5.0\n"
        b"left_out:\n  02_training: no scans\nrequired: [masks]\nneeds_mb: 5\ntimeout_s: 60\n"
    )
    header = mutate_header(600)
    return [
        Reader("NIfTI scan", _nifti_seeds(folder), header, in_file("a.nii", read_scan), 0.24),
        Reader("NIfTI mask", _nifti_seeds(folder), header, in_file("b.nii", read_mask), 0.24),
        Reader("mask geometry", [b""], mutate_mask, in_file("c.nii", measured), 0.08),
        Reader("DICOM header", dicom[:1], mutate_header(len(dicom[0])), series, 0.14),
        Reader("manifest CSV", [listed], mutate_text, in_file("d.csv", lambda p: from_manifest(p, p.parent)), 0.10),
        Reader("source CSV", [listed], mutate_text, in_file("e.csv", lambda p: find_cases("manifest", p)), 0.04),
        Reader(
            "measurements CSV", [table], mutate_text, in_file("f.csv", lambda p: tables.read(p, "measurements")), 0.04
        ),
        Reader(
            "profile YAML", [profile], mutate_text, in_file("g.yaml", lambda p: read_profile(str(p), p.parent)), 0.12
        ),
    ]


def check_result(result: object) -> None:
    """What a reader has accepted must be usable; ArithmeticError where it is not."""
    grid = result.grid if isinstance(result, Scan) else result[1] if isinstance(result, tuple) else None
    if grid is None:
        return
    numbers = [*grid.spacing_mm, *grid.positions_mm, grid.tilt_deg, *grid.affine.ravel()]
    if not np.isfinite(numbers).all() or min(grid.spacing_mm) <= 0 or np.any(np.diff(grid.positions_mm) <= 0):
        raise ArithmeticError(f"grid that cannot be: {grid.spacing_mm}, {grid.positions_mm}")
    if isinstance(result, Scan) and not (result.hu.shape == grid.shape and np.isfinite(result.hu).all()):
        raise ArithmeticError("values that cannot be")


def judged(reader: Reader, folder: Path, content: bytes) -> tuple[str, str]:
    """What becomes of an input: accepted, refused or finding, and what was found; a hang is one."""
    begun = time.perf_counter()
    verdict, found = "accepted", ""
    try:
        check_result(reader.read(folder, content))
    except (ValueError, FileNotFoundError) as error:
        # numpy's, pandas' and Python's own say nothing of the file; the project's errors begin with its name.
        named = str(folder) in str(error) or any(word in str(error) for word in (".nii", ".csv", ".yaml"))
        verdict, found = ("refused", "") if named or str(error).startswith("Manifest: ") else ("finding", _line(error))
    except Exception as error:  # whatever else comes is what is looked for
        verdict, found = "finding", _line(error)
    took = time.perf_counter() - begun
    return ("finding", f"{took:.1f} s") if took > LIMIT_S else (verdict, found)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def peak_mb() -> int:
    """Most memory that this process has had, the libraries included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def fuzz(total: int, seed: int, folder: Path) -> tuple[list[dict], list[str]]:
    """Run `total` inputs over all readers; a row for each reader, and the findings."""
    rows, findings = [], []
    for reader in readers(folder):
        count = max(1, round(total * reader.share))
        counted = Counter(accepted=0, refused=0, finding=0)
        longest = 0.0
        for number in range(count):
            chance = random.Random(f"{seed} {reader.name} {number}")
            content = reader.mutate(chance, bytearray(chance.choice(reader.seeds)))
            begun = time.perf_counter()
            verdict, found = judged(reader, folder, content)
            longest = max(longest, time.perf_counter() - begun)
            counted[verdict] += 1
            if found:
                findings.append(f"{reader.name}, seed {seed}, input {number}: {found}")
        rows.append(
            {
                "reader": reader.name,
                "mutations": "seeded",
                "inputs": count,
                "accepted": counted["accepted"],
                "refused": counted["refused"],
                "findings": counted["finding"],
                "longest_s": round(longest, 3),
                "peak_mb": peak_mb(),
            }
        )
    return rows, findings


def versions() -> str:
    """Of Python and of the libraries that read."""
    names = ("nibabel", "pydicom", "pandas", "pyyaml", "numpy")
    found = [f"{name} {importlib.metadata.version(name)}" for name in names]
    return "; ".join([f"python {platform.python_version()}", *found])


def main(total: int = 110_000, seed: int = 1, out: str = "reports/checks/fuzz.csv") -> int:
    """Fuzz in memory, write the counts, print the findings; 1 if there are any."""
    warnings.simplefilter("ignore")
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        rows, findings = fuzz(total, seed, Path(folder))
    about = {"seed": seed, "versions": versions()}
    table = pd.DataFrame([{**row, **about} for row in rows])
    table.to_csv(out, index=False, quoting=csv.QUOTE_MINIMAL)
    print(table.drop(columns=list(about)).to_string(index=False))
    print(*findings[:60], sep="\n")
    print(f"{len(table)} readers, {table['inputs'].sum()} inputs, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(main(*(int(text) for text in given[:2]), *given[2:3]))
