import highdicom as hd
import numpy as np
import pydicom
import pytest
from made_dicom import orientation
from made_seg import FRAME, Z, segment, write_ct, write_seg
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid

from ich.contours import inside
from ich.dicom import read_dicom_scan
from ich.dicom_masks import is_dicom_mask, read_dicom_mask, referenced_series
from ich.grid import ScanError
from ich.label_names import name_kind
from ich.series import choose_series

FOUR_THEN_SEVEN = np.array([*np.arange(10) * 4.0, *(36 + np.arange(1, 9) * 7.0)])
STACKS = {
    "straight": (Z, 0.0),
    "tilted": (Z, 20.0),
    "4 then 7 mm": (FOUR_THEN_SEVEN, 0.0),
    "4 then 7 mm, tilted": (FOUR_THEN_SEVEN, -15.0),
}


def ball(shape, center, radius):
    index = np.indices(shape)
    return sum(((index[n] - center[n]) / radius[n]) ** 2 for n in range(3)) <= 1


def two_bleeds(count):
    shape = (48, 64, count)
    outer = ball(shape, (20, 22, count // 2), (10, 12, 5))
    ventricle = ball(shape, (24, 50, count // 2 - 1), (6, 7, 4))
    return {"Intraparenchymal hemorrhage": outer, "IVH": ventricle}


def as_ijk(mask):
    return mask.transpose(1, 0, 2)


@pytest.mark.parametrize("stack", STACKS)
def test_segmentation_comes_back_voxel_for_voxel(tmp_path, stack):
    z, tilt = STACKS[stack]
    series = write_ct(tmp_path / "ct", z, tilt)
    masks = two_bleeds(len(z))
    path = write_seg(tmp_path / "seg.dcm", series, masks)
    assert int(pydicom.dcmread(path).NumberOfFrames) < 2 * len(z)  # highdicom leaves empty frames out
    scan = read_dicom_scan(tmp_path / "ct")
    mask = read_dicom_mask(path, series)
    wanted = as_ijk(masks["Intraparenchymal hemorrhage"] + 2 * masks["IVH"].astype(np.uint8))
    assert mask.labels.dtype == np.uint8
    assert np.array_equal(mask.labels, wanted)
    assert np.array_equal(mask.grid.affine, scan.grid.affine)
    assert np.array_equal(mask.grid.positions_mm, scan.grid.positions_mm)
    assert not mask.extra_axial.any()
    assert mask.notes == ()


def test_prone_scan_turns_the_mask_with_it(tmp_path):
    series = write_ct(tmp_path / "ct", ImageOrientationPatient=[-1, 0, 0, 0, -1, 0])
    masks = two_bleeds(16)
    mask = read_dicom_mask(write_seg(tmp_path / "seg.dcm", series, masks), series)
    assert np.array_equal(mask.labels == 2, as_ijk(masks["IVH"])[::-1, ::-1])


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless], ids=lambda uid: uid.name)
@pytest.mark.parametrize("kind", ["FRACTIONAL", "LABELMAP"])
def test_other_kinds_of_segmentation(tmp_path, kind, syntax):
    series = write_ct(tmp_path / "ct")
    masks = two_bleeds(16)
    path = write_seg(tmp_path / "seg.dcm", series, masks, kind, syntax)
    labels = read_dicom_mask(path, series).labels
    assert np.array_equal(labels, as_ijk(masks["Intraparenchymal hemorrhage"] + 2 * masks["IVH"].astype(np.uint8)))


def test_fractions_count_from_one_half(tmp_path):
    series = write_ct(tmp_path / "ct")
    values = np.zeros((48, 64, 16), dtype=np.float32)
    values[5, :4, 3] = [0.25, 0.49, 0.5, 1.0]
    path = write_seg(tmp_path / "seg.dcm", series, {"ICH": values}, "FRACTIONAL", max_fractional_value=200)
    mask = read_dicom_mask(path, series)
    assert mask.notes == (
        '"ICH" has fractions (probability): 2 pixels of half and more are taken, all fractions add up to 2',
    )
    labels = mask.labels
    assert labels[:4, 5, 3].tolist() == [0, 0, 1, 1]
    assert labels.sum() == 2


def test_extra_axial_blood_stands_apart_and_edema_is_ignored(tmp_path):
    series = write_ct(tmp_path / "ct")
    whole = np.ones((48, 64, 16), dtype=bool)
    masks = {**two_bleeds(16), "SDH left": np.zeros_like(whole), "perihematomal edema": whole, "Skull": whole}
    masks["SDH left"][40:, :, 3] = True
    mask = read_dicom_mask(write_seg(tmp_path / "seg.dcm", series, masks, omit_empty_frames=False), series)
    assert np.array_equal(mask.extra_axial, as_ijk(masks["SDH left"]))
    assert not mask.labels[mask.extra_axial].any()
    assert mask.ignored == ("perihematomal edema", "Skull")
    assert mask.notes == ('no blood, ignored: "perihematomal edema", "Skull"',)


def test_code_speaks_where_the_name_does_not(tmp_path):
    series = write_ct(tmp_path / "ct")
    masks = dict(
        zip(("a", "b", "c"), (*two_bleeds(16).values(), ball((48, 64, 16), (5, 5, 8), (3, 3, 3))), strict=True)
    )
    types = [
        codes.cid7159.Hemorrhage,
        hd.sr.CodedConcept("00000", "99LOCAL", "Intraventricular hemorrhage"),
        hd.sr.CodedConcept("21454007", "SCT", "without words"),
    ]
    described = [segment(n, name, code) for n, (name, code) in enumerate(zip(masks, types, strict=True), start=1)]
    labels = read_dicom_mask(write_seg(tmp_path / "seg.dcm", series, masks, descriptions=described), series).labels
    for label, mask in enumerate(masks.values(), start=1):
        assert np.array_equal(labels == label, as_ijk(mask))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "blood") for name in ("ICH", "Hematoma_left", "hemorrhage 2", "Haemorrhage", "blood", "brain bleed")),
        *((name, "parenchymal") for name in ("IPH", "intraparenchymal", "Intra-Parenchymal haemorrhage", "IPH2")),
        *((name, "ventricular") for name in ("IVH", "intraventricular", "IntraVentricular", "blood in ventricles")),
        *((name, "subarachnoid") for name in ("SAH", "aSAH", "Subarachnoid hemorrhage", "sub-arachnoid")),
        *((name, "extra_axial") for name in ("subdural", "SDH", "Epidural hematoma", "extradural", "EDH", "acute_SDH")),
        *(
            (name, "ignore")
            for name in ("Edema", "PHE", "perihematomal oedema", "skull", "Brain", "Lateral ventricles")
        ),
        *(
            (name, "ignore")
            for name in (
                "scalp hematoma",
                "subgaleal hemorrhage",
                "Cephalhematoma",
                "brain parenchyma",
                "ventricular system",
                "blood vessels",
                "subarachnoid space",
            )
        ),
        *(
            (name, "ambiguous")
            for name in ("IPH+IVH", "ICH and edema", "no hemorrhage", "ICH+IVH", "ICH/SAH", "SDH and ICH")
        ),
        *((name, "unknown") for name in ("Segment_1", "lesion", "periphery", "tissue")),
    ],
)
def test_names(name, kind):
    assert name_kind(name) == kind


def test_single_unknown_name_is_parenchymal_and_told(tmp_path):
    series = write_ct(tmp_path / "ct")
    blob = two_bleeds(16)["IVH"]
    mask = read_dicom_mask(write_seg(tmp_path / "seg.dcm", series, {"Segment_1": blob, "skull": ~blob}), series)
    assert np.array_equal(mask.labels, as_ijk(blob))
    assert mask.notes[0] == 'the only segment, "Segment_1", does not say what it is: counted as parenchymal'


def test_unknown_names_want_a_label_map(tmp_path):
    series = write_ct(tmp_path / "ct")
    masks = dict(zip(("lesion a", "lesion b"), two_bleeds(16).values(), strict=True))
    path = write_seg(tmp_path / "seg.dcm", series, masks)
    with pytest.raises(ScanError, match='"lesion a", "lesion b" cannot be told by name; wanted names that hold one of'):
        read_dicom_mask(path, series)
    mask = read_dicom_mask(path, series, {"Lesion A": 3, "lesion b": "extra_axial"})
    assert np.array_equal(mask.labels == 3, as_ijk(masks["lesion a"]))
    assert np.array_equal(mask.extra_axial, as_ijk(masks["lesion b"]))
    with pytest.raises(ScanError, match='"lesion b" cannot be told'):
        read_dicom_mask(path, series, {"lesion a": 1})
    with pytest.raises(ScanError, match="'lesion a' is given as 4, wanted 0, 1, 2, 3 or one of blood"):
        read_dicom_mask(path, series, {"lesion a": 4})
    with pytest.raises(ScanError, match="wanted one of blood"):
        read_dicom_mask(path, series, {"lesion a": 0, "lesion b": "ignore"})


def test_all_blood_may_enclose_but_labels_may_not_cross(tmp_path):
    series = write_ct(tmp_path / "ct")
    ventricle = ball((48, 64, 16), (24, 30, 8), (5, 5, 3))
    whole = ball((48, 64, 16), (24, 30, 8), (9, 9, 5))
    mask = read_dicom_mask(write_seg(tmp_path / "a.dcm", series, {"hemorrhage": whole, "IVH": ventricle}), series)
    assert np.array_equal(mask.labels, as_ijk(whole + ventricle.astype(np.uint8)))
    assert mask.notes == ('"hemorrhage" encloses "IVH", which keeps its own label',)
    with pytest.raises(ScanError, match=f'"IPH" and "IVH" both claim {ventricle.sum()} voxels'):
        read_dicom_mask(write_seg(tmp_path / "b.dcm", series, {"IPH": whole, "IVH": ventricle}), series)
    crossing = np.roll(ventricle, 8, axis=1)
    with pytest.raises(ScanError, match='"hemorrhage" and "IVH" both claim'):
        read_dicom_mask(write_seg(tmp_path / "c.dcm", series, {"hemorrhage": whole, "IVH": crossing}), series)


def change_seg(path, change):
    header = pydicom.dcmread(path)
    change(header)
    header.save_as(path)
    return path


def shared(header, name):
    return header.SharedFunctionalGroupsSequence[0][name].value[0]


def move_first_frame(x, z):
    def change(header):
        plane = header.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
        position = plane.ImagePositionPatient
        plane.ImagePositionPatient = [position[0] + x, position[1], position[2] + z]

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            move_first_frame(0, 1.5),
            r"frame 1 lies at 66\.50 mm along the slice normal, on no slice; the nearest is at 65",
        ),
        (move_first_frame(0.3, 0), "frame 1 is shifted by 0.30, 0.00 mm in the plane of its slice"),
        (lambda h: setattr(h, "FrameOfReferenceUID", "1.2.3"), "another frame of reference than series 2"),
        (lambda h: setattr(h.ReferencedSeriesSequence[0], "SeriesInstanceUID", "1.2.3"), "drawn on another series"),
        (
            lambda h: setattr(shared(h, "PixelMeasuresSequence"), "PixelSpacing", [0.4, 0.5]),
            r"pixels of \[0.5, 0.4\] mm, wanted \[0.5, 0.5\]",
        ),
        (
            lambda h: setattr(shared(h, "PlaneOrientationSequence"), "ImageOrientationPatient", orientation(3)),
            "frame 1 has orientation",
        ),
        (lambda h: setattr(h, "InConcatenationTotalNumber", 2), "all in one file"),
        (lambda h: delattr(h, "PerFrameFunctionalGroupsSequence"), "wanted one for each frame"),
        (lambda h: setattr(h, "PixelData", h.PixelData[:100]), "frames cannot be decoded"),
        (lambda h: delattr(h, "SegmentSequence"), "damaged or incomplete"),
    ],
)
def test_segmentation_that_does_not_fit(tmp_path, change, said):
    series = write_ct(tmp_path / "ct")
    path = write_seg(tmp_path / "seg.dcm", series, two_bleeds(16))
    with pytest.raises(ScanError, match=said) as caught:
        read_dicom_mask(change_seg(path, change), series)
    assert "SECRET" not in str(caught.value).upper()
    assert series.slices[0].uid not in str(caught.value)


def test_position_within_a_quarter_of_the_slice_distance_is_the_slice(tmp_path):
    series = write_ct(tmp_path / "ct")
    masks = two_bleeds(16)
    path = change_seg(write_seg(tmp_path / "seg.dcm", series, masks), move_first_frame(0.1, 1.2))
    assert np.array_equal(read_dicom_mask(path, series).labels == 2, as_ijk(masks["IVH"]))


def test_segmentation_of_other_size(tmp_path):
    series = write_ct(tmp_path / "ct")
    other = write_ct(tmp_path / "other", size=(48, 60))
    path = write_seg(tmp_path / "seg.dcm", other, {"ICH": np.ones((48, 60, 16), dtype=bool)})
    change_seg(path, lambda h: setattr(h.ReferencedSeriesSequence[0], "SeriesInstanceUID", series.slices[0].uid))
    with pytest.raises(ScanError, match="frames of 60 x 48 pixels, wanted 64 x 48 as the slices"):
        read_dicom_mask(path, series)


def write_rtstruct(path, series, rois, frame=FRAME, uid=None):
    """RTSTRUCT of name -> [(slice, (N, 2) columns and rows)]; a third item replaces the contour's geometric type."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = generate_uid()
    header.Modality, header.PatientName = "RTSTRUCT", "Secret^Name"
    reference, study, drawn_on = Dataset(), Dataset(), Dataset()
    drawn_on.SeriesInstanceUID = uid or series.slices[0].uid
    study.RTReferencedSeriesSequence = [drawn_on]
    reference.FrameOfReferenceUID, reference.RTReferencedStudySequence = frame, [study]
    header.ReferencedFrameOfReferenceSequence = [reference]
    header.StructureSetROISequence, header.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(rois.items(), start=1):
        roi, item = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame
        item.ReferencedROINumber, item.ContourSequence = number, []
        for k, pixels, *kind in contours:
            contour = Dataset()
            contour.ContourGeometricType = kind[0] if kind else "CLOSED_PLANAR"
            points = patient_mm(series, k, np.asarray(pixels, dtype=float))
            contour.ContourData = [f"{value:.6f}"[:16] for value in points.ravel()]
            contour.NumberOfContourPoints = len(points)
            item.ContourSequence.append(contour)
        header.StructureSetROISequence.append(roi)
        header.ROIContourSequence.append(item)
    header.save_as(path, enforce_file_format=True)
    return path


def patient_mm(series, k, pixels):
    """LPS of (column, row) in slice k, by the equation of DICOM PS3.3 C.7.6.2.1.1; k may lie between slices."""
    low = series.slices[int(k)]
    step = np.subtract(series.slices[int(k) + 1].position_mm, low.position_mm) * (k - int(k))
    row, column = np.array(low.orientation).reshape(2, 3)
    return low.position_mm + step + pixels[:, :1] * low.spacing_mm[0] * row + pixels[:, 1:] * low.spacing_mm[1] * column


def circle(radius, center=(32.3, 24.6), count=200):
    angle = np.arange(count) * 2 * np.pi / count
    return np.stack([center[0] + radius * np.cos(angle), center[1] + radius * np.sin(angle)], axis=1)


def polygon_area(count, radius):
    return count / 2 * radius**2 * np.sin(2 * np.pi / count)


@pytest.mark.parametrize("stack", STACKS)
def test_cylinder_of_circles_has_its_volume(tmp_path, stack):
    z, tilt = STACKS[stack]
    series = write_ct(tmp_path / "ct", z, tilt)
    path = write_rtstruct(tmp_path / "rt.dcm", series, {"ICH": [(k, circle(20)) for k in range(3, 14)]})
    mask = read_dicom_mask(path, series)
    assert mask.labels.any(axis=(0, 1)).nonzero()[0].tolist() == list(range(3, 14))
    along = z * np.cos(np.radians(tilt))
    height = (along[13] + along[14]) / 2 - (along[2] + along[3]) / 2
    assert mask.grid.volume_ml(mask.labels == 1) == pytest.approx(polygon_area(200, 10) * height / 1000, rel=0.01)
    assert mask.notes == ()


@pytest.mark.parametrize("hole", ["second contour", "keyhole"])
def test_annulus(tmp_path, hole):
    series = write_ct(tmp_path / "ct", tilt=20)
    outer, inner = circle(20), circle(9)
    if hole == "keyhole":
        contours = [(5, np.concatenate([outer, outer[:1], inner[::-1], inner[-1:]]))]
    else:
        contours = [(5, outer), (5, inner)]
    labels = read_dicom_mask(write_rtstruct(tmp_path / "rt.dcm", series, {"ICH": contours}), series).labels
    assert labels.sum() == pytest.approx(polygon_area(200, 20) - polygon_area(200, 9), rel=0.01)
    assert labels[32, 24, 5] == 0
    full = [inside([c], (64, 48)) for c in (outer, inner)]
    assert np.array_equal(labels[:, :, 5], full[0] & ~full[1])


@pytest.mark.parametrize("tilt", [0.0, 20.0])
def test_edges_through_pixel_centers_are_counted_once(tmp_path, tilt):
    """Two rectangles and a triangle that tile a larger rectangle: each pixel is in exactly one."""
    series = write_ct(tmp_path / "ct", tilt=tilt)
    left = [(10, 10), (20, 10), (20, 30), (10, 30)]
    lower, upper = [(20, 10), (40, 10), (40, 30)], [(20, 10), (40, 30), (20, 30)]
    path = write_rtstruct(tmp_path / "rt.dcm", series, {"IPH": [(2, left)], "IVH": [(2, lower)], "SAH": [(2, upper)]})
    labels = read_dicom_mask(path, series).labels
    counts = [np.count_nonzero(labels == label) for label in (1, 2, 3)]
    assert counts[0] == 10 * 20
    assert sum(counts) == 30 * 20


def test_even_odd_agrees_with_winding_of_a_point_at_a_time():
    """A second implementation: the angle that a star's outline turns about each pixel center."""
    rng = np.random.default_rng(1)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 40))
    star = np.stack([15.3 + rng.uniform(3, 14, 40) * np.cos(angle), 12.7 + rng.uniform(3, 11, 40) * np.sin(angle)], 1)
    found = inside([star], (32, 26))
    for column in range(32):
        for row in range(26):
            spokes = star - (column, row)
            turn = np.angle(np.roll(spokes @ [1, 1j], -1) / (spokes @ [1, 1j])).sum()
            assert found[column, row] == (abs(turn) > np.pi)


def test_points_and_open_contours_are_passed_over_and_told(tmp_path):
    series = write_ct(tmp_path / "ct")
    contours = [
        (4, circle(10)),
        (4, circle(10)),
        (8, circle(10)),
        (5, [(3, 3)], "POINT"),
        (6, circle(5), "OPEN_PLANAR"),
    ]
    path = write_rtstruct(tmp_path / "rt.dcm", series, {"ICH": contours, "IVH": [], "Skull": [(3.5, circle(20))]})
    mask = read_dicom_mask(path, series)
    assert mask.labels.any(axis=(0, 1)).nonzero()[0].tolist() == [4, 8]
    assert mask.notes == (
        'no blood, ignored: "Skull"',
        'contours of "ICH", POINT, passed over: 1',
        'contours of "ICH", OPEN_PLANAR, passed over: 1',
        'contours of "ICH", repeated: 1',
        '"ICH" has no contour on 3 slices between its first and last',
        '"IVH" has no closed contour: empty',
    )


@pytest.mark.parametrize(
    ("contours", "options", "said"),
    [
        (
            [(4.4, circle(10))],
            {},
            r'contour 1 of "ICH" lies at 22\.00 mm along the slice normal, on no slice; the nearest',
        ),
        ([(4, circle(10, (60, 24)))], {}, "leaves the image of slice 5"),
        ([(4, circle(10))], {"uid": "1.2.3"}, "drawn on another series"),
        ([(4, circle(10))], {"frame": "1.2.3"}, "another frame of reference"),
    ],
)
def test_contours_that_do_not_fit(tmp_path, contours, options, said):
    series = write_ct(tmp_path / "ct")
    path = write_rtstruct(tmp_path / "rt.dcm", series, {"ICH": contours}, **options)
    with pytest.raises(ScanError, match=said) as caught:
        read_dicom_mask(path, series)
    assert "SECRET" not in str(caught.value).upper()


def test_contours_drawn_on_straight_planes_of_a_tilted_scan_are_told(tmp_path):
    straight = write_ct(tmp_path / "straight")
    tilted = write_ct(tmp_path / "ct", tilt=20)
    path = write_rtstruct(tmp_path / "rt.dcm", straight, {"ICH": [(8, circle(18))]}, uid=tilted.slices[0].uid)
    with pytest.raises(ScanError, match=r"lies from \d+\.\d\d to \d+\.\d\d mm along the slice normal, on no slice"):
        read_dicom_mask(path, tilted)


def test_which_files_are_masks_and_of_which_series(tmp_path):
    series = write_ct(tmp_path / "ct")
    seg = write_seg(tmp_path / "seg.dcm", series, two_bleeds(16))
    rt = write_rtstruct(tmp_path / "rt.dcm", series, {"ICH": []})
    other = tmp_path / "note.txt"
    other.write_text("no mask")
    assert [is_dicom_mask(p) for p in (seg, rt, other, series.slices[0].path)] == [True, True, False, False]
    assert not is_dicom_mask(tmp_path / "missing.dcm")
    assert referenced_series(seg) == referenced_series(rt) == series.slices[0].uid
    assert referenced_series(change_seg(seg, lambda h: delattr(h, "ReferencedSeriesSequence"))) is None
    assert read_dicom_mask(seg, series).labels.any()  # the frame of reference still ties it to the scan
    change_seg(seg, lambda h: delattr(h, "FrameOfReferenceUID"))
    with pytest.raises(ScanError, match="names neither the series nor the frame of reference"):
        read_dicom_mask(seg, series)
    with pytest.raises(ScanError, match="of modality CT, wanted SEG or RTSTRUCT"):
        referenced_series(series.slices[0].path)
    with pytest.raises(ScanError, match="missing, damaged or not a DICOM file"):
        read_dicom_mask(other, series)


def test_ball_on_a_real_tilted_scan(tmp_path, shared_data):
    series = choose_series(shared_data / "dicom" / "ge_head")
    scan = read_dicom_scan(shared_data / "dicom" / "ge_head")
    first = series.slices[0]
    columns, rows = first.size
    row, column = np.array(first.orientation).reshape(2, 3)
    steps = np.indices((rows, columns)) * np.array(first.spacing_mm[::-1])[:, None, None]
    plane = steps[1][..., None] * row + steps[0][..., None] * column
    places = np.stack([plane + np.array(image.position_mm) for image in series.slices], axis=2)
    radius = 30.0
    center = places[rows // 2, columns // 2, len(series.slices) // 2]
    blob = np.linalg.norm(places - center, axis=-1) <= radius
    mask = read_dicom_mask(write_seg(tmp_path / "seg.dcm", series, {"ICH": blob}), series)
    assert mask.labels.shape == scan.hu.shape
    assert np.array_equal(mask.labels, as_ijk(blob))
    # Each slice stands for the tissue half way to its neighbors, along the normal of its plane.
    along = [np.cross(row, column) @ np.array(image.position_mm) for image in series.slices]
    extents = (np.roll(along, -1) - np.roll(along, 1))[1:-1] / 2
    volume_ml = blob.sum(axis=(0, 1))[1:-1] @ extents * np.prod(first.spacing_mm) / 1000
    assert scan.grid.volume_ml(mask.labels == 1) == pytest.approx(
        volume_ml, rel=1e-6
    )  # DICOM positions have few digits
    assert volume_ml == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.02)
