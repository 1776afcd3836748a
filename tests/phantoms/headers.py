"""Valid and complete DICOM headers of synthetic MR series, of no real person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nibabel.orientations import aff2axcodes
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from lesionlens.base import geometry
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.arrays import Volume


@dataclass(frozen=True, slots=True)
class SequenceProtocol:
    """Header values of one sequence; times in ms."""

    description: str
    echo: float
    repetition: float
    inversion: float | None = None
    agent: str | None = None


PROTOCOLS = {
    MrSequence.T1: SequenceProtocol("T1", 10, 550),
    MrSequence.T1C: SequenceProtocol("T1 POST", 10, 550, agent="GADOLINIUM"),
    MrSequence.T2: SequenceProtocol("T2", 95, 4500),
    MrSequence.FLAIR: SequenceProtocol("FLAIR", 120, 9000, inversion=2500),
}


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """The patient in the headers; by default a synthetic one."""

    name: str = "Synthetic^Phantom"
    patient_id: str = "SYNTHETIC-1"
    study: str = "1"
    date: str = "20260105"

    def uid(self, *parts: object) -> str:
        """Return the same UID for the same parts."""
        return str(generate_uid(entropy_srcs=[self.patient_id, self.study, *map(str, parts)]))


NOBODY = PatientIdentity()


def instances(
    volume: Volume,
    sequence: MrSequence,
    number: int,
    identity: PatientIdentity,
    *,
    shuffled: bool = False,
) -> list[Dataset]:
    """Return one MR Image dataset per slice, in the order of k.

    Parameters
    ----------
    volume : Volume
        (I, J, K) scanner units 0 to 4095; i runs along a row, j down the rows, k over slices.
    sequence : MrSequence
        Determines description and timing.
    number : int
        Series Number.
    identity : PatientIdentity
        Names and UIDs.
    shuffled : bool
        Whether Instance Numbers are in another order than the positions.
    """
    top = max(float(volume.data.max()), 1.0)
    scale = min(1.0, 4095.0 / top)
    pixels = np.clip(np.rint(volume.data * scale), 0, 4095).astype("<u2")
    count = pixels.shape[2]
    numbers = np.arange(1, count + 1)
    if shuffled:
        numbers = np.random.default_rng(count).permutation(numbers)
    series = []
    for k in range(count):
        dataset = _header(sequence, number, identity, plane=_plane(volume))
        dataset.SOPInstanceUID = identity.uid("instance", sequence, k)
        dataset.InstanceNumber = int(numbers[k])
        _write_position(dataset, volume, k)
        _write_pixels(dataset, pixels[:, :, k], int(pixels.max()))
        series.append(dataset)
    return series


def _plane(volume: Volume) -> str:
    return {"L": "SAG", "R": "SAG", "A": "COR", "P": "COR"}.get(
        aff2axcodes(volume.grid.affine)[2], "AX"
    )


def _header(sequence: MrSequence, number: int, identity: PatientIdentity, *, plane: str) -> Dataset:
    """Return the attributes shared by all instances of a series, without geometry."""
    dataset = Dataset()
    _describe_study(dataset, identity)
    protocol = PROTOCOLS[sequence]
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    dataset.SOPClassUID = MRImageStorage
    dataset.SeriesInstanceUID = identity.uid("series", sequence)
    dataset.SeriesNumber = number
    dataset.SeriesDescription = dataset.ProtocolName = f"{plane} {protocol.description}"
    if protocol.agent:
        dataset.ContrastBolusAgent = protocol.agent
    inverted = protocol.inversion is not None
    dataset.ScanningSequence = ["SE", "IR"] if inverted else "SE"
    dataset.SequenceVariant = "NONE"
    dataset.ScanOptions = ""
    dataset.MRAcquisitionType = "2D"
    dataset.RepetitionTime, dataset.EchoTime = protocol.repetition, protocol.echo
    if inverted:
        dataset.InversionTime = protocol.inversion
    dataset.EchoTrainLength = 1
    dataset.MagneticFieldStrength = 3.0
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _describe_study(dataset: Dataset, identity: PatientIdentity) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.StudyDate = dataset.SeriesDate = identity.date
    dataset.AcquisitionDate = dataset.ContentDate = identity.date
    dataset.StudyTime = dataset.SeriesTime = "101500"
    dataset.AcquisitionTime = dataset.ContentTime = "101500"
    dataset.AccessionNumber = ""
    dataset.Modality = "MR"
    dataset.Manufacturer = "LesionLens"
    dataset.ManufacturerModelName = "Synthetic phantom"
    dataset.DeviceSerialNumber = "0"
    dataset.SoftwareVersions = "1"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "SYNTHETIC HEAD, NOT A PERSON"
    dataset.PatientName = identity.name
    dataset.PatientID = identity.patient_id
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    dataset.BodyPartExamined = "HEAD"
    dataset.PatientPosition = "HFS"
    dataset.StudyInstanceUID = identity.uid("study")
    dataset.StudyID = "1"
    dataset.FrameOfReferenceUID = identity.uid("frame")
    dataset.PositionReferenceIndicator = ""


def _write_position(dataset: Dataset, volume: Volume, k: int) -> None:
    """Write position, orientation and spacing of slice k (DICOM's LPS+ mm)."""
    lps = geometry.lps_from_ras(volume.affine)
    spacing = volume.grid.spacing_mm
    direction = lps[:3, :3] / spacing
    dataset.AcquisitionNumber = 1
    dataset.SliceThickness = dataset.SpacingBetweenSlices = _decimal_string(spacing[2])
    dataset.PixelSpacing = [_decimal_string(spacing[1]), _decimal_string(spacing[0])]
    cosines = (*direction[:, 0], *direction[:, 1])
    dataset.ImageOrientationPatient = [_decimal_string(value) for value in cosines]
    position = geometry.apply(lps, (0, 0, k))
    dataset.ImagePositionPatient = [_decimal_string(value) for value in position]


def _write_pixels(dataset: Dataset, pixels: NDArray[np.uint16], top: int) -> None:
    """Write the (I, J) pixels of one slice, rows first as DICOM requires them."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[1], pixels.shape[0]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.WindowCenter, dataset.WindowWidth = max(top, 2) // 2, max(top, 1)
    dataset.PixelData = np.ascontiguousarray(pixels.T).tobytes()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID


def _decimal_string(value: float) -> str:
    """Return a decimal string of at most 16 characters."""
    return f"{float(value):.9f}"[:16]
