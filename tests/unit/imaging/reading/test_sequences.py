"""Which sequence it is, and on what evidence."""

import pytest

from lesionlens.base.labels import MrSequence
from lesionlens.imaging.reading.sequences import (
    AcquisitionParameters,
    acquisition_of_sidecar,
    from_acquisition,
    from_name,
    from_name_loosely,
)

T1, T1C, T2, FLAIR = MrSequence.T1, MrSequence.T1C, MrSequence.T2, MrSequence.FLAIR


@pytest.mark.parametrize(
    ("name", "sequence"),
    [
        ("t1.nii.gz", T1),
        ("T1w.nii", T1),
        ("BraTS-GLI-00001-000-t1n.nii.gz", T1),
        ("BraTS-GLI-00001-000-t1c.nii.gz", T1C),
        ("BraTS2021_00006_t1ce.nii.gz", T1C),
        ("patient_T1GD.nii.gz", T1C),
        ("t1post.nii.gz", T1C),
        ("t1_gd.nii.gz", T1C),
        ("T1w gadovist.nii.gz", T1C),
        ("t1 post.nii.gz", T1C),
        ("ax_t1_contrast.nii.gz", T1C),
        ("sub-01_ce-gadolinium_T1w.nii.gz", T1C),
        ("t1_pre_contrast.nii.gz", T1),
        ("sub-01_ses-post_T1w.nii.gz", T1),  # after surgery, not after the agent
        ("ses-postop_run-1_t1.nii.gz", T1),
        ("sub-gad01_T1w.nii.gz", T1),
        ("sub-01_ses-pre_ce-gadolinium_T1w.nii.gz", T1C),
        ("sub-mask01_ses-seg_T2w.nii.gz", T2),
        ("sub-01_ses-post_acq-post_T1w.nii.gz", T1C),
        ("t2.nii.gz", T2),
        ("sub-01_ses-2_T2w.nii.gz", T2),
        ("BraTS-GLI-00001-000-t2w.nii.gz", T2),
        ("t2_flair.nii.gz", FLAIR),
        ("BraTS-GLI-00001-000-t2f.nii.gz", FLAIR),
        ("sub-01_FLAIR.nii.gz", FLAIR),
        ("seg.nii.gz", None),
        ("flair_mask.nii.gz", None),
        ("a.nii.gz", None),
        ("sub-01_dwi.nii.gz", None),
    ],
)
def test_the_words_of_a_name_tell_the_sequence(name, sequence):
    assert from_name(name).sequence is sequence


def test_a_part_of_a_word_is_weaker_evidence_than_a_word():
    loose = from_name_loosely("AxT2FLAIR.nii.gz")
    assert loose.sequence is FLAIR
    assert loose.confidence < from_name("ax_flair.nii.gz").confidence


@pytest.mark.parametrize(
    ("description", "sequence"),
    [
        ("AX T1 POST", T1C),
        ("t1_mprage_sag_p2_iso", T1),
        ("t1_mprage_sag KM", T1C),
        ("T1 nativ tra", T1),
        ("t2_tse_tra", T2),
        ("t2_tirm_tra_dark-fluid", FLAIR),
        ("Sag CUBE FLAIR", FLAIR),
        ("Ax T1 FLAIR", T1),
        ("Ax T1 FLAIR +C", T1C),
        ("SAG 3D T1 SIN CONTRASTE", T1),
        ("AX T1 CON CONTRASTE", T1C),
        ("T1 sans injection", T1),
        ("3D T1 GADO", T1C),
        ("T1 mdc", T1C),
        ("T1 FSPGR +C", T1C),
        ("Т2 аксиально", T2),  # noqa: RUF001
        ("Т1 с контрастом", T1C),  # noqa: RUF001
        ("Т1 без контраста", T1),  # noqa: RUF001
        ("localizer", None),
        ("t2_localizer_3plane", None),
        ("ep2d_diff_trace ADC", None),
        ("AX T2* GRE", None),
        ("SWI mIP", None),
        ("TOF 3D circle of Willis", None),
        ("PD TSE", None),
    ],
)
def test_descriptions_in_several_languages(description, sequence):
    assert from_acquisition(AcquisitionParameters(description=description)).sequence is sequence


@pytest.mark.parametrize(
    ("found", "sequence"),
    [
        (AcquisitionParameters(te_ms=10, tr_ms=550, scanning=("SE",)), T1),
        (AcquisitionParameters(te_ms=10, tr_ms=550, scanning=("SE",), agent="GADOVIST"), T1C),
        (AcquisitionParameters(te_ms=95, tr_ms=4500, scanning=("SE",)), T2),
        (AcquisitionParameters(te_ms=120, tr_ms=9000, ti_ms=2500, scanning=("SE", "IR")), FLAIR),
        (AcquisitionParameters(te_ms=3, tr_ms=2300, ti_ms=900, scanning=("GR", "IR")), T1),
        (AcquisitionParameters(te_ms=25, tr_ms=600, scanning=("GR",)), None),
        (AcquisitionParameters(te_ms=80, tr_ms=5000, scanning=("EP",)), None),
        (AcquisitionParameters(), None),
    ],
)
def test_timing_tells_where_words_are_silent(found, sequence):
    assert from_acquisition(found).sequence is sequence


def test_words_and_timing_that_differ_lower_the_confidence():
    agreed = from_acquisition(AcquisitionParameters(description="T2 TSE", te_ms=95, tr_ms=4500))
    contrary = from_acquisition(AcquisitionParameters(description="T2 TSE", te_ms=10, tr_ms=500))
    assert agreed.sequence is contrary.sequence is T2
    assert contrary.confidence < 0.6 < agreed.confidence
    assert "timing" in contrary.evidence


def test_a_recorded_agent_makes_t1_t1c_but_not_when_it_lies_before():
    assert (
        from_acquisition(AcquisitionParameters(description="AX T1", agent="Dotarem")).sequence
        is T1C
    )
    assert (
        from_acquisition(AcquisitionParameters(description="AX T1 PRE", agent="Dotarem")).sequence
        is T1
    )


def test_a_sidecar_counts_in_seconds():
    found = acquisition_of_sidecar(
        {"EchoTime": 0.12, "RepetitionTime": 9, "InversionTime": 2.5, "ScanningSequence": "SE_IR"}
    )
    assert from_acquisition(found).sequence is FLAIR


@pytest.mark.parametrize("value", [None, "", "x", [], {}, float("nan"), -1, 1e12])
def test_impossible_values_in_a_sidecar_are_silence(value):
    found = acquisition_of_sidecar({"EchoTime": value, "RepetitionTime": value})
    assert found.te_ms is None
