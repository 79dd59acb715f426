"""What a study would ignore, or find out after hours, is refused before it starts."""

import pytest

from ich.choices import check_choices


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"root": "EXPORT"}, "root=EXPORT is given without source"),
        ({"source": "dicom"}, "source=dicom is given without root"),
        ({"images": "SCANS"}, "images=SCANS is given without masks"),
        ({"masks": "M", "manifest": "c.csv"}, "masks and manifest are given: cases come from one of"),
        ({"source": "dicm", "root": "EXPORT"}, "source=dicm: wanted one of physionet"),
        ({"split_rule": "stratifed"}, "split_rule=stratifed: wanted one of stratified, date, site, folds, given"),
        ({"exclude_flagged": "head,moon"}, "no check moon"),
        ({"quality_limits": "moon_mm=1"}, "no limit 'moon_mm'"),
    ],
)
def test_refused(given, said):
    with pytest.raises(ValueError, match=said):
        check_choices({"01_cohort": given})


@pytest.mark.parametrize("margin", [{"margin_ml": -5.0}, {"margin_percent": 0}])
def test_a_margin_is_positive(margin):
    with pytest.raises(ValueError, match="wanted a positive number"):
        check_choices({"01_cohort": {}, "04_agreement": margin})


def test_a_device_is_checked_wherever_it_is_set():
    with pytest.raises(ValueError, match="device=gpu: wanted auto, cpu, cuda, or cuda:1"):
        check_choices({"03_test_set": {"device": "gpu"}})


def test_masks_alone_train_nothing_and_can_still_be_studied():
    with pytest.raises(ValueError, match=r"02_training needs images \(scans\); for masks alone: ich study masks"):
        check_choices({"01_cohort": {"masks": "M"}, "02_training": {}})
    check_choices({"01_cohort": {"masks": "M", "images": "S"}, "02_training": {}})
    check_choices({"01_cohort": {"masks": "M"}, "04_agreement": {}})


def test_a_run_tests_one_network_or_masks_made_elsewhere():
    given, scans = {"model_from": "W"}, {"masks": "M", "images": "S"}
    with pytest.raises(ValueError, match="model_from=W is given beside predictions"):
        check_choices({"01_cohort": scans, "03_test_set": given | {"predictions": "P"}})
    with pytest.raises(ValueError, match="model_from=W is given beside 02_training"):
        check_choices({"01_cohort": scans, "02_training": {}, "03_test_set": given})
    with pytest.raises(ValueError, match=r"masks=M is given without images, and a network needs images"):
        check_choices({"01_cohort": {"masks": "M"}, "03_test_set": given})
    check_choices({"01_cohort": scans, "03_test_set": given})


@pytest.mark.parametrize("given", [{}, {"masks": "M", "images": "S"}, {"manifest": "c"}, {"exclude_flagged": ""}])
def test_taken(given):
    check_choices({"01_cohort": given})


def test_volumes_of_other_labels_are_said_to_be_compared_elsewhere():
    with pytest.raises(ValueError, match=r"wanted one of blood, parenchymal; `ich study volumes` compares"):
        check_choices({"01_cohort": {}, "04_agreement": {"volume": "ventricular"}})
