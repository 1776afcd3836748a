"""Record Segmentations by the own code of other programs, of a synthetic head that is nobody's.

    python make.py study FOLDER                     # with LesionLens and its tests
    python make.py objects FOLDER NAME…             # with what is named below, and dcmqi on PATH

The second wants environments of its own: dcmqi 1.5.7, highdicom 0.28.2, TotalSegmentator 2.18.0
(without nnU-Net) and monai-deploy-app-sdk 4.0.0 with holoscan-cu12 4.6.0 (which loads without a
GPU) for all names but pydicom_seg, which is pydicom-seg 0.4.1 with pydicom below 3.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import nibabel as nib
import numpy as np

HERE = Path(__file__).parent
TISSUE, ABNORMAL = ("85756007", "Tissue"), ("49755003", "Morphologically Altered Structure")
ANATOMY, BRAIN = ("123037004", "Anatomical Structure"), ("12738006", "Brain")
NECROSIS, OEDEMA = ("6574001", "Necrosis"), ("79654002", "Edema")
MASS, NEOPLASM = ("4147007", "Mass"), ("108369006", "Neoplasm")


def write_the_study(folder: Path) -> None:
    """Write the synthetic head, `labels.nii.gz` and `components.nii.gz` on its T1c."""
    sys.path.insert(0, str(HERE.parents[4]))
    from tests.unit.results.review.test_other_programs import drawn_head

    analysis = drawn_head(folder)
    grid = analysis.volumes.labels.grid
    for name, values in (
        ("labels", analysis.volumes.labels.data),
        ("components", analysis.findings.components),
    ):
        nib.save(nib.Nifti1Image(values.astype(np.uint8), grid.affine), folder / f"{name}.nii.gz")


class Head:
    """What `write_the_study` left: T1c's files, and arrays by column, row, slice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (self.source,) = (folder / "study").iterdir()
        image = nib.load(folder / "labels.nii.gz")
        self.affine, self.labels = image.affine, np.asarray(image.dataobj)
        self.components = np.asarray(nib.load(folder / "components.nii.gz").dataobj)

    @property
    def datasets(self) -> list:
        import pydicom

        found = [pydicom.dcmread(path) for path in self.source.iterdir()]
        return sorted(found, key=lambda one: float(one.ImagePositionPatient[2]))


def code(pair: tuple[str, str]) -> dict[str, str]:
    return {"CodeValue": pair[0], "CodingSchemeDesignator": "SCT", "CodeMeaning": pair[1]}


def about(segments: list[dict], **more: str) -> dict:
    """Return metadata as dcmqi wants them; each segment in a file of its own."""
    return {
        "ContentCreatorName": "Slicer",
        "ClinicalTrialSeriesID": "1",
        "ClinicalTrialTimePointID": "1",
        "ClinicalTrialCoordinatingCenterName": "QIICR",
        "SeriesDescription": "Segmentation",
        "SeriesNumber": "101",
        "InstanceNumber": "1",
        **more,
        "segmentAttributes": [[segment] for segment in segments],
    }


def segment(label: str, category: tuple, kind: tuple, **more: object) -> dict:
    return {
        "labelID": 1,
        "SegmentLabel": label,
        "SegmentDescription": category[1],
        "SegmentAlgorithmType": "MANUAL",
        "SegmentedPropertyCategoryCodeSequence": code(category),
        "SegmentedPropertyTypeCodeSequence": code(kind),
        "recommendedDisplayRGBValue": [128, 174, 128],
        **more,
    }


def by_dcmqi(head: Head, masks: list, metadata: dict, out: Path, *flags: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        files = [Path(scratch) / f"{n}.nii.gz" for n in range(len(masks))]
        for path, mask in zip(files, masks, strict=True):
            nib.save(nib.Nifti1Image(mask.astype(np.uint8), head.affine), path)
        (Path(scratch) / "about.json").write_text(json.dumps(metadata))
        subprocess.run(
            ["itkimage2segimage", "--inputImageList", ",".join(map(str, files)),
             "--inputDICOMDirectory", head.source, "--inputMetadata", Path(scratch) / "about.json",
             "--outputDICOM", out, *flags], check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip


def dcmqi(head: Head, out: Path) -> None:
    parts = [
        ("necrotic core", NECROSIS, 1),
        ("edema", OEDEMA, 2),
        ("enhancing", ("86049000", "Neoplasm, Primary"), 3),
    ]
    more = {"SegmentAlgorithmType": "SEMIAUTOMATIC", "SegmentAlgorithmName": "GrowCut"}
    segments = [segment(name, ABNORMAL, kind, **more) for name, kind, _ in parts]
    by_dcmqi(head, [head.labels == label for *_, label in parts], about(segments), out, "--skip")


def slicer(head: Head, out: Path) -> None:
    """As its Segmentations are exported: dcmqi with metadata that its own code writes."""
    segments = [segment(f"Segment_{n}", TISSUE, TISSUE) for n in (1, 2)]
    by_dcmqi(head, [head.components == n for n in (1, 2)], about(segments), out, "--skip")


def dcmqi_report(head: Head, out: Path) -> None:
    """A report (TID 1500) on dcmqi's Segmentation."""
    import pydicom

    seg = pydicom.dcmread(HERE / "dcmqi.dcm")
    names = sorted(path.name for path in head.source.iterdir())
    measured = {
        "TrackingIdentifier": "Measurements group 1",
        "ReferencedSegment": 1,
        "SourceSeriesForImageSegmentation": str(head.datasets[0].SeriesInstanceUID),
        "segmentationSOPInstanceUID": str(seg.SOPInstanceUID),
        "Finding": code(MASS),
        "FindingSite": code(BRAIN),
        "measurementItems": [
            {
                "value": "1.5",
                "quantity": {
                    "CodeValue": "118565006",
                    "CodingSchemeDesignator": "SCT",
                    "CodeMeaning": "Volume",
                },
                "units": {"CodeValue": "ml", "CodingSchemeDesignator": "UCUM", "CodeMeaning": "ml"},
            }
        ],
    }
    metadata = {
        "@schema": "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/schemas/sr-tid1500-schema.json#",
        "SeriesDescription": "Measurements",
        "SeriesNumber": "1001",
        "InstanceNumber": "1",
        "compositeContext": ["dcmqi.dcm"],
        "imageLibrary": names,
        "observerContext": {"ObserverType": "PERSON", "PersonObserverName": "Reader1"},
        "VerificationFlag": "UNVERIFIED",
        "CompletionFlag": "COMPLETE",
        "activitySession": "1",
        "timePoint": "1",
        "Measurements": [measured],
    }
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "about.json").write_text(json.dumps(metadata))
        subprocess.run(
            ["tid1500writer", "--inputImageLibraryDirectory", head.source,
             "--inputCompositeContextDirectory", HERE, "--inputMetadata",
             Path(scratch) / "about.json", "--outputDICOM", out],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip


def pydicom_seg(head: Head, out: Path) -> None:
    import pydicom_seg as package
    import SimpleITK as sitk

    parts = (("Core", NECROSIS), ("Edema", OEDEMA), ("Enhancing", NEOPLASM))
    more = {"SegmentAlgorithmType": "AUTOMATIC", "SegmentAlgorithmName": "net"}
    segments = [
        segment(name, ABNORMAL, kind, labelID=n, **more) for n, (name, kind) in enumerate(parts, 1)
    ]
    metadata = about([])
    metadata["segmentAttributes"] = [segments]
    template = package.template.from_dcmqi_metainfo(metadata)
    datasets = head.datasets
    image = sitk.GetImageFromArray(head.labels.T.astype(np.uint8))
    first, second = (np.array(d.ImagePositionPatient, float) for d in datasets[:2])
    image.SetOrigin(first.tolist())
    spacing = [float(v) for v in datasets[0].PixelSpacing]
    image.SetSpacing([spacing[1], spacing[0], float(np.linalg.norm(second - first))])
    turn = np.array(datasets[0].ImageOrientationPatient, float).reshape(2, 3)
    image.SetDirection(np.stack([*turn, np.cross(*turn)], axis=1).ravel().tolist())
    package.MultiClassWriter(template=template).write(image, datasets).save_as(out)


def highdicom(head: Head, out: Path) -> None:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    parts = [
        ("whole tumor", codes.SCT.Neoplasm, (1, 2, 3)),
        ("enhancing", codes.cid7169.EnhancingLesion, (3,)),
    ]
    described = [
        hd.seg.SegmentDescription(
            n, name, codes.SCT.MorphologicallyAbnormalStructure, kind, "AUTOMATIC",
            hd.AlgorithmIdentificationSequence("net", codes.DCM.ArtificialIntelligence, "1"),
            tracking_uid=hd.UID(), tracking_id=name,
        )
        for n, (name, kind, _) in enumerate(parts, 1)
    ]  # fmt: skip
    frames = np.stack([np.isin(head.labels, labels) for *_, labels in parts], axis=-1)
    hd.seg.Segmentation(
        head.datasets, frames.transpose(2, 1, 0, 3).astype(np.uint8), "BINARY", described,
        hd.UID(), 50, hd.UID(), 1, "Somebody", "Other", "1", "1",
    ).save_as(out)  # fmt: skip


def totalsegmentator(head: Head, out: Path) -> None:
    sys.modules.setdefault("torch", types.ModuleType("torch"))  # for its choice of a device alone
    from totalsegmentator.dicom_io import save_mask_as_dicomseg

    values = np.where(head.labels > 0, 2, 1).astype(np.uint8)[:, ::-1]  # as dcm2niix turns it
    names = {1: "brain", 2: "intracerebral_hemorrhage"}
    save_mask_as_dicomseg(values, names, head.source, out, head.affine)


def monai_deploy(head: Head, out: Path) -> None:
    import monai.deploy.core
    from monai.deploy.core import Fragment
    from monai.deploy.core.domain.dicom_series import DICOMSeries
    from pydicom.sr.codedict import codes

    # the folder's own __init__ wants torch for operators that are not used here
    folder = types.ModuleType("monai.deploy.operators")
    folder.__path__ = [str(Path(monai.deploy.core.__file__).parents[1] / "operators")]
    sys.modules[folder.__name__] = folder
    writer = importlib.import_module("monai.deploy.operators.dicom_seg_writer_operator")
    described = writer.SegmentDescription(
        segment_label="Tumor",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Neoplasm,
        algorithm_name="brats_mri_segmentation",
        algorithm_version="0.4.8",
    )
    with tempfile.TemporaryDirectory() as scratch:
        operator = writer.DICOMSegmentationWriterOperator(
            Fragment(), segment_descriptions=[described], output_folder=Path(scratch)
        )
        series = DICOMSeries("series")
        for dataset in head.datasets:
            series.add_sop_instance(dataset)
        mask = (head.labels > 0).astype(np.uint8).transpose(2, 1, 0)
        operator.create_dicom_seg(mask, series, Path(scratch))
        (found,) = Path(scratch).glob("*.dcm")
        out.write_bytes(found.read_bytes())


def main() -> None:
    """Do what the arguments say."""
    wanted, folder = sys.argv[1], Path(sys.argv[2])
    if wanted == "study":
        write_the_study(folder)
        return
    head = Head(folder)
    makers = (dcmqi, dcmqi_report, slicer, highdicom, pydicom_seg, totalsegmentator, monai_deploy)
    for make in (one for one in makers if one.__name__ in sys.argv[3:]):
        out = HERE / f"{make.__name__}.dcm"
        out.unlink(missing_ok=True)
        make(head, out)


if __name__ == "__main__":
    main()
