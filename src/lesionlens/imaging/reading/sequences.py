"""Identify which of the four sequences a series is, with the evidence.

Three kinds of evidence, in this order: the words of a file name, acquisition parameters (DICOM
attributes or a BIDS or dcm2niix sidecar), then parts of words in the name. The user's naming always
wins and is not handled here. A new sequence is a row in these tables.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lesionlens.base.files import without_nifti_suffix
from lesionlens.base.labels import MrSequence

T1, T1C, T2, FLAIR = MrSequence.T1, MrSequence.T1C, MrSequence.T2, MrSequence.FLAIR


@dataclass(frozen=True, slots=True)
class Guess:
    """A sequence, the evidence in words, and the confidence (0 to 1).

    `sequence` is None if it is none of the four, or if there is no evidence.
    """

    sequence: MrSequence | None
    evidence: str
    confidence: float


UNKNOWN = Guess(None, "nothing identifies the sequence", 0.0)

_FLAIR_WORDS = frozenset({"flair", "t2f"})
_T1C_WORDS = frozenset({"t1c", "t1ce", "t1gd", "t1post"})
_T1_STEMS = frozenset({"t1", "t1w"})
_T2_WORDS = frozenset({"t2", "t2w"})
_T1_WORDS = frozenset({"t1", "t1w", "t1n"})
_AGENT_WORDS = frozenset({"ce", "gd", "post", "contrast"})
# A scan before the agent: T1 "pre contrast" and "without Gd" are native.
_PRE_CONTRAST_WORDS = frozenset({
    "pre", "precontrast", "without", "no", "non", "none", "wo", "ohne", "nativ", "native", "sans",
    "sin", "senza", "unenhanced",
})  # fmt: skip
_LABEL_WORDS = frozenset({
    "seg", "segmentation", "dseg", "mask", "brainmask", "label", "labels", "roi", "probseg",
})  # fmt: skip
_MASK_WORDS = frozenset({"segmentation", "segmented", "dseg", "labelmap", "mask", "brainmask"})
"""Words of masks that no scanner uses for a sequence, unlike "seg" (segmented k-space)."""
# Words of scanners and people in several languages (English, German, French, Spanish, Portuguese,
# Italian, Dutch, Russian, Japanese, Chinese), as whole words.
_LOOSE_FLAIR = re.compile(r"flair|dark.?fluid|\bda.?fl\b|tirm|fluid.?atten|флаир|t2.?ir\b")
_POST_CONTRAST = (
    r"post(?!erior| ?(fossa|op|rad|rt\b|rx|treat|ther|tx|surg|chem|resec|inter|bio|trau))|"
    r"\bp[oó]s\b|造影後|造影后"
)
_LOOSE_AGENT = re.compile(
    _POST_CONTRAST
    + r"|\bgd|gad[ao]|gad\b|[ck]ontrast|dotarem|prohance|magnevist|\b[mo]?km\b|\+c\b|\+ ?gd|\bce\b|"
    r"\bpc\b|\bc\+|\biv ?\+|контраст|enhanced|\binj|\bmdc\b|造影|増強|增强|增強|"
    r"t1w?(ce?|gd|km)\b|\b(ce?|gd|gad|km)t1|(mit|nach)km\b|\bw(ith)? con\b|\bc c\b|\bciv\b|"
    r"clariscan|multihance|omniscan|elucirem|vueway|artirem|magnograf|cyclolux|optimark|primovist"
)
_PRE = r"pr[eé]\b(?! ?(op|rad|rt\b|rx|treat|ther|tx|surg|srs|gamma|gk\b|chem|resec|inter|bio))"
"""Before the agent, not before a treatment or biopsy."""
_LOOSE_PRE_CONTRAST = re.compile(
    rf"\b{_PRE}|"
    r"\bpr[eé].?(contrast|cont?\b|gad|gd|km|inj)|"
    r"without|\bw ?o\b|\bw out\b|\bno.?(contrast|con\b|gad|gd|inj)|"
    r"\bnon.?(contrast|con\b|enhanced|gad|gd|ce\b|inj)|unenhanced|contrast.free|"
    r"ohne|\bo ?km\b|(?<!i )\bv km\b|nativ|\bsans\b|\bs ?s (inj|gad|gd)|\bpas d|"
    r"\bsin\b|\bsem\b|\bs ?contraste|\bsenza\b|\bzonder\b|без|"
    r"造影前|非造影|造影(なし|無|ナシ)|単純|平扫|"
    r"\b(before|vor|avant|antes|prima|voor|до)\b.{0,8}(contr|kontr|контр|gd|gad|inj|km|mdc|agent)"
)
_POST_MINUS_PRE = (
    r"\bpost( ?contrast| ?gad\w*| ?gd)? ((ax|sag|cor|tra)\w* )?(\w*t1\w* )?"
    rf"(pr[eé]( ?contrast| ?gad\w*| ?gd)|{_PRE})"
)
"""A difference, such as "T1 post - T1 pre"."""
_NOT_GIVEN = re.compile(
    r"(|n|0+( 0+)?( ?ml| ?mmol)?|n ?a|nan|nil|null|unknown|unspecified|"
    r"\W?(no|non|none|not|nein|kein\w*|aucun|ning[uú]n\w*|nessun\w*|nenhum|なし|無し?)\b.*)"
)
"""Values that state that no contrast agent was given."""
_OTHER_NEGATION = re.compile(
    r"\b(w ?o|without|no|non|ohne|sans|sin|sem|senza|zonder) ?"
    r"(fs|fat\w*|fett\w*|sat\w*|mtc?|fc|flow|motion|filt\w*|norm)\b"
)
"""A denial of something else than the agent, such as "post w/o fatsat"."""
_NUMBERED = ("pa", "par", "patien", "participan", "subjec", "visi", "poin", "tes", "pos", "resul",
             "outpu", "cohor", "datase")  # fmt: skip
"""Words before a number, such as patient1, without their last letter."""
_NOT_NUMBERED = "".join(f"(?<!{word})" for word in _NUMBERED)
_LOOSE_T1 = re.compile(
    _NOT_NUMBERED + r"t1|mp.?rage|spgr|\bbravo\b|\bvibe\b|\btfe\b|ir-?fspgr|т1|3d ?tfe"
)
_LOOSE_T2 = re.compile(_NOT_NUMBERED + r"t2(?!\*| ?star|star)|т2|\bcube t2|\bspace t2")
_REGISTERED_TO = frozenset(
    {"to", "in", "on", "onto", "into", "space", "reg", "registered", "coreg", "aligned"}
)
"""Words before the sequence that an image was registered to, such as "t2_to_t1c"."""
_SPACE_NAME = re.compile(r"(?<=t[12])[-_ ]space(?=[-_ ]flair)", re.IGNORECASE)
"""Siemens's sequence SPACE in a name such as "t2_space_flair": no space of registration."""
_NUMBERED_WORD = re.compile(
    r"(?<![^\W_])[^\W_]*?(?P<letters>[^\W\d_]+)(?P<t>t)[12](?![^\W_])", re.IGNORECASE
)
_BEFORE_T = frozenset(
    {"ax", "axial", "bet", "brain", "c", "ce", "cor", "d", "e", "fl", "fse", "gad", "gd", "gre"}
    | {"iso", "km", "m", "n", "nativ", "native", "post", "pre", "r", "rr", "s", "sag"}
    | {"spgr", "to", "tra", "trans", "tse", "uni", "w"}
)
"""What a name may have before T1 or T2 in one word, of planes, scanners and processing."""
_GLUED_TARGET = re.compile(r"(?<=\w)(2|to)(t[12]|flair)\w*")
_SPINE = (
    r"spine\b|spinal|\b[hbl]ws\b|wirbel|rachis|columna|colonna|\bcerv(?!e)|thoracic|l[uo]mb[ao]|"
    r"позвоноч|[頸頚胸腰]椎"
)
"""The spine is often examined together with the brain."""
# Acquisitions that are none of the four, whatever else their name contains.
OTHER_KINDS = re.compile(
    r"local[iy][sz]{1,2}(er|ador|ateur|atore)|\bloc\b|rep[eé]rage|^[uü]bersicht|位置決|"
    r"scout|survey|surview|\baahead|3.?plane|tri.?pilot|"
    r"\b(iso|e)?dwi\b|\bdti\b|\be?adc\b|diff|tracew|trace\b|\bb ?\d{3,4}\b|"
    r"\bfa\b|fract\w{0,8} aniso|colfa|tensor|"
    r"\bswi\b|\bswan\b|t2.?\*|t2.?star|\bmip\b|minip|phase|pha\b|venobold|\bhemo\b|"
    r"\basl\b|perf|\bdsc\b|\bdce\b|\bdyn|din[aá]mic|ダイナミック|\btwist\b|\btricks\b|"
    r"\bmtt\b|\bttp\b|k ?trans\b|\bkep\b|\bi?auc\b|"
    r"\btof\b|angio|\bmra\b|\bmrv\b|\bbold\b|fmri|field.?map|fieldmap|b0.?map|b1.?map|gre_field|"
    r"fiesta|\bciss\b|\bci3d\b|\bb ?ffe\b|tru(e ?)?fi|t1 ?rho|\bshim|4d ?flow|"
    r"\bvenc|phlebo|\b3d pc\b|spectro|\bmrs\b|\bcsi\b|calib|^cal\b|\basset\b|sense ref|"
    r"\bpd\b|proton|scano|screen|report|processed image|\bt[12] ?(map|images\b)|"
    r"\bstir\b|\bdir\b|\bsubs?(tr\w*)?\b|soustraction|sustrac|sottrazione|差分|サブトラ|\bminus\b|"
    r"\bmean\b|\bmoco\b|pilot|"
    r"\binv[ -]?[12]\b|\bopp\b|^fat\b(?! ?(sat|sup|sep))|dixon f(at)?\b|"
    r"\br[12]( ?star|\*|\*? ?map)|\b(rel|nr?|r)?cb[fv]\b|\btmax\b|" + _SPINE
)
_PROTON = re.compile(r"\bpd\b|proton")
_OTHER_KINDS_IN_NAME = re.compile(
    r"t2w? ?(\*|star)|\bt[12]w? ?map|\bgre\b|\bhemo\b|\bswi\b|\bmip\b|\bstir\b|\bdir\b|"
    r"\badc\b|\bperf|\bph\b|\bphase\b|\bimaginary\b|\binv ?[12]\b|\bopp\b|"
    r"\bsubs?tr|soustraction|sustrac|sottrazione|差分|\bminus\b|t1\w*( \w+)* subs?$|"
    r"\bdyn|din[aá]mic|"
    f"{_POST_MINUS_PRE}|" + r"\bfat\b(?! ?(sat|sup|sep|frei))|" + _SPINE
)


_BIDS_SUBJECT_OR_SESSION = re.compile(r"(?<![^_])(sub|ses)-[^\W_]+(?![^_])")
"""BIDS subject and session, whose labels, such as "post" for surgery, do not name the sequence."""


def _stem(name: str) -> str:
    """Return a name in lower case without extension, BIDS subject and session."""
    return _BIDS_SUBJECT_OR_SESSION.sub("", without_nifti_suffix(_lower(name)))


def _lower(text: str) -> str:
    """Return a text in lower case, with plain letters for the full-width ones of Japanese."""
    return unicodedata.normalize("NFKC", _decoded(text)).lower()


def _decoded(text: str) -> str:
    """Return a header's undeclared Shift-JIS, read as Latin-1, as text if it is about contrast.

    Without 造影 ("contrast") a T1c would be taken for a T1, without なし ("none") a T1 for a T1c.
    """
    try:
        decoded = text.encode("latin-1").decode("cp932")  # Shift-JIS with the signs of Windows
    except UnicodeError:
        return text
    return decoded if re.search("造影|なし", decoded) else text


def words_of(name: str) -> tuple[str, ...]:
    """Split a name into lower-case words of letters and digits, without BIDS subject and session.

    Examples
    --------
    >>> words_of("BraTS-PED-00003-000-t1n.nii.gz")
    ('brats', 'ped', '00003', '000', 't1n')
    >>> words_of("sub-01_ses-post_T1w.nii.gz")
    ('t1w',)
    """
    return tuple(re.findall(r"[^\W_]+", _stem(name)))


def _normalised(text: str) -> str:
    """Return a text in lower case with its words separated by single spaces.

    Examples
    --------
    >>> [_normalised(text) for text in ("T1WI_Gd(-)", "T1 (+)", "T1+_tra", "T1 s/ GD")]
    ['t1wi without gd', 't1 +c', 't1 +c tra', 't1 sans gd']
    """
    text = re.sub(r"(?<![^\W_])([^\W_]*) ?\([-\u2013\u2212]\)", r"without \1 ", _lower(text))
    text = re.sub(r"(t1[^\W_]{0,20}|\bc) ?\(\+\)", r"\1 +c ", text)
    text = re.sub(r"(t1[^\W_]{0,20})\+(?![^\W_]|[-+/])", r"\1 +c ", text)
    text = re.sub(r"\bs/ ?(?=contr|cont\b|gad|gd|mdc|inj|km|civ)", "sans ", text)
    return re.sub(r"[\s_\-/.,;:]+", " ", text).strip()


def is_label_name(name: str) -> bool:
    """Return whether a name indicates a mask or segmentation."""
    return bool(_LABEL_WORDS & set(words_of(name)))


def _is_pre_contrast(text: str) -> bool:
    """Return whether a text says that the scan is before or without the agent."""
    return bool(_LOOSE_PRE_CONTRAST.search(_OTHER_NEGATION.sub(" ", text)))


def sequence_in_words(words: tuple[str, ...]) -> MrSequence | None:
    """Apply the naming rules to the words of a name; the first match wins.

    Examples
    --------
    >>> [sequence_in_words(words_of(n)).value for n in ("a_T2_FLAIR", "T1w_Gd", "t2w", "x-t1n")]
    ['flair', 't1c', 't2', 't1']
    >>> sequence_in_words(words_of("sub-01_ce-gadolinium_T1w")).value
    't1c'
    >>> sequence_in_words(words_of("seg")) is None
    True
    """
    word_set = set(words)
    pre_contrast = bool(_PRE_CONTRAST_WORDS & word_set) or _is_pre_contrast(" ".join(words))
    # "post w/o fatsat" is post-contrast, "pre Gd, post op" is not.
    post_contrast = bool(re.search(_POST_CONTRAST, " ".join(words)))
    agent_named = bool(_AGENT_WORDS & word_set) or any(word.startswith("gad") for word in words)
    enhanced = agent_named and (post_contrast or not pre_contrast)
    rules = (
        (FLAIR, bool(_FLAIR_WORDS & word_set)),
        (T1C, bool(_T1C_WORDS & word_set) or (bool(_T1_STEMS & word_set) and enhanced)),
        (T2, bool(_T2_WORDS & word_set)),
        (T1, bool(_T1_WORDS & word_set)),
    )
    return next((sequence for sequence, matches in rules if matches), None)


def from_name(name: str) -> Guess:
    """Identify by the words of a file name; masks and segmentations are none of the four."""
    if is_label_name(name):
        return Guess(None, "a mask or segmentation by its name", 0.9)
    sequence = sequence_in_words(words_of(name))
    return Guess(sequence, "file name", 0.95) if sequence else UNKNOWN


def from_partial_name(name: str) -> Guess:
    """Identify by parts of words, for names such as AxT2FLAIR; less certain.

    Of "FLAIR2T1", an image registered to another, the first counts. "pt1" and "left2" name none.
    """
    text = _stem(_without_numbered_words(name)).replace("_", " ")
    if is_label_name(name):
        return UNKNOWN
    sequence = _loose_match(_GLUED_TARGET.sub("", text)) or _loose_match(text)
    if OTHER_KINDS.search(text):
        other_kind = Guess(None, "an image that is none of the four by its name", 0.8)
        return UNKNOWN if sequence else other_kind
    return Guess(sequence, "part of the file name", 0.6) if sequence else UNKNOWN


def _without_numbered_words(name: str) -> str:
    """Return a name without words such as pt1, whose t and number are not those of a sequence.

    Examples
    --------
    >>> [_without_numbered_words(n) for n in ("pt1_x", "AxT1", "axt1", "3dt1", "left2AxT1w")]
    ['_x', 'AxT1', 'axt1', '3dt1', 'left2AxT1w']
    """

    def kept(match: re.Match[str]) -> str:
        letters, t = match["letters"], match["t"]
        camel_case = t == "T" and letters[-1].islower()
        return match[0] if camel_case or letters.lower() in _BEFORE_T else ""

    return _NUMBERED_WORD.sub(kept, name)


def alternative_reading(name: str, assigned: MrSequence) -> tuple[MrSequence | None, bool]:
    """Return another sequence or kind of image that the words of a file name suggest.

    Returns
    -------
    sequence : MrSequence or None
        Another sequence, such as T1c for "t1_nach_km", or T2 for "t2_to_t1c".
    is_other_kind : bool
        Whether it has words of an image that is none of the four, such as "t2_star".
    """
    text = _normalised(_stem(name))
    if _OTHER_KINDS_IN_NAME.search(text):
        return None, True
    registered = _registered_sequence(words_of(_SPACE_NAME.sub("_", name)))
    if registered is not None and registered is not assigned:
        return registered, False
    other = T1C if assigned is T1C and _T1C_WORDS & {*words_of(name)} else _loose_match(text)
    plausible = {assigned, other} <= {T1, T1C} or other is FLAIR or re.search(r"t1w? flair", text)
    return (other if plausible and other is not assigned else None), False


def _registered_sequence(words: tuple[str, ...]) -> MrSequence | None:
    """Return the sequence of an image whose name also states the one that it was registered to.

    Examples
    --------
    >>> _registered_sequence(("t2", "to", "t1c")).value, _registered_sequence(("t1c", "brain"))
    ('t2', None)
    """
    for index, word in enumerate(words[:-1]):
        target = sequence_in_words(words[index + 1 : index + 2])
        if target is None or word not in _REGISTERED_TO:
            continue
        others = words[:index] + (words[index + 2 :] if word == "space" else ())
        if (sequence := sequence_in_words(others)) is not None:
            return sequence
    return None


def _loose_match(text: str) -> MrSequence | None:
    inverted_t1 = _LOOSE_T1.search(text) and not _LOOSE_T2.search(text)  # "T1 FLAIR" is a T1
    if _LOOSE_FLAIR.search(text) and not inverted_t1:
        return FLAIR
    if _LOOSE_T1.search(text):
        enhanced = _LOOSE_AGENT.search(text) and not _is_pre_contrast(text)
        return T1C if enhanced else T1
    return T2 if _LOOSE_T2.search(text) else None


@dataclass(frozen=True, slots=True)
class AcquisitionParameters:
    """Acquisition parameters in DICOM's units (ms); empty or None if missing."""

    description: str = ""
    protocol: str = ""
    scanning_sequence: tuple[str, ...] = ()
    te_ms: float | None = None
    tr_ms: float | None = None
    ti_ms: float | None = None
    agent: str = ""

    @property
    def text(self) -> str:
        """Description and protocol in lower case, as separate words.

        GE's protocol is that of the whole examination ("BRAIN W/WO CONTRAST, PERFUSION"): where the
        description names a sequence, a protocol counts only if it names a T1 as well.
        """
        description, protocol = _normalised(self.description), _normalised(self.protocol)
        sequence = _loose_match(description)
        consistent = sequence is None or {sequence, _loose_match(protocol)} <= {T1, T1C}
        return f"{description} {protocol}" if consistent else description


def _ms(seconds: Any) -> float | None:
    """Return seconds in milliseconds; None unless they are a time that a sequence can have."""
    try:
        number = float(seconds) * 1e3
    except (TypeError, ValueError):
        return None
    return number if 0 < number < 1e6 else None


def _texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    values = [value] if isinstance(value, str) else value
    try:
        return tuple(str(part).upper() for part in values)
    except TypeError:
        return (str(value).upper(),)


def acquisition_of_sidecar(sidecar: Mapping[str, Any]) -> AcquisitionParameters:
    """Read acquisition parameters from a BIDS or dcm2niix sidecar, whose times are in seconds."""
    scanning = [
        word
        for text in _texts(sidecar.get("ScanningSequence"))
        for word in re.split(r"[\\_]", text)
    ]
    return AcquisitionParameters(
        description=str(sidecar.get("SeriesDescription") or ""),
        protocol=str(sidecar.get("ProtocolName") or ""),
        scanning_sequence=tuple(scanning),
        te_ms=_ms(sidecar.get("EchoTime")),
        tr_ms=_ms(sidecar.get("RepetitionTime")),
        ti_ms=_ms(sidecar.get("InversionTime")),
        agent=str(
            sidecar.get("ContrastBolusAgent") or sidecar.get("ContrastBolusIngredient") or ""
        ),
    )


def from_acquisition(
    parameters: AcquisitionParameters, *, source: str = "SeriesDescription"
) -> Guess:
    """Identify by acquisition parameters: text first, then timing.

    Parameters
    ----------
    source : str
        Name of the text attribute in the evidence.
    """
    text, by_timing = parameters.text, _by_timing(parameters)
    if by_timing.sequence is T2 and _LOOSE_T2.search(text):  # the later echo of "PD/T2"
        text = _PROTON.sub(" ", text)
    is_difference = re.search(_POST_MINUS_PRE, _normalised(parameters.description))
    if is_difference or OTHER_KINDS.search(text):
        return Guess(None, f'{source} "{parameters.description}" is none of the four', 0.8)
    if _MASK_WORDS & set(words_of(text)):
        return Guess(None, f'{source} "{parameters.description}" is a mask or segmentation', 0.8)
    by_text = _loose_match(text) or sequence_in_words(words_of(text))
    if by_text is T1 and agent_recorded(parameters):
        return Guess(T1C, f'{source} "{parameters.description}" with contrast agent recorded', 0.85)
    if by_text is not None:
        timed = by_timing.sequence
        contradicted = by_timing.confidence > 0 and by_text in (T2, FLAIR)  # a gradient echo, STIR
        if (timed is None and not contradicted) or {by_text, timed} <= {T1, T1C}:
            confidence = 0.9
        else:
            confidence = 0.95 if timed is by_text else 0.55
        caveat = "" if confidence > 0.6 else f", although the timing is that of {_label(timed)}"
        text = parameters.description or parameters.protocol
        return Guess(by_text, f'{source} "{text}"{caveat}', confidence)
    return by_timing


def _label(sequence: MrSequence | None) -> str:
    return sequence.display_name if sequence else "none of the four"


def agent_recorded(parameters: AcquisitionParameters) -> bool:
    """Return whether a contrast agent is stated, and no word that denies it."""
    agent = _normalised(parameters.agent)
    absent = _NOT_GIVEN.fullmatch(agent) or _is_pre_contrast(agent)
    return not absent and not _is_pre_contrast(parameters.text)


def _agent_described(parameters: AcquisitionParameters) -> bool:
    """Return whether a description without a sequence has words of the agent ("AX POST GAD").

    "PC" alone may be phase contrast.
    """
    description = re.sub(r"\bpc\b", " ", _normalised(parameters.description))
    return bool(_LOOSE_AGENT.search(description)) and not _is_pre_contrast(parameters.text)


def _by_timing(parameters: AcquisitionParameters) -> Guess:
    te, tr, ti = parameters.te_ms, parameters.tr_ms, parameters.ti_ms
    if te is None or tr is None or "EP" in parameters.scanning_sequence:
        planar = Guess(
            None, "echo-planar, as for diffusion or functional imaging: none of the four", 0.4
        )
        return planar if "EP" in parameters.scanning_sequence else UNKNOWN
    evidence = f"TE {te:.0f} ms, TR {tr:.0f} ms" + (f", TI {ti:.0f} ms" if ti else "")
    gradient = "GR" in parameters.scanning_sequence and "SE" not in parameters.scanning_sequence
    if ti and 1500 <= ti <= 3200 and te >= 60:
        return Guess(FLAIR, evidence, 0.7)
    if te >= 60 and tr >= 2000 and not gradient and not ti:
        return Guess(T2, evidence, 0.6)
    if te <= (12 if gradient else 30) and (tr <= 1200 or (gradient and te <= 8)):
        suffix = ", contrast agent recorded" if agent_recorded(parameters) else ""
        if _agent_described(parameters):
            suffix = f', contrast agent in "{parameters.description}"'
        return Guess(T1C if suffix else T1, evidence + suffix, 0.55 if suffix else 0.5)
    return Guess(None, f"{evidence}: none of the four", 0.4)
