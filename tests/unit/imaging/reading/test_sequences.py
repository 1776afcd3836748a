"""Which sequence it is, and on what evidence."""

import pytest

from lesionlens.base.labels import MrSequence
from lesionlens.imaging.reading.sequences import (
    AcquisitionParameters,
    acquisition_of_sidecar,
    alternative_reading,
    from_acquisition,
    from_name,
    from_partial_name,
)

T1, T1C, T2, FLAIR = MrSequence.T1, MrSequence.T1C, MrSequence.T2, MrSequence.FLAIR


def misread(table, read):
    """Return the texts of a table, by sequence, that are read as another one, and as which."""
    found = {text: read(text).sequence for texts in table.values() for text in texts}
    meant = {text: sequence for sequence, texts in table.items() for text in texts}
    return {text: found[text] for text in meant if found[text] is not meant[text]}


NAMES = {
    T1: (
        "t1.nii.gz", "T1w.nii", "BraTS-GLI-00001-000-t1n.nii.gz", "t1_pre_contrast.nii.gz",
        "AX_T1_W_O_CONTRAST.nii.gz", "t1_before_contrast.nii.gz", "t1_pre_gd_post_op.nii.gz",
        "t1_without_contrast_post_biopsy.nii.gz", "sub-01_ce-none_T1w.nii.gz",
        "sub-01_ses-post_T1w.nii.gz", "ses-postop_run-1_t1.nii.gz", "sub-gad01_T1w.nii.gz",
    ),
    T1C: (
        "BraTS-GLI-00001-000-t1c.nii.gz", "BraTS2021_00006_t1ce.nii.gz", "patient_T1GD.nii.gz",
        "t1post.nii.gz", "t1_gd.nii.gz", "T1w gadovist.nii.gz", "t1 post.nii.gz",
        "ax_t1_contrast.nii.gz", "sub-01_ce-gadolinium_T1w.nii.gz", "AX_T1_POST_WO_FS.nii.gz",
        "sub-01_ses-post_ce-gadolinium_T1w.nii.gz", "sub-01_ses-pre_ce-gadolinium_T1w.nii.gz",
        "sub-01_ses-post_acq-post_T1w.nii.gz",
    ),
    T2: (
        "sub-mask01_ses-seg_T2w.nii.gz", "t2.nii.gz", "sub-01_ses-2_T2w.nii.gz",
        "BraTS-GLI-00001-000-t2w.nii.gz",
    ),
    FLAIR: (
        "t2_flair.nii.gz", "BraTS-GLI-00001-000-t2f.nii.gz", "sub-01_FLAIR.nii.gz",
    ),
    None: (
        "seg.nii.gz", "flair_mask.nii.gz", "a.nii.gz", "sub-01_dwi.nii.gz",
    ),
}  # fmt: skip
"""File names by the sequence that their words tell; after surgery is not after the agent."""


def test_the_words_of_a_name_tell_the_sequence():
    assert misread(NAMES, from_name) == {}


PARTS = {
    T1C: ("AxT1C", "rrT1ce", "T1KM", "T1wKM", "t1wGd", "ceT1", "CT1"),
    T1: (
        "axt1", "AXT1", "brainT1", "MillerT1", "3DT1", "rT1", "UNIT1", "visit2T1", "patient1AxT1",
        "Subject2AxT1", "sub-01_UNIT1",
    ),
    FLAIR: ("FLAIR2T1", "FLAIRtoT1w", "AxFLAIR2T1ce", "AxT2FLAIR"),
    None: (
        "patient1", "Subject2", "timepoint1", "visit2", "test1", "cohort2", "ADC", "patient_swi",
        "sub-01_ses-2_dwi", "asl", "sub-01_inv-1_part-mag_MP2RAGE",
    ),
}  # fmt: skip
"""Names by what parts of their words tell; patient1 and patient2 are no T1 and T2."""


def test_parts_of_words_tell_less_surely():
    assert misread(PARTS, lambda name: from_partial_name(f"{name}.nii.gz")) == {}
    sure, part = from_name("ax_flair.nii.gz"), from_partial_name("AxT2FLAIR.nii.gz")
    assert part.confidence < sure.confidence
    assert from_partial_name("ADC.nii.gz").confidence > 0  # a name that decides


@pytest.mark.parametrize(
    ("name", "assigned", "other"),
    [
        ("T2_to_T1c", T1C, T2),
        ("T1_reg_T1ce_bet", T1C, T1),
        ("sub-01_space-T1c_T2w", T1C, T2),
        ("FLAIR_in_T1c_space", FLAIR, None),
        ("T1c_to_MNI", T1C, None),
        ("T1c_to_T1c", T1C, None),
    ],
)
def test_the_sequence_that_an_image_was_registered_to_is_no_certain_name(name, assigned, other):
    assert from_name(f"{name}.nii.gz").sequence is assigned
    assert alternative_reading(f"{name}.nii.gz", assigned) == (other, False)


DESCRIPTIONS = {
    T1C: (
        "AX T1 POST", "AX T1C+", "AX T1 W/CON", "SAG T1CE FS", "t1_mpr_sag_nachKM",
        "t1_mprage_sag KM", "Ax T1 FLAIR +C", "AX T1 CON CONTRASTE", "3D T1 GADO", "T1 mdc",
        "T1 FSPGR +C", "AX T1 W CONTRAST", "AX T1 GADAVIST", "AX T1 POST W/O FS",
        "AX T1 POSTERIOR FOSSA +C", "AX T1 GD before surgery", "T1 KM vor RT", "T1 GD pre-op",
        "T1 nach KM ohne Fettsaettigung", "T1_mKM", "AX T1 PÓS", "T1WI 造影後", "T1 AX C/C",
        "T1 CON CIV", "T1 tra i.v. KM", "T1 tra Clariscan", "T1WI Gd(+)", "T1 FS(-) Gd(+)",
        "T1 (+)", "T1+", "AX T1W+ FS", "t1+_tra", "\uff34\uff11\uff37\uff29\u3000造影",
        "T1 cerveau GADO",
        "T1 post, pre-op", "AX T1 POST pre RT", "T1 POST PRE-BIOPSY", "T1 post pre-resection",
        "T1 GD pre chemo", "T1 MPRAGE POST PRE GK", "FAT SAT T1 POST", "AxT1C", "ceT1", "T1wKM",
        "Т1 с контрастом",  # noqa: RUF001
    ),
    T1: (
        "t1_mp2rage_UNI-DEN", "AX T1 FAT", "t1_vibe_dixon_FS_W",
        "AX T1 W/O CON", "AX T1 CON FS", "AX T1C PRE", "t1_mprage_sag_p2_iso", "T1 nativ tra",
        "Ax T1 FLAIR", "SAG 3D T1 SIN CONTRASTE", "T1 sans injection", "AX T1 W/O CONTRAST",
        "AX T1 WO GD", "AX T1 NON-CONTRAST", "AX T1 NONCONTRAST", "AX T1 NO CONTRAST",
        "AX T1 BEFORE CONTRAST", "AX T1 PREGAD", "AX T1 POST FOSSA", "AX T1 post-op",
        "T1 prima del mdc", "T1 vor KM", "T1 o. KM", "T1 avant injection",
        "T1 antes de contraste", "T1 sem contraste", "T1 prima mdc", "T1 voor contrast",
        "T1WI 造影前", "AX T1 NON INJECTE", "T1 s/s inj", "T1 SS GADO", "T1 pas d'injection",
        "T1 +/- contrast pre", "T1 post-op - pre-op", "T1+-C",
        "T1 PRÉ-CONTRASTE", "T1 AX S/GD", "T1 tra v. KM", "T1WI Gd(-)", "T1WI 造影なし",
        "Т1 без контраста", "Т1 до контраста",  # noqa: RUF001
    ),
    T2: (
        "t2_tse_tra", "\uff34\uff12\uff37\uff29",
        "Т2 аксиально",  # noqa: RUF001
    ),
    FLAIR: (
        "t2_tirm_tra_dark-fluid", "t2_space_dark-fluid_sag_p2_iso", "t2_spc_da-fl_sag_p2",
        "Sag CUBE FLAIR", "FLAIR PAT1",
    ),
    None: (
        "t1_mp2rage_sag_p3_INV1", "t1_mp2rage_INV2", "t1_vibe_dixon_opp", "t1_vibe_dixon_F",
        "FAT: Ax T1 LAVA-Flex", "SyMRI R2 map", "rCBV",
        "soustraction T1 GADO", "T1 Substraction", "Processed Images", "T1 GD SUBS",
        "Sustracción T1", "差分 T1", "T1 Ktrans", "T1 dinámico", "ダイナミック T1",
        "MP2RAGE_T1_Images", "T1 post - T1 pre", "T1 POST-PRE",
        "AX T1 post contrast - AX T1 pre contrast", "T1 post GD - PRE",
        "SAG T1 CERV", "頸椎 T1", "localizer", "AX T2 C-SPINE", "T1 sag HWS KM",
        "t1_vibe_dynamic KM", "T1_SUBTR", "T2 map", "COR T2 STIR", "t2_localizer_3plane",
        "ep2d_diff_trace ADC", "AX T2* GRE", "SWI mIP", "TOF 3D circle of Willis", "PD TSE",
    ),
}  # fmt: skip
"""Series descriptions, also in full-width letters as of ISO 2022."""


def test_descriptions_in_several_languages():
    assert misread(DESCRIPTIONS, lambda d: from_acquisition(AcquisitionParameters(d))) == {}


@pytest.mark.parametrize(
    ("found", "sequence"),
    [
        (AcquisitionParameters(te_ms=10, tr_ms=550, scanning_sequence=("SE",)), T1),
        (
            AcquisitionParameters(te_ms=10, tr_ms=550, scanning_sequence=("SE",), agent="GADOVIST"),
            T1C,
        ),
        (AcquisitionParameters(te_ms=95, tr_ms=4500, scanning_sequence=("SE",)), T2),
        (
            AcquisitionParameters(
                te_ms=120, tr_ms=9000, ti_ms=2500, scanning_sequence=("SE", "IR")
            ),
            FLAIR,
        ),
        (AcquisitionParameters(te_ms=3, tr_ms=2300, ti_ms=900, scanning_sequence=("GR", "IR")), T1),
        (AcquisitionParameters(te_ms=25, tr_ms=600, scanning_sequence=("GR",)), None),
        (AcquisitionParameters(te_ms=80, tr_ms=5000, scanning_sequence=("EP",)), None),
        (AcquisitionParameters(), None),
    ],
)
def test_timing_tells_where_words_are_silent(found, sequence):
    assert from_acquisition(found).sequence is sequence


OF_T1_TIMING = {
    T1C: (
        "AX POST GAD", "LAVA POST", "nach KM tra", "造影後",
    ),
    T1: (
        "AX PRE GAD", "PC axial",
    ),
    None: (
        "3D PC", "Repérage", "3D FIESTA-C IAC", "t2_ci3d_tra", "4D Flow", "Localisateur",
        "Cal Head 24", "relCBV", "R2*", "Fractional Aniso.",
    ),
}  # fmt: skip


def test_words_count_where_only_the_timing_is_that_of_a_t1():
    """ "AX POST GAD" was read as T1, and so were localisers and maps without other words."""
    spin_echo = {"te_ms": 10, "tr_ms": 550, "scanning_sequence": ("SE",)}

    def read(description):
        return from_acquisition(AcquisitionParameters(description, **spin_echo))

    assert misread(OF_T1_TIMING, read) == {}


AGENTS = {
    T1: (
        "NO CONTRAST", "N/A", "0.0 ml", "-", "ohne KM", "keines", "aucun", "sin contraste",
        "造影なし", "UNKNOWN",
    ),
    T1C: (
        "Gadovist", "15 ml Dotarem", "YES",
    ),
}  # fmt: skip


def test_an_agent_that_was_given_makes_t1_t1c_unless_words_deny_it():
    found = misread(AGENTS, lambda a: from_acquisition(AcquisitionParameters("AX T1", agent=a)))
    assert found == {}
    before = AcquisitionParameters("AX T1 PRE", agent="Dotarem")
    assert from_acquisition(before).sequence is T1


def test_words_and_timing_that_differ_lower_the_confidence():
    agreed = from_acquisition(AcquisitionParameters(description="T2 TSE", te_ms=95, tr_ms=4500))
    contrary = from_acquisition(AcquisitionParameters(description="T2 TSE", te_ms=10, tr_ms=500))
    assert agreed.sequence is contrary.sequence is T2
    assert contrary.confidence < 0.6 < agreed.confidence
    assert "timing" in contrary.evidence


def test_of_a_double_echo_the_timing_tells_which_is_the_t2():
    for description in ("PD+T2 TSE", "ax pd/t2", "T2 and proton density"):
        for te_ms, sequence in ((15, None), (95, T2)):
            found = AcquisitionParameters(description=description, te_ms=te_ms, tr_ms=4000)
            assert from_acquisition(found).sequence is sequence


@pytest.mark.parametrize(
    ("description", "protocol", "sequence"),
    [
        ("Ax T1", "BRAIN W/WO CONTRAST", T1),
        ("Ax T1 +C", "BRAIN W/WO CONTRAST", T1C),
        ("Ax T2 FLAIR", "BRAIN TUMOR PERFUSION T1", FLAIR),
        ("KM", "t1_tra", T1C),
        ("t1_tra", "t1_tra_KM", T1C),
        ("", "t2_tse_tra", T2),
    ],
)
def test_the_protocol_of_an_examination_names_no_series(description, protocol, sequence):
    found = AcquisitionParameters(description=description, protocol=protocol)
    assert from_acquisition(found).sequence is sequence


@pytest.mark.parametrize(
    "found",
    [
        AcquisitionParameters("AX T2 GRE", scanning_sequence=("GR",), te_ms=20, tr_ms=600),
        AcquisitionParameters(
            "t2_tirm_cor", scanning_sequence=("SE", "IR"), te_ms=60, tr_ms=4e3, ti_ms=220
        ),
    ],
)
def test_the_timing_of_none_of_the_four_lowers_the_confidence(found):
    guess = from_acquisition(found)
    assert guess.confidence < 0.6
    assert "timing is that of none of the four" in guess.evidence


OTHER_WORDS = {
    (T1C, False): (
        "t1_nach_km.nii.gz",
    ),
    (T1, False): (
        "t1_post_op.nii.gz", "t1_flair.nii.gz",
    ),
    (FLAIR, False): (
        "t2_tirm_tra_dark-fluid.nii.gz", "t2_space_dark-fluid_sag.nii.gz",
    ),
    (None, True): (
        "t2_star.nii.gz", "t1_map.nii.gz", "t1_mp2rage_INV1.nii.gz", "t1_fat.nii.gz",
        "t1c_sub.nii.gz", "T1ce_soustraction.nii.gz", "t1_minus_t1c.nii.gz", "t1_dyn_gd.nii.gz",
        "t1_post-t1_pre.nii.gz",
    ),
    (None, False): (
        "t1_fat_sat.nii.gz", "t1c.nii.gz", "flair_to_t1.nii.gz", "diffuse_glioma_t1.nii.gz",
        "sub-01_ses-post_ce-gd_T1w.nii.gz",
    ),
}  # fmt: skip


def test_other_words_of_a_name_are_noticed():
    expected = {name: other for other, names in OTHER_WORDS.items() for name in names}
    taken = {name: from_name(name).sequence for name in expected}
    assert None not in taken.values()
    assert {n: alternative_reading(n, sequence) for n, sequence in taken.items()} == expected


def test_a_sidecar_counts_in_seconds():
    found = acquisition_of_sidecar(
        {"EchoTime": 0.12, "RepetitionTime": 9, "InversionTime": 2.5, "ScanningSequence": "SE_IR"}
    )
    assert from_acquisition(found).sequence is FLAIR


@pytest.mark.parametrize("word", ["a", "t1", "fract", "x(-) ", "subtr", "0 ", "no", "s/ "])
def test_a_long_description_is_read_at_once(word):
    """64 kB took four minutes by the square of the length: this test would not end."""
    description = (word * 64_000)[:64_000]
    from_acquisition(AcquisitionParameters(description=description, agent=description))
