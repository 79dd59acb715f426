"""Pseudonyms are keyed, stable, and the key stays out of the run."""

import hashlib
import hmac
import secrets
import stat
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ich.pseudonyms import pseudonym, salt_file, study_salt, tells_who


def test_pseudonym_is_the_keyed_hash():
    salt = b"0123456789abcdef"
    expected = hmac.digest(salt, b"patient:Jane Doe", hashlib.sha256).hex()[:10]
    assert pseudonym("patient", "Jane Doe", salt) == f"patient-{expected}"
    assert pseudonym("patient", "Jane Doe", b"another salt, longer") != f"patient-{expected}"
    assert pseudonym("case", "Jane Doe", salt) != f"case-{expected}"


def test_salt_is_made_once_for_its_owner_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("ICH_SALT_FILE", str(tmp_path / "keys" / "salt"))
    first = study_salt(tmp_path / "run")
    assert len(first) == 64
    assert study_salt(tmp_path / "other run") == first
    assert stat.S_IMODE(salt_file().stat().st_mode) == 0o600


def test_two_that_make_the_salt_at_once_have_the_same(tmp_path, monkeypatch):
    real = secrets.token_hex
    monkeypatch.setattr(secrets, "token_hex", lambda length: time.sleep(0.2) or real(length))
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda run: study_salt(tmp_path / run, tmp_path / "keys" / "salt"), ["first", "second"])
    assert one == other
    assert len(one) == 64


def test_salt_in_the_run_folder_or_too_short_is_refused(tmp_path):
    with pytest.raises(ValueError, match="inside the run folder"):
        study_salt(tmp_path, tmp_path / "data" / "salt")
    assert not (tmp_path / "data").exists()
    (tmp_path / "short").write_text("abc\n")
    with pytest.raises(ValueError, match="3 characters, wanted at least 16"):
        study_salt(tmp_path / "run", tmp_path / "short")


@pytest.mark.parametrize(
    "heading",
    ["Name", "patient_name", "PatientName", "Surname", "first name", "Vorname", "DOB", "date_of_birth",
     "PatientBirthDate", "Geburtsdatum", "Address", "phone", "E-Mail", "MRN", "Accession Number", "comments",
     "Bemerkung"],
)  # fmt: skip
def test_headings_of_what_tells_who_somebody_is(heading):
    assert tells_who(heading)


@pytest.mark.parametrize(
    "heading",
    ["case_id", "patient_id", "site", "hospital_name", "scanner_name", "shape", "anticoagulation", "age", "sex",
     "split", "second_mask", "scan_date", "onset_to_ct_h", "true_volume_ml"],
)  # fmt: skip
def test_headings_of_what_a_study_is_about(heading):
    assert not tells_who(heading)
