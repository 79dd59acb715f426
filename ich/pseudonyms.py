"""Pseudonyms of patients and cases: keyed hashes whose key stays outside every run folder."""

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from ich.atomic import locked, replacing

# Headings of columns that tell who somebody is, or are free text, where anything may stand. Cells are not judged.
TELLING = re.compile(
    r"(patients?|subjects?|full|first|last|family|given|maiden|middle|sur|fore|vor|nach)?_?names?|initials|dob|born"
    r"|.*(birth|geburt|address|adresse|telephone|telefon|e_?mail).*|(.*_)?(street|phone|mobile|mrn|ssn|nhs_number)"
    r"|.*(accession|insurance)(_?number)?|.*(comment|remark|note|free_?text|bemerkung)(s|en)?"
)
LOCK_WAIT_S = 10.0  # for the salt, which is made in no time
LENGTH = 10  # hexadecimal digits: two of 10,000 patients share a pseudonym with a chance of 1 in 22,000


def salt_file() -> Path:
    """Where the study's salt is kept: the environment's ICH_SALT_FILE, else ~/.config/ich/salt."""
    named = os.environ.get("ICH_SALT_FILE")
    return Path(named) if named else Path.home() / ".config" / "ich" / "salt"


def study_salt(run_dir: Path, path: Path | None = None) -> bytes:
    """The study's salt, made on first use and readable by its owner alone.

    Whoever has it can find out which pseudonym belongs to a known identifier, so it must not travel with a run.

    Raises
    ------
    ValueError
        The file lies inside the run folder, or holds fewer than 16 characters.
    TimeoutError
        Another process makes it and does not end.
    """
    path = (path or salt_file()).resolve()
    if path.is_relative_to(run_dir.resolve()):
        raise ValueError(f"salt {path.name}: lies inside the run folder, wanted a place that is not shared with it")
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f".{path.name}.lock"), f"salt {path.name}", LOCK_WAIT_S):
            if not path.is_file():  # else another process was first; its salt counts
                _write_private(path, secrets.token_hex(32) + "\n")
    salt = path.read_text(encoding="utf-8").strip().encode()
    if len(salt) < 16:
        raise ValueError(f"salt {path.name}: {len(salt)} characters, wanted at least 16")
    return salt


def _write_private(path: Path, text: str) -> None:
    with replacing(path) as part, os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def pseudonym(kind: str, identifier: str, salt: bytes) -> str:
    """`kind` and a keyed hash (HMAC-SHA-256) of the identifier: the same patient has the same one in every run."""
    digest = hmac.new(salt, f"{kind}:{identifier}".encode(), hashlib.sha256).hexdigest()
    return f"{kind}-{digest[:LENGTH]}"


def days_shifted(salt: bytes) -> int:
    """By how many days, up to ten years, the study's scan dates are moved back: order and intervals stay."""
    return 1 + int.from_bytes(hmac.new(salt, b"days", hashlib.sha256).digest()[:4]) % 3652


def tells_who(column: str) -> bool:
    """Whether the heading of a column is that of names, birth dates, addresses, record numbers or free text."""
    return TELLING.fullmatch(re.sub(r"\W+", "_", column.strip().lower()).strip("_")) is not None
