"""Which free text may be kept: descriptions of known words only (Clean Descriptors).

A text with one unknown word is removed entirely: without "pre" or "no" the remainder could state
the opposite.
"""

from __future__ import annotations

import re

from lesionlens.base.labels import RESEARCH_USE_NOTICE, Label, Region

_ACQUISITION = """
t1 t1w t1c t1ce t1gd t2 t2w t2f t2star flair tirm stir ir tse fse se gre ge spgr fspgr mprage
mp2rage bravo cube space vista vibe thrive tfe ffe tfl epi fl3d fl2d 2d 3d ax axial tra trans
transversal sag sagittal cor coronal obl iso mpr ce gd gad gado gadolinium contrast post pre
native without no non with km ohne mit nach vor nativ plain after before w wo o out precontrast
postcontrast noncontrast enhanced unenhanced avant apres sans injection sin antes sem senza prima
dopo zonder voor contraste contrasto kontrast kontrastmittel mdc fs fatsat sat stir dark
fluid p2 p3 p4 grappa sense hr thin thick adc dwi trace b0 b1000 swi swan pd perf dsc dce asl tof
mra mr mri irm rm fmri dti nd dis2d dis3d norm filt map mag phase ref localizer localiser scout
survey loc mm
"""
_ANATOMY = """
head brain skull neck cranium cranial cerebral neuro schaedel kopf hirn study exam series protocol
routine standard follow up followup baseline tumour tumor glioma metastasis metastases navigation
stealth left right bilateral
"""
_OWN_OBJECTS = f"""
lesionlens lens candidate candidates region regions key images image measurements attention
network segmentation research use only of the or and to every is it in where each largest score
volume state review weights sha256 sha cross query voxel core whole enhancing enhancement
unreviewed accepted rejected deferred edited added signed reader nobody has reviewed conclusion
found that exclude disease contribution acquisition equipment source software library used create
this instance visual explanation long short axis calibrated probability certainty segment lesion
contours slices outlines burned
{RESEARCH_USE_NOTICE}
{" ".join(member.display_name for members in (Label, Region) for member in members)}
"""
_TOKEN = re.compile(r"[^\W_]+", re.UNICODE)
_NUMBER_OR_DIGEST = re.compile(r"\d{1,3}(mm)?|(?=\d*[a-f])[0-9a-f]{16}|[0-9a-f]{64}")
"""Short numbers, lengths, and digests as in LesionLens objects; 16 digits may be an identifier."""
_DATE_OR_NUMBER = re.compile(
    r"(?<!\d)\d{1,3}(?:\s*([^\w\s]|_)\s*\d{1,3}\s*\1\s*|\s+\d{1,3}\s+)\d{1,3}(?!\d)"
)
"""Three short numbers in a row: a date or an identifier in groups, as 5. 3. 60 or 12-345-678."""
_ACQUISITION_TOKENS = sorted(set(_ACQUISITION.split()), key=len, reverse=True)
_KNOWN_WORDS = frozenset(_TOKEN.findall(f"{_ACQUISITION} {_ANATOMY} {_OWN_OBJECTS}".lower()))
_JOINED_TOKENS = re.compile(
    f"(?:{'|'.join(map(re.escape, (t for t in _ACQUISITION_TOKENS if len(t) > 1)))})+"
)


def is_plain(text: str) -> bool:
    """Return whether a text consists of known words and short numbers only.

    Examples
    --------
    >>> is_plain("AX T1_MPRAGE post Gd 1 mm"), is_plain("AxT2FLAIR"), is_plain("T1 Miller 1960")
    (True, True, False)
    >>> is_plain("T1 5.3.60"), is_plain("T1 5. 3. 60"), is_plain("T1 0.5 3mm")
    (False, False, True)
    """
    return not _DATE_OR_NUMBER.search(text) and all(
        token in _KNOWN_WORDS
        or _NUMBER_OR_DIGEST.fullmatch(token)
        or _JOINED_TOKENS.fullmatch(token)
        for token in _TOKEN.findall(text.lower())
    )
