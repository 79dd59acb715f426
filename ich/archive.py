"""A run as one zip that describes itself (RO-Crate 1.1), and back without trusting the zip.

Scans, masks, weights and the key of pseudonyms stay where they are: an archive is made to be given away.
"""

import json
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ich.atomic import replacing
from ich.front_page import is_simulated
from ich.provenance import file_hash

PARTS = ("tables", "figures", "notebooks", "html")  # folders of a run that go into its archive
FILES = ("manifest.json", "settings.yaml")
METADATA = "ro-crate-metadata.json"
CONTEXT = "https://w3id.org/ro/crate/1.1"
MAX_MEMBERS = 20_000  # files in an archive; a study has some hundred
MAX_BYTES = 4 * 2**30  # unpacked size of an archive; a study has some ten MB
MAX_METADATA_BYTES = 64 * 2**20
EPOCH = (1980, 1, 1, 0, 0, 0)  # time stamp of every member: the same run gives the same zip
MEDIA_TYPES = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".yaml": "application/yaml",
    ".ipynb": "application/x-ipynb+json",
    ".html": "text/html",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".pdf": "application/pdf",
    ".tex": "application/x-tex",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}


def members(run: Path) -> list[str]:
    """Files of a run that an archive holds, as paths from the run folder with `/`, sorted; links are left out."""
    found = [name for name in FILES if (run / name).is_file()]
    for part in PARTS:
        found += [
            path.relative_to(run).as_posix()
            for path in (run / part).rglob("*")
            if path.is_file() and not path.is_symlink() and not path.name.startswith(".") and path.suffix != ".tmp"
        ]
    return sorted(found)


def write_archive(run: Path, out: Path, license_url: str = "") -> int:
    """Write the zip of a finished run in one step; returns how many files of the run are in it.

    Parameters
    ----------
    license_url : address of the license under which the run is given away; the metadata name none without it.

    Raises
    ------
    FileNotFoundError : the run has no manifest: it is not finished.
    """
    if not (run / "manifest.json").is_file():
        raise FileNotFoundError(f"run {run.name} has no manifest.json: only a finished run can be archived")
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    names = members(run)
    crate = json.dumps(_crate(run, manifest, names, license_url), indent=2, ensure_ascii=False) + "\n"
    with replacing(out) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_member(METADATA), crate)
        for name in names:
            archive.writestr(_member(name), (run / name).read_bytes())
    return len(names)


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    return info


def _crate(run: Path, manifest: dict, names: list[str], license_url: str) -> dict:
    """The metadata document: the run as a data set, its files, and the program that made them."""
    simulated = " All cases are simulated." if is_simulated(run) else ""
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": manifest["title"],
        "description": f"Run {manifest['run']} of the study workbook ich: tables, figures, executed notebooks, report. "
        f"Scans, masks and weights are not part of it.{simulated}",
        "datePublished": manifest["ended"],
        "hasPart": [{"@id": name} for name in names],
        "mentions": {"@id": "#run"},
    }
    if license_url:
        root["license"] = {"@id": license_url}
    program = {
        "@id": "#ich",
        "@type": "SoftwareApplication",
        "name": "ich",
        "softwareVersion": manifest["packages"].get("ich", ""),
        "version": manifest["code"]["commit"] or "",
    }
    action = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"profile {manifest['profile']}: {', '.join(manifest['notebooks'])}",
        "startTime": manifest["started"],
        "endTime": manifest["ended"],
        "instrument": {"@id": "#ich"},
        "result": {"@id": "./"},
    }
    about = {
        "@id": METADATA,
        "@type": "CreativeWork",
        "conformsTo": {"@id": CONTEXT},
        "about": {"@id": "./"},
    }
    license = [{"@id": license_url, "@type": "CreativeWork", "name": license_url}] if license_url else []
    files = [_file(run, name) for name in names]
    # The address of the term sha256 is that of the RO-Crate terms; schema.org's own came after version 1.1.
    context = [f"{CONTEXT}/context", {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}]
    return {"@context": context, "@graph": [about, root, program, action, *license, *files]}


def _file(run: Path, name: str) -> dict:
    path = run / name
    found = {
        "@id": name,
        "@type": "File",
        "name": path.name,
        "contentSize": str(path.stat().st_size),
        "sha256": file_hash(path),
    }
    kind = MEDIA_TYPES.get(path.suffix)
    return {**found, "encodingFormat": kind} if kind else found


def unpack(archive: Path, out: Path) -> list[str]:
    """Unpack a run's archive into the empty folder `out`; returns the names of the files.

    Nothing is written outside `out`, no link is made, and no more is written than the archive's list states.

    Raises
    ------
    ValueError
        Not a zip, damaged, or with a member that no archive of a run has; the member is named.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            found = zipped.infolist()
            _check_list(archive.name, found)
            for info in found:
                if not info.is_dir():
                    _extract(archive.name, zipped, info, out)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{archive.name}: not a zip that can be read ({error})") from error
    return [info.filename for info in found if not info.is_dir()]


def _check_list(archive: str, found: list[zipfile.ZipInfo]) -> None:
    if len(found) > MAX_MEMBERS:
        raise ValueError(f"{archive}: holds {len(found)} files, wanted at most {MAX_MEMBERS}")
    size = sum(info.file_size for info in found)
    if size > MAX_BYTES:
        raise ValueError(f"{archive}: states {size} bytes unpacked, wanted at most {MAX_BYTES}")
    seen: set[str] = set()
    for info in found:
        name = info.filename
        if not is_inside(name):
            raise ValueError(f"{archive}: member {name!r} leads out of the archive")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ValueError(f"{archive}: member {name!r} is a link or device, wanted files")
        if name.casefold() in seen:
            raise ValueError(f"{archive}: member {name!r} is there twice")
        seen.add(name.casefold())


def is_inside(name: str) -> bool:
    """Whether a path with `/` stays in the folder that it starts from, on any system."""
    parts = PurePosixPath(name).parts
    strange = any(sign in name for sign in ("\\", ":", "\0"))
    return bool(parts) and not strange and not name.startswith("/") and ".." not in parts


def _extract(archive: str, zipped: zipfile.ZipFile, info: zipfile.ZipInfo, out: Path) -> None:
    """One member to its file; stops where there is more in it than its entry states."""
    path = out / info.filename
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with zipped.open(info) as source, path.open("xb") as target:
        while piece := source.read(2**20):
            written += len(piece)
            if written > info.file_size:
                raise ValueError(f"{archive}: member {info.filename!r} holds more than its {info.file_size} bytes")
            target.write(piece)
    if written != info.file_size:
        raise ValueError(f"{archive}: member {info.filename!r} holds {written} bytes, its entry {info.file_size}")


def crate_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file that the metadata of an unpacked archive describe, by name.

    Raises
    ------
    ValueError : the metadata are missing or no RO-Crate.
    """
    path = folder / METADATA
    if not path.is_file() or path.stat().st_size > MAX_METADATA_BYTES:
        raise ValueError(f"{METADATA} is not there: not the archive of a run")
    try:
        graph = json.loads(path.read_text(encoding="utf-8"))["@graph"]
        return {each["@id"]: each["sha256"] for each in graph if each.get("@type") == "File"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{METADATA}: not the metadata of a run's archive ({type(error).__name__})") from error
