"""Coded concepts for DICOM: value, scheme, meaning; tests check each in pydicom's dictionary.

Values are those of PS3.16: CID 7168/7169 for tumour parts, TID 1500 for measures, CID 217 for
saliency.
"""

from __future__ import annotations

from typing import NamedTuple

from lesionlens.base.labels import Label, Region, ReviewState, Source
from lesionlens.base.records.response import Response


class Code(NamedTuple):
    """A coded concept."""

    value: str
    scheme: str
    meaning: str


MANUFACTURER = "LesionLens"
"""Manufacturer in every LesionLens DICOM object."""
LESION_OF_BRAIN = Code("301766008", "SCT", "Lesion of brain")
ABNORMAL_STRUCTURE = Code("49755003", "SCT", "Morphologically Abnormal Structure")
BRAIN = Code("12738006", "SCT", "Brain")
PLACES = {
    "frontal lobe": Code("83251001", "SCT", "Frontal lobe"),
    "parietal lobe": Code("16630005", "SCT", "Parietal lobe"),
    "temporal lobe": Code("78277001", "SCT", "Temporal lobe"),
    "occipital lobe": Code("31065004", "SCT", "Occipital lobe"),
    "insula": Code("36169008", "SCT", "Insula"),
    "thalamus": Code("42695009", "SCT", "Thalamus"),
    "hippocampus": Code("5366008", "SCT", "Hippocampus"),
    "cerebellum": Code("113305005", "SCT", "Cerebellum"),
    "brainstem": Code("119238007", "SCT", "Brain Stem"),
    "corpus callosum": Code("88442005", "SCT", "Corpus callosum"),
}
"""Brain regions by their name in `records.findings.Location`; others are coded as brain."""
LEFT = Code("7771000", "SCT", "Left")
RIGHT = Code("24028007", "SCT", "Right")
BILATERAL = Code("51440002", "SCT", "Right and left")
VOLUME = Code("118565006", "SCT", "Volume")
LONG_AXIS = Code("103339001", "SCT", "Long axis")
SHORT_AXIS = Code("103340004", "SCT", "Short axis")
SALIENCY = Code("130404", "DCM", "Saliency")
CERTAINTY = Code("111012", "DCM", "Certainty of Finding")
PROBABILITY = Code("122157", "DCM", "Probability")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
OF_INTEREST = Code("113000", "DCM", "Of Interest")
VISUAL_EXPLANATION = Code("130401", "DCM", "Visual explanation")
COMMENT = Code("121106", "DCM", "Comment")
QUALITATIVE = Code("C0034375", "UMLS", "Qualitative Evaluations")
MEASUREMENT_GROUP = Code("125007", "DCM", "Measurement Group")
ENGLISH = Code("en", "RFC5646", "English")
BRAIN_MRI = Code("24590-2", "LN", "Brain MRI")
CUBIC_CENTIMETRE = Code("cm3", "UCUM", "cubic centimeter")
RANO = Code("C114879", "NCIt", "RANO")

OWN_SCHEME = "99LESIONLENS"
"""For concepts without a public code; DICOM reserves schemes that begin with 99."""
TUMOUR_CORE = Code("tumour-core", OWN_SCHEME, "Core of the lesion")
CONCLUSION = Code("conclusion", OWN_SCHEME, "Conclusion of the algorithm")
NO_CANDIDATE = Code("no-candidate", OWN_SCHEME, "No candidate region; does not exclude disease")
NONE_ACCEPTED = Code("none-accepted", OWN_SCHEME, "No candidate was accepted by the reader")
REVIEW_STATE = Code("review-state", OWN_SCHEME, "State of the reader's review")
REVIEW_STATES = {
    state: Code(state.value, OWN_SCHEME, state.value.capitalize()) for state in ReviewState
}

LIMIT = Code("limit", OWN_SCHEME, "Limitation of the result")
REJECTED_FOR_QUALITY = Code("113001", "DCM", "Rejected for Quality Reasons")

REVIEW = Code("review", OWN_SCHEME, "Review of the result by a person")
REVIEW_DONE = Code("review-done", OWN_SCHEME, "Every candidate was decided on")
REVIEW_BEGUN = Code("review-begun", OWN_SCHEME, "Some candidates were decided on")
REVIEW_NONE = Code("review-none", OWN_SCHEME, "Nobody has reviewed this result")
OMITTED = Code("omitted", OWN_SCHEME, "Number of candidates that these objects omit")
OMITTED_DECIDED = Code(
    "omitted-decided", OWN_SCHEME, "Number of omitted candidates that a reader decided on"
)
REVIEW_SIGNED = Code(
    "review-signed", OWN_SCHEME, "Statement on the whole study that the reader signed"
)
SOURCE = Code("source", OWN_SCHEME, "Who flagged the region")
SOURCES = {
    Source.NETWORK: Code("source-network", OWN_SCHEME, "The algorithm"),
    Source.READER: Code("source-reader", OWN_SCHEME, "A reader"),
    Source.SEGMENTATION: Code("source-others", OWN_SCHEME, "A third-party segmentation"),
}
SENTENCE = Code("sentence", OWN_SCHEME, "Sentence to paste into a report")
READER_DIAMETERS = Code(
    "reader-diameters", OWN_SCHEME, "Ends of both diameters as the reader placed them, mm (LPS)"
)
PROMPTED = Code("prompted", OWN_SCHEME, "Prompts that a reader gave for the outline")
RESPONSE = Code("response", OWN_SCHEME, "Response to treatment that the reader signed")
RESPONSE_BASIS = Code("response-basis", OWN_SCHEME, "Basis on which the response was assessed")
RESPONSE_MEASURES = Code(
    "response-figures", OWN_SCHEME, "Measurements from which the response was computed"
)
RESPONSES = {
    Response.COMPLETE: Code("112041", "DCM", "Target Lesion Complete Response"),
    Response.PARTIAL: Code("112042", "DCM", "Target Lesion Partial Response"),
    Response.PROGRESSION: Code("112043", "DCM", "Target Lesion Progressive Disease"),
    Response.STABLE: Code("112044", "DCM", "Target Lesion Stable Disease"),
    Response.NOT_ASSESSABLE: Code("response-ne", OWN_SCHEME, "Response not assessable"),
}
ABSENT_VOLUMES = {
    region: Code(f"volume-{region.value}", OWN_SCHEME, f"{region.display_name.capitalize()} volume")
    for region in (Region.TC, Region.ET)
}
"""Volume of a region that a candidate lacks. Not `VOLUME`: a program that looks for that code would
read 0 ml beside the volume of the group's own region.
"""
REVIEW_READER = Code("review-reader", OWN_SCHEME, "Reader who decided")
REVIEW_TIME = Code("review-time", OWN_SCHEME, "Time of the decision, UTC")
REVIEW_REASON = Code("review-reason", OWN_SCHEME, "Reason that the reader gave")

LABEL_TYPES = {
    Label.ENHANCING: Code("C113842", "NCIt", "Enhancing Lesion"),
    Label.CORE: Code("C81175", "NCIt", "Non-Enhancing Lesion"),
    Label.OEDEMA: Code("79654002", "SCT", "Edema"),
    Label.CAVITY: Code("resection-cavity", OWN_SCHEME, "Resection cavity"),
}
"""The segmented property type of each voxel label."""
REGION_TYPES = {
    Region.WT: LESION_OF_BRAIN,
    Region.TC: TUMOUR_CORE,
    Region.ET: LABEL_TYPES[Label.ENHANCING],
}
"""The coded type of each region; "neoplasm" would be a diagnosis, which is left to a person."""
