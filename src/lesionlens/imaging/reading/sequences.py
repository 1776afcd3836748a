"""Identify which of the four sequences a series is, with the evidence.

`from_file` reads a file's name and JSON sidecar, `from_acquisition` the words and times of a DICOM
header or a sidecar. The words of a name come first, then the header, then parts of words. The
user's own naming wins over all of it and is not handled here. A new word is an entry of a table.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lesionlens.base.files import without_volume_suffix
from lesionlens.base.labels import MrSequence, naming_advice

T1, T1C, T2, FLAIR = MrSequence.T1, MrSequence.T1C, MrSequence.T2, MrSequence.FLAIR


@dataclass(frozen=True, slots=True)
class Guess:
    """A sequence (None: none of the four, or no evidence), the evidence, and 0 to 1 how sure."""

    sequence: MrSequence | None
    evidence: str
    confidence: float


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
        sequence = _in_text(description)
        agrees = sequence is None or {sequence, _in_text(protocol)} <= {T1, T1C}
        return f"{description} {protocol}" if agrees else description


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


# ---- files


def from_file(name: str, sidecar: Mapping[str, Any]) -> tuple[Guess, str]:
    """Identify a file by its name and its BIDS or dcm2niix sidecar.

    Returns
    -------
    guess : Guess
    doubt : str
        A notice where name and sidecar, or two words of the name, say different things; else empty.
    """
    by_name, parameters = from_name(name), acquisition_of_sidecar(sidecar)
    by_sidecar = from_acquisition(parameters, source="sidecar") if sidecar else UNKNOWN
    assigned, other, said = by_name.sequence, by_sidecar.sequence, ""
    if assigned is None:
        if by_name.confidence:  # a mask
            return by_name, ""
        guesses = (by_sidecar, from_partial_name(name))
        named = next((guess for guess in guesses if guess.sequence), None)
        return named or next((guess for guess in guesses if guess.confidence), UNKNOWN), ""
    if other is None and assigned is T1 and agent_recorded(parameters):
        other = T1C
    if other not in (None, assigned):
        said = f"The JSON sidecar of {name!r} says {_label(other)}"
    elif by_sidecar.sequence is None:
        other, is_other_kind = alternative_reading(name, assigned)
        kind = "another kind of image" if is_other_kind else other and _label(other)
        said = f"The name of {name!r} also contains words for {kind}" if kind else ""
    if not said:
        return by_name, ""
    advice = naming_advice(other) if other else "leave it out of the folder"
    doubt = f"{said}; it was read as {_label(assigned)}. If that is wrong, {advice}."
    return replace(by_name, confidence=0.6), doubt


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
    text = _stem(_NUMBERED_WORD.sub(_numbered, name)).replace("_", " ")
    if is_label_name(name):
        return UNKNOWN
    sequence = _in_text(_GLUED_TARGET.sub("", text)) or _in_text(text)
    if OTHER_KINDS.search(text):
        other_kind = Guess(None, "an image that is none of the four by its name", 0.8)
        return UNKNOWN if sequence else other_kind
    return Guess(sequence, "part of the file name", 0.6) if sequence else UNKNOWN


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


def is_label_name(name: str) -> bool:
    """Return whether a name indicates a mask or segmentation."""
    return bool(_LABEL_WORDS & set(words_of(name)))


def sequence_in_words(words: tuple[str, ...]) -> MrSequence | None:
    """Apply the naming rules to the words of a name; the first match wins.

    Examples
    --------
    >>> [sequence_in_words(words_of(n)).value for n in ("a_T2_FLAIR", "T1w_Gd", "t2w", "x-t1n")]
    ['flair', 't1c', 't2', 't1']
    >>> sequence_in_words(words_of("sub-01_ce-gadolinium_T1w")).value
    't1c'
    """
    found, text = set(words), " ".join(words)
    before = bool(_PRE_CONTRAST_WORDS & found) or _denies_agent(text)
    # "post w/o fatsat" is post-contrast, "pre Gd, post op" is not.
    agent = bool(_AGENT_WORDS & found) or any(word.startswith("gad") for word in words)
    enhanced = agent and (not before or bool(re.search(_POST_CONTRAST, text)))
    if _FLAIR_WORDS & found:
        return FLAIR
    if _T1C_WORDS & found or (_T1_STEMS & found and enhanced):
        return T1C
    if _T2_WORDS & found:
        return T2
    return T1 if _T1_WORDS & found else None


def alternative_reading(name: str, assigned: MrSequence) -> tuple[MrSequence | None, bool]:
    """Return another sequence that the words of a file name suggest, such as T1c for "t1_nach_km".

    And whether it has words of an image that is none of the four, such as "t2_star".
    """
    text = _normalised(_stem(name))
    if _OTHER_KINDS_IN_NAME.search(text):
        return None, True
    registered = _registered_sequence(words_of(_SPACE_NAME.sub("_", name)))
    if registered is not None and registered is not assigned:
        return registered, False
    other = T1C if assigned is T1C and _T1C_WORDS & {*words_of(name)} else _in_text(text)
    plausible = {assigned, other} <= {T1, T1C} or other is FLAIR or re.search(r"t1w? flair", text)
    return (other if plausible and other is not assigned else None), False


def _registered_sequence(words: tuple[str, ...]) -> MrSequence | None:
    """Return T2 for "t2_to_t1c": the image, whose name also states what it was registered to."""
    for index, word in enumerate(words[:-1]):
        if word in _REGISTERED_TO and sequence_in_words(words[index + 1 : index + 2]):
            others = words[:index] + (words[index + 2 :] if word == "space" else ())
            if (sequence := sequence_in_words(others)) is not None:
                return sequence
    return None


def _numbered(match: re.Match[str]) -> str:
    """Keep "AxT1" and "3dt1"; drop "pt1", whose t and number are not those of a sequence."""
    letters, t = match["letters"], match["t"]
    camel_case = t == "T" and letters[-1].islower()
    return match[0] if camel_case or letters.lower() in _BEFORE_T else ""


# ---- text


def _stem(name: str) -> str:
    """Return a name in lower case without extension, BIDS subject and session."""
    return _BIDS_SUBJECT_OR_SESSION.sub("", without_volume_suffix(_lower(name)))


def _lower(text: str) -> str:
    """Return a text in lower case, with plain letters for the full-width ones of Japanese.

    A header's undeclared Shift-JIS, read as Latin-1, is decoded if it is about contrast: without
    造影 ("contrast") a T1c would be taken for a T1, without なし ("none") a T1 for a T1c.
    """
    try:
        decoded = text.encode("latin-1").decode("cp932")
    except UnicodeError:
        decoded = ""
    text = decoded if re.search("造影|なし", decoded) else text
    return unicodedata.normalize("NFKC", text).lower()


def _normalised(text: str) -> str:
    """Return lower-case words with single spaces: "T1WI_Gd(-)" is "t1wi without gd"."""
    text = re.sub(r"(?<![^\W_])([^\W_]*) ?\([-\u2013\u2212]\)", r"without \1 ", _lower(text))
    text = re.sub(r"(t1[^\W_]{0,20}|\bc) ?\(\+\)", r"\1 +c ", text)
    text = re.sub(r"(t1[^\W_]{0,20})\+(?![^\W_]|[-+/])", r"\1 +c ", text)
    text = re.sub(r"\bs/ ?(?=contr|cont\b|gad|gd|mdc|inj|km|civ)", "sans ", text)
    return re.sub(r"[\s_\-/.,;:]+", " ", text).strip()


def _denies_agent(text: str) -> bool:
    """Return whether a text says that the scan is before or without the agent."""
    return bool(_LOOSE_PRE_CONTRAST.search(_OTHER_NEGATION.sub(" ", text)))


def _in_text(text: str) -> MrSequence | None:
    """Return the sequence that free text names, in several languages."""
    inverted_t1 = _LOOSE_T1.search(text) and not _LOOSE_T2.search(text)  # "T1 FLAIR" is a T1
    if _LOOSE_FLAIR.search(text) and not inverted_t1:
        return FLAIR
    if _LOOSE_T1.search(text):
        return T1C if _LOOSE_AGENT.search(text) and not _denies_agent(text) else T1
    return T2 if _LOOSE_T2.search(text) else None


def _label(sequence: MrSequence | None) -> str:
    return sequence.display_name if sequence else "none of the four"


# ---- headers


def acquisition_of_sidecar(sidecar: Mapping[str, Any]) -> AcquisitionParameters:
    """Read acquisition parameters from a BIDS or dcm2niix sidecar, whose times are in seconds."""
    stated = sidecar.get("ScanningSequence")
    parts = stated if isinstance(stated, list | tuple) else [stated or ""]
    words = [word for part in parts for word in re.split(r"[\\_]", str(part).upper())]
    agent = sidecar.get("ContrastBolusAgent") or sidecar.get("ContrastBolusIngredient")
    return AcquisitionParameters(
        description=str(sidecar.get("SeriesDescription") or ""),
        protocol=str(sidecar.get("ProtocolName") or ""),
        scanning_sequence=tuple(filter(None, words)),
        te_ms=_ms(sidecar.get("EchoTime")),
        tr_ms=_ms(sidecar.get("RepetitionTime")),
        ti_ms=_ms(sidecar.get("InversionTime")),
        agent=str(agent or ""),
    )


def _ms(seconds: Any) -> float | None:
    """Return seconds in milliseconds; None unless they are a time that a sequence can have."""
    try:
        number = float(seconds) * 1e3
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 < number < 1e6 else None


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
    quoted = f'{source} "{parameters.description}"'
    if by_timing.sequence is T2 and _LOOSE_T2.search(text):  # the later echo of "PD/T2"
        text = _PROTON.sub(" ", text)
    is_difference = re.search(_POST_MINUS_PRE, _normalised(parameters.description))
    if is_difference or OTHER_KINDS.search(text):
        return Guess(None, f"{quoted} is none of the four", 0.8)
    if _MASK_WORDS & set(words_of(text)):
        return Guess(None, f"{quoted} is a mask or segmentation", 0.8)
    by_text = _in_text(text) or sequence_in_words(words_of(text))
    if by_text is None:
        return by_timing
    if by_text is T1 and agent_recorded(parameters):
        return Guess(T1C, f"{quoted} with contrast agent recorded", 0.85)
    timed = by_timing.sequence
    contradicted = by_timing.confidence > 0 and by_text in (T2, FLAIR)  # a gradient echo, STIR
    if (timed is None and not contradicted) or {by_text, timed} <= {T1, T1C}:
        confidence = 0.9
    else:
        confidence = 0.95 if timed is by_text else 0.55
    caveat = "" if confidence > 0.6 else f", although the timing is that of {_label(timed)}"
    words = parameters.description or parameters.protocol
    return Guess(by_text, f'{source} "{words}"{caveat}', confidence)


def agent_recorded(parameters: AcquisitionParameters) -> bool:
    """Return whether a contrast agent is stated, and no word that denies it."""
    agent = _normalised(parameters.agent)
    absent = _NOT_GIVEN.fullmatch(agent) or _denies_agent(agent)
    return not absent and not _denies_agent(parameters.text)


def _by_timing(parameters: AcquisitionParameters) -> Guess:
    te, tr, ti = parameters.te_ms, parameters.tr_ms, parameters.ti_ms
    if "EP" in parameters.scanning_sequence:
        evidence = "echo-planar, as for diffusion or functional imaging: none of the four"
        return Guess(None, evidence, 0.4)
    if te is None or tr is None:
        return UNKNOWN
    evidence = f"TE {te:.0f} ms, TR {tr:.0f} ms" + (f", TI {ti:.0f} ms" if ti else "")
    gradient = "GR" in parameters.scanning_sequence and "SE" not in parameters.scanning_sequence
    if ti and 1500 <= ti <= 3200 and te >= 60:
        return Guess(FLAIR, evidence, 0.7)
    if te >= 60 and tr >= 2000 and not gradient and not ti:
        return Guess(T2, evidence, 0.6)
    if te > (12 if gradient else 30) or not (tr <= 1200 or (gradient and te <= 8)):
        return Guess(None, f"{evidence}: none of the four", 0.4)
    described = re.sub(r"\bpc\b", " ", _normalised(parameters.description))  # or phase contrast
    if _LOOSE_AGENT.search(described) and not _denies_agent(parameters.text):
        return Guess(T1C, f'{evidence}, contrast agent in "{parameters.description}"', 0.55)
    if agent_recorded(parameters):
        return Guess(T1C, f"{evidence}, contrast agent recorded", 0.55)
    return Guess(T1, evidence, 0.5)
