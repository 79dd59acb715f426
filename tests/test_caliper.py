"""The reader's caliper: lengths, weights, the table of readings and the order of cases."""

import os

import numpy as np
import pytest

from ich import caliper, tables
from ich.atomic import locked
from ich.grid import Grid


def grid(positions=(0.0, 5.0, 10.0, 15.0, 20.0), spacing=(0.5, 0.5)):
    affine = np.diag([-spacing[0], -spacing[1], 5.0, 1.0])
    return Grid((100, 100, len(positions)), spacing, np.array(positions), affine)


def read(case_id="c1", reader="R1", where=None, **changed):
    # 40 mm along I and 30 mm along J at 0.5 mm pixels.
    marks = {"index_slice": 2, "a": ((10, 50), (90, 50)), "b": ((50, 20), (50, 80)),
             "weights": {1: 0.5, 2: 1.0, 3: 0.5, 4: 0.0}}  # fmt: skip
    return caliper.read_by(where or grid(), case_id, reader, **(marks | changed))


def test_bedside_formula_by_hand():
    # 4 cm x 3 cm x (0.5 + 1 + 0.5) slices of 0.5 cm / 2 = 6 ml.
    reading = read()
    assert (reading.a_mm, reading.b_mm, reading.c_mm) == (40.0, 30.0, 10.0)
    assert reading.abc2_ml == pytest.approx(6.0)
    assert reading.angle_deg == pytest.approx(90)


def test_oblique_caliper_on_uneven_pixels_is_pythagoras():
    # 3 pixels of 1 mm and 2 of 2 mm: a 3-4-5 triangle.
    reading = read(where=grid(spacing=(1.0, 2.0)), a=((10, 10), (13, 12)), b=((10, 10), (10, 12)))
    assert (reading.a_mm, reading.b_mm) == (5.0, 4.0)
    assert reading.angle_deg == pytest.approx(36.8699, abs=1e-4)


def test_mixed_slice_spacing_weighs_half_of_both_neighbors():
    # Steps 4, 4, 7, 7: the slices stand for 4, 4, 5.5, 7 and 7 mm.
    reading = read(where=grid((0.0, 4.0, 8.0, 15.0, 22.0)), weights={1: 1.0, 2: 1.0, 3: 0.5})
    assert reading.c_mm == pytest.approx(4 + 5.5 + 3.5)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"weights": {2: 1.0, 3: 0.7}}, "slice 4 has the weight 0.7"),
        ({"weights": {1: 1.0}}, "index slice 3 has the weight"),
        ({"index_slice": 5}, "wanted one of 1 to 5"),
        ({"a": ((1, 2), (float("nan"), 3))}, "A has the ends"),
        ({"reader": " "}, "wanted a name or code"),
    ],
)
def test_impossible_reading_names_the_case(changed, said):
    with pytest.raises(ValueError, match=f"case c1: .*{said}"):
        read(**changed)


def test_readings_are_numbered_by_case_and_reader(tmp_path):
    path = tmp_path / "tables" / "readers.csv"
    for case_id, reader in (("001", "R1"), ("001", "R2"), ("002", "R1"), ("001", "R1")):
        caliper.append(read(case_id, reader), path)
    table = tables.read(path)
    assert list(table["reading"]) == [1, 1, 1, 2]
    assert list(table["case_id"]) == ["001", "001", "002", "001"]
    assert table["weights"].iloc[0] == "1:0.5 2:1 3:0.5"
    assert table[["a1_i", "a1_j", "a2_i", "a2_j"]].iloc[0].tolist() == [10, 50, 90, 50]
    assert sorted(item.name for item in path.parent.iterdir()) == [".readers.csv.lock", "readers.csv"]


@pytest.mark.filterwarnings("error")
def test_a_reading_at_the_screen_follows_those_of_the_bedside(tmp_path):
    path = tmp_path / "readers.csv"
    path.write_text("case_id,reader,reading,a_mm,b_mm,c_mm,abc2_ml,rule\nc1,R1,1,40,30,20,12,all slices\n")
    caliper.append(read("c1", "R1"), path)
    table = tables.read(path)
    assert table["reading"].tolist() == [1, 2]
    assert table["rule"].tolist() == ["all slices", "Kothari"]
    assert table["abc2_ml"].tolist() == pytest.approx([12, 6])
    assert table["index_slice"].isna().tolist() == [True, False]


def test_a_held_table_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(caliper, "LOCK_WAIT_S", 0.1)
    with (
        locked(tmp_path / ".readers.csv.lock", "it"),
        pytest.raises(TimeoutError, match=rf"readers.csv is in use by process {os.getpid()}"),
    ):
        caliper.append(read(), tmp_path / "readers.csv")
    assert not (tmp_path / "readers.csv").exists()


def test_order_is_the_readers_own():
    cases = [f"c{n:02}" for n in range(30)]
    first = caliper.reading_order(cases, "R1")
    assert first == caliper.reading_order(reversed(cases), "R1 ")
    assert sorted(first) == cases
    assert first not in (cases, caliper.reading_order(cases, "R2"))
