"""Multi-frame studies for clients, made of classic ones."""

import random
import shutil

import pydicom
from highdicom.legacy import LegacyConvertedEnhancedMRImage
from pydicom.uid import generate_uid

from lesionlens.imaging.reading.dicom.files import ENHANCED_MR


def in_frames(folder, *, enhanced):
    """Put each series into one multi-frame file, its frames in no order."""
    for number, place in enumerate(sorted(p for p in folder.iterdir() if p.is_dir()), 1):
        datasets = [pydicom.dcmread(path) for path in sorted(place.iterdir())]
        random.Random(3).shuffle(datasets)
        image = LegacyConvertedEnhancedMRImage(
            datasets,
            series_instance_uid=generate_uid(),
            series_number=number,
            sop_instance_uid=generate_uid(),
            instance_number=1,
        )
        image.SeriesDescription = datasets[0].SeriesDescription
        if enhanced:
            image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = ENHANCED_MR
        shutil.rmtree(place)
        image.save_as(folder / f"{number}.dcm")
