"""Coded concepts for DICOM: value, scheme, meaning; tests look each one up in pydicom's dictionary.

Values are those of PS3.16: CID 7168/7169 for tumour parts, TID 1500 for measures, CID 217 for
saliency.
"""

from __future__ import annotations

from typing import NamedTuple

from lesionlens.base.labels import Label


class Code(NamedTuple):
    """A coded concept."""

    value: str
    scheme: str
    meaning: str


LESION_OF_BRAIN = Code("301766008", "SCT", "Lesion of brain")
ABNORMAL_STRUCTURE = Code("49755003", "SCT", "Morphologically Abnormal Structure")
BRAIN = Code("12738006", "SCT", "Brain")
LEFT = Code("7771000", "SCT", "Left")
RIGHT = Code("24028007", "SCT", "Right")
BILATERAL = Code("51440002", "SCT", "Right and left")
VOLUME = Code("118565006", "SCT", "Volume")
LONG_AXIS = Code("103339001", "SCT", "Long axis")
SHORT_AXIS = Code("103340004", "SCT", "Short axis")
PERPENDICULAR = Code("131189007", "SCT", "Perpendicular axis")
SALIENCY = Code("130404", "DCM", "Saliency")
CERTAINTY = Code("111012", "DCM", "Certainty of Finding")
PROBABILITY = Code("122157", "DCM", "Probability")

LABEL_TYPES = {
    Label.ENHANCING: Code("C113842", "NCIt", "Enhancing Lesion"),
    Label.CORE: Code("C81175", "NCIt", "Non-Enhancing Lesion"),
    Label.OEDEMA: Code("79654002", "SCT", "Edema"),
}
"""The segmented property type of each voxel label."""
