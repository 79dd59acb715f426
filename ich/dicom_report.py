"""The volumes of a mask as a DICOM structured report (TID 1500) that refers to the segments of a DICOM SEG."""

import warnings
from pathlib import Path

import pydicom
from pydicom.uid import generate_uid

from ich.atomic import replacing
from ich.dicom_seg import NAMES, PLACES, source_headers
from ich.series import Series


def write_dicom_report(
    path: Path, segmentation: Path, volume_ml: dict[str, float], series: Series, weights: str, version: str
) -> None:
    """Write a Comprehensive 3D SR with the volume of each segment of `segmentation`, in one step.

    Parameters
    ----------
    segmentation : written by `ich.dicom_seg.write_dicom_seg` for the same series.
    volume_ml : label name (`ich.tables.LABELS`) to ml; labels without blood are left out.
    weights, version : what made the mask.
    """
    import highdicom as hd  # a second to import
    from highdicom.sr.templates import (
        AlgorithmIdentification,
        DeviceObserverIdentifyingAttributes,
        Measurement,
        MeasurementReport,
        ObservationContext,
        ObserverContext,
        TrackingIdentifier,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )
    from pydicom.sr.codedict import codes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values in the source's header
        sources = source_headers(series)
        seg = pydicom.dcmread(segmentation)
        algorithm = AlgorithmIdentification(name="ich U-Net, research use only", version=weights)
        numbers = {str(item.SegmentLabel): int(item.SegmentNumber) for item in seg.SegmentSequence}
        groups = [
            VolumetricROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=TrackingIdentifier(uid=generate_uid(), identifier=NAMES[name]),
                referenced_segment=hd.sr.ReferencedSegment(
                    sop_class_uid=seg.SOPClassUID,
                    sop_instance_uid=seg.SOPInstanceUID,
                    segment_number=numbers[NAMES[name]],
                    source_series=hd.sr.SourceSeriesForSegmentation(series.slices[0].uid),
                ),
                finding_type=codes.SCT.Hemorrhage,
                finding_sites=[hd.sr.FindingSite(anatomic_location=getattr(codes.SCT, PLACES[name]))],
                algorithm_id=algorithm,
                measurements=[
                    Measurement(name=codes.SCT.Volume, value=round(ml, 3), unit=codes.UCUM.CubicCentimeter,
                                algorithm_id=algorithm)
                ],
            )
            for name, ml in volume_ml.items()
            if NAMES[name] in numbers
        ]  # fmt: skip
        observer = ObserverContext(
            observer_type=codes.DCM.Device,
            observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                uid=generate_uid(), name="ich study workbook", model_name="research use only"
            ),
        )
        report = hd.sr.Comprehensive3DSR(
            evidence=[*sources, seg],
            content=MeasurementReport(
                observation_context=ObservationContext(observer_device_context=observer),
                procedure_reported=codes.SCT.ComputedTomographyOfHead,
                imaging_measurements=groups,
                title=codes.DCM.ImagingMeasurementReport,
            )[0],
            series_instance_uid=generate_uid(),
            series_number=901 + int(sources[0].get("SeriesNumber") or 0) % 100,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="ich study workbook",
            software_versions=version,
            is_complete=True,
            is_verified=False,
            series_description="Hemorrhage volume, research use only",
        )
        with replacing(path) as part:
            report.save_as(part)
