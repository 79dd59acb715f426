"""A hospital's export full of planted identifiers, through the whole study twice, an archive and a case report.

None of them occurs in what is shared, and both runs have the same tables to the last byte. What DICOM output has to say
of the patient and the study it says, and no more.
"""

import base64
import gzip
import re
import shutil
import zipfile

import numpy as np
import pydicom
import pytest
from made_seg import write_ct, write_seg

from ich import tables
from ich.cli import main
from ich.phantom import make_case
from ich.tables import LABELS

PLANTED = {
    "PatientName": "SECRETNAME^ANNA", "PatientBirthDate": "19580103", "OtherPatientIDs": "SECRETOTHER",
    "AccessionNumber": "SECRETACC", "InstitutionName": "SECRETPLACE", "InstitutionAddress": "SECRETSTREET 1",
    "ReferringPhysicianName": "SECRETDOCTOR", "PerformingPhysicianName": "SECRETNURSE", "OperatorsName": "SECRETTECH",
    "StationName": "SECRETSTATION", "StudyID": "SECRETSTUDY", "DeviceSerialNumber": "SECRETSERIAL",
    "StudyDescription": "SECRETSTUDYTEXT", "SeriesDescription": "SECRETSERIES <script>",
    "ProtocolName": "SECRETPROTOCOL", "PatientComments": "SECRETCOMMENT", "ImageComments": "SECRETIMAGE",
    "StudyDate": "20210405", "StudyTime": "112233",
}  # fmt: skip
# A time of six digits may stand by chance behind the point of a coordinate, or among the letters of a picture's base64:
# there it is nobody's. So digits are sought where they begin a number, and pictures in what they decode to.
SOUGHT = re.compile(
    rb"SECRET|Secret|(?<![\da-f.])(?:20210405|19580103|112233(?![a-f]))|2021-04-05|1958-01-03|11:22:33|1\.2\.826\.0\.77"
)
EMBEDDED = re.compile(rb"base64,([A-Za-z0-9+/=\s]+)|\"image/png\": \"([A-Za-z0-9+/=\\n]+)\"")
SMALL = {
    "source": "dicom", "image_size": 64, "steps": 20, "validate_every": 10, "network_size": 32, "pixel_mm": 7.0,
    "batch_size": 4, "n_resamples": 100, "train_share": 0.4, "validation_share": 0.1, "test_share": 0.5, "jobs": 1,
}  # fmt: skip
# Of the patient and the study, as every object of a study has them: DICOM PS3.3, sections C.7.1.1 and C.7.2.1.
MAY_NAME = {"PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
            "ReferringPhysicianName", "StudyDescription"}  # fmt: skip


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """Twelve simulated heads as CT series with segmentations, names everywhere."""
    root = tmp_path_factory.mktemp("disk") / "Secret^Näme"  # letters beyond ASCII are stored in another way
    for index in range(12):
        case = make_case(2019, index, size=64)
        stack = np.moveaxis(case.hu, 0, 1)  # (rows, columns, K)
        folder = root / f"SECRETFOLDER{index}"
        series = write_ct(
            folder, np.arange(stack.shape[2]) * 5.0, hu=stack, StudyInstanceUID=f"1.2.826.0.77.{index}",
            PatientID=f"SECRETID{index}", PixelSpacing=[case.grid.spacing_mm[1], case.grid.spacing_mm[0]], **PLANTED,
        )  # fmt: skip
        masks = {name: np.moveaxis(case.labels == label, 0, 1) for name, label in LABELS.items()}
        write_seg(folder / "SECRETseg.dcm", series, {name: mask for name, mask in masks.items() if mask.any()})
    return root


@pytest.fixture(scope="module")
def runs(export, tmp_path_factory):
    """The same study in two folders."""
    folder = tmp_path_factory.mktemp("reports")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ICH_SALT_FILE", str(folder / "salt"))
        settings = [f"--set={key}={value}" for key, value in (SMALL | {"root": export}).items()]
        (folder / "again.yaml").write_text(
            "title: Again\nnotebooks: [01_cohort, 02_training, 03_test_set, 04_agreement]\nneeds_mb: 0\n"
        )
        for name, profile in (("one", "demo"), ("two", str(folder / "again.yaml"))):
            assert main(["study", profile, "--name", name, "--reports", str(folder / name), *settings]) == 0
    return [folder / name / name for name in ("one", "two")]


def sought(content: bytes, name: str) -> list[bytes]:
    """Planted identifiers in a file or in its name, also in what is embedded or compressed there."""
    if name.endswith(".gz"):
        content = gzip.decompress(content)
    embedded = [base64.b64decode((plain or quoted).replace(b"\\n", b"")) for plain, quoted in EMBEDDED.findall(content)]
    parts = [EMBEDDED.sub(b"base64", content), *embedded, name.encode()]
    return [found for part in parts for found in SOUGHT.findall(part)]


def test_planted_identifiers_are_found_where_they_hide():
    picture = base64.b64encode(b"\x89PNG tEXt SECRETNAME")
    assert sought(b'<image href="data:image/png;base64,' + picture + b'"/>', "figure.svg") == [b"SECRET"]
    assert sought(b'{"image/png": "' + picture + b'\\n"}', "01.ipynb") == [b"SECRET"]
    assert sought(gzip.compress(b"\x00112233.5 20210405112233"), "mask.nii.gz") == [b"112233", b"20210405"]
    assert sought(b"", "Secret.csv") == [b"Secret"]
    assert sought(b'x="0.112233" href="data:image/png;base64,Vi112233SbWr"', "figure.svg") == []


def shared(run):
    """Files of a run but those of data/, which are kept."""
    return [path for path in run.rglob("*") if path.is_file() and run / "data" not in path.parents]


@pytest.mark.slow
def test_no_identifier_is_in_what_a_study_shares(runs):
    """A minute and a half: five notebooks run, and four of them again, on twelve cases."""
    cases = tables.read(runs[0] / "tables" / "cohort.csv")
    assert cases["included"].sum() == 12
    assert cases["reference_volume_ml"].gt(1).all()
    files = shared(runs[0])
    assert {path.suffix for path in files} >= {".csv", ".html", ".ipynb", ".json", ".yaml", ".svg", ".png", ".gz"}
    for path in files:
        assert not sought(path.read_bytes(), path.name), path


@pytest.mark.slow
def test_the_same_study_gives_the_same_tables_byte_for_byte(runs):
    """Needs the runs above."""
    one, two = (
        {path.name: path.read_bytes() for path in sorted((run / "tables").iterdir()) if path.suffix != ".docx"}
        for run in runs
    )
    assert len(two) > 15
    assert {name: one.get(name) for name in two} == two
    weights = [(run / "model" / "weights.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_no_identifier_is_in_an_archive(runs, tmp_path):
    """Needs the runs above."""
    assert main(["archive", str(runs[0]), "--out", str(tmp_path / "run.zip")]) == 0
    with zipfile.ZipFile(tmp_path / "run.zip") as archive:
        for name in archive.namelist():
            assert not sought(archive.read(name), name), name


@pytest.mark.slow
def test_a_case_report_names_nobody_and_dicom_output_what_it_must(runs, export, tmp_path, capsys):
    """Needs the runs above: two scans of the export with the shipped weights."""
    folder = tmp_path / "scans"
    for index in (0, 1):
        shutil.copytree(export / f"SECRETFOLDER{index}", folder / f"SECRET{index}")
        (folder / f"SECRET{index}" / "SECRETseg.dcm").unlink()
    out = tmp_path / "out"
    assert main(["segment", str(folder), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "SECRET" not in said.out + said.err
    made = [path for path in out.rglob("*") if path.is_file() and path.name != "key.csv"]
    for path in made:
        if path.suffix != ".dcm":
            assert not sought(path.read_bytes(), path.name), path
    dicom = [path for path in made if path.suffix == ".dcm"]
    for path in dicom:
        for element in pydicom.dcmread(path).iterall():
            if "SECRET" in str(element.value) or str(element.value) in ("19580103", "112233"):
                assert element.keyword in MAY_NAME, (path.name, element.keyword)
