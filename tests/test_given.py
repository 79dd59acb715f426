"""Tables as people give them: other delimiters, decimal commas, padded cells, and errors that name file and case."""

import json

import pandas as pd
import pytest

from ich import cohort, own_cases
from ich.cli import main
from ich.given import case_table, read_given
from ich.sources import find_cases

VOLUMES = [("c0", "1.5", "2.5"), ("c1", "5", "5.25"), ("c2", "9.5", "11.5"), ("c3", "30", "33")]


def listing(tmp_path, text, **encoding):
    path = tmp_path / "scans.csv"
    path.write_text(text, **encoding)
    return path


def volumes(delimiter: str, point: str) -> str:
    rows = [("case_id", "a", "b"), *VOLUMES]
    return "\n".join(delimiter.join(row).replace(".", point) for row in rows)


@pytest.mark.parametrize(("delimiter", "point"), [(",", "."), (";", "."), (";", ","), ("\t", ",")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["", "\n{0}{0}\n{0}{0}\n"])
def test_agree_reads_what_spreadsheets_write(tmp_path, delimiter, point, encoding, end):
    path = listing(tmp_path, volumes(delimiter, point) + end.format(delimiter), encoding=encoding)
    assert main(["agree", str(path), "--reference", "a", "--method", "b", "--out", str(tmp_path / "x.json")]) == 0
    result = json.loads((tmp_path / "x.json").read_text())
    assert (result["n"], result["n_missing"]) == (4, 0)
    assert result["bias"] == pytest.approx((1 + 0.25 + 2 + 3) / 4)


def test_excels_line_about_the_delimiter_is_passed_over(tmp_path):
    table = read_given(listing(tmp_path, "sep=;\n" + volumes(";", ",")), numbers=True)
    assert table["a"].tolist() == [1.5, 5, 9.5, 30]


def test_a_column_that_stands_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"scans\.csv: column 'met' stands twice"):
        read_given(listing(tmp_path, "case_id,met, met \nc0,1,2\n"))


def test_a_comma_beside_points_may_part_thousands_and_is_no_number(tmp_path, capsys):
    path = listing(tmp_path, "case_id;a;b\nc0;1.5;2.5\nc1;1,234;5\nc2;9;11\nc3;8;9\n")
    assert main(["agree", str(path), "--reference", "a", "--method", "b", "--out", str(tmp_path / "x.json")]) == 2
    assert "a: case c1 is the text '1,234', wanted numbers" in capsys.readouterr().err


def test_quoted_commas_of_a_heading_do_not_part_columns(tmp_path):
    path = listing(tmp_path, '"volume, left, ml";case_id\n1,5;001\n')
    assert read_given(path).to_dict("records") == [{"volume, left, ml": "1.5", "case_id": "001"}]


def test_other_encodings_name_the_file_and_the_line(tmp_path):
    path = listing(tmp_path, "case_id;patient_id\n1;Meier\n2;Müller\n", encoding="latin-1")
    with pytest.raises(ValueError, match=r"scans\.csv: .*line 3 holds bytes that are no utf-8; .*CSV UTF-8"):
        read_given(path)
    path.write_bytes("case_id\n1\n".encode("utf-16")[:-1])
    with pytest.raises(ValueError, match=r"scans\.csv: .* are no utf-16"):
        read_given(path)


def test_types_in_any_case_with_blanks_around_them(tmp_path):
    path = listing(tmp_path, "case_id; hemorrhage_type\n a ; Parenchymal \nb;MIXED\nc;\n")
    rows = case_table(path, ("case_id",))
    assert rows["case_id"].tolist() == ["a", "b", "c"]
    assert rows["hemorrhage_type"].fillna("").tolist() == ["parenchymal", "mixed", ""]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("case_id,patient_id\na,1\na,1\n", "scans.csv: case a is listed more than once"),
        ("Fall,patient_id,age\na,1,60\n", "scans.csv: no column 'case_id'; found Fall, patient_id, age"),
        ("case_id,age\na,60\n", "scans.csv: no column 'patient_id'; found case_id, age"),
        ("case_id,patient_id\na,1\n,2\n", "scans.csv: row 3 of the table has no case_id"),
        (
            "case_id,patient_id,hemorrhage_type\na,1,SDH\n",
            "scans.csv: case a: hemorrhage_type is 'SDH', wanted one of parenchymal, ventricular, subarachnoid, mixed",
        ),
    ],
)
def test_a_list_of_scans_is_refused_by_its_name_and_case(tmp_path, text, said):
    listing(tmp_path, text)
    (tmp_path / "a.nii.gz").write_bytes(b"")
    with pytest.raises(ValueError) as error:  # noqa: PT011 the whole text is compared
        own_cases.from_folders(tmp_path, None, tmp_path)
    assert str(error.value) == said


def test_cases_without_a_patient_are_patients_of_their_own_and_padding_makes_no_other_one(tmp_path):
    text = "case_id,reference_mask,patient_id\na,a.nii,p1\nb,b.nii,p1 \nc,c.nii,\nd,d.nii, \n"
    path = listing(tmp_path, text)
    note = "2 cases have no patient_id: each counts as a patient of its own"
    assert find_cases("manifest", path).notes == (note,)
    for sources in (
        own_cases.from_manifest(path, tmp_path),
        pd.DataFrame({"case_id": list("abcd"), "patient_id": ["p1", "p1 ", None, " "], "reference_mask": None}),
    ):
        patients = cohort.build(sources, tmp_path, need_image=False, jobs=1)["patient_id"].tolist()
        assert patients == ["patient-0001", "patient-0001", "patient-0002", "patient-0003"]


def test_a_list_of_scans_gives_its_note_too(tmp_path):
    (tmp_path / "masks").mkdir()
    for name in "ab":
        (tmp_path / "masks" / f"{name}.nii.gz").write_bytes(b"")
    listing(tmp_path, "scan_id\tpatient_id\na\t \nb\tp\n")
    found = find_cases("folders", tmp_path)
    assert found.cases["patient_id"].tolist() == ["a", "p"]
    assert found.notes == ("1 cases have no patient_id: each counts as a patient of its own",)


def test_rows_of_a_table_without_case_ids_are_counted_as_a_spreadsheet_does(tmp_path, capsys):
    path = listing(tmp_path, "a,b\n1,2\n3,4\n5,7 ml\n8,9\n")
    assert main(["agree", str(path), "--reference", "a", "--method", "b", "--out", str(tmp_path / "x.json")]) == 2
    assert "b: case row 4 is the text '7 ml'" in capsys.readouterr().err


def test_a_table_whose_lines_end_as_on_an_old_macintosh_is_read(tmp_path):
    path = listing(tmp_path, volumes(",", "."))
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r"))
    assert read_given(path, numbers=True)["b"].tolist() == [2.5, 5.25, 11.5, 33]
