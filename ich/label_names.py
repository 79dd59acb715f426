"""What the name of a label, segment or region says it holds: which blood, or none."""

import re

from ich.tables import LABELS

LABEL = {"blood": 1, **LABELS}
EXTRA_AXIAL = "extra_axial"
IGNORE = "ignore"
KINDS = (*LABEL, EXTRA_AXIAL, IGNORE)
BLOOD = re.compile(r"bleed|\bblood\b|\bclot|h(?:a)?emorrhag|h(?:a)?ematoma\b|\b(?:ich|iph|ivh|[ac]?sah|[ac]?sdh|edh)\b")
PLACES = {
    "parenchymal": re.compile(r"parenchymal|intra ?cerebral|intra ?axial|\biph\b"),
    "ventricular": re.compile(r"ventric|\bivh\b"),
    "subarachnoid": re.compile(r"sub ?arachnoid|\b[ac]?sah\b"),
    EXTRA_AXIAL: re.compile(r"(?:sub|epi|extra) ?dural|extra ?axial|\b[ac]?sdh\b|\bedh\b"),
}
STRUCTURES = re.compile(
    r"edema|\bphe\b|infarct|isch(?:a)?emi|tumou?r|skull|bone|calvari|scalp|skin|soft tissue|brain|cerebrum|cerebell|"
    r"hemispher|\blobe|thalam|\bstem\b|parenchyma\b|ventricles?\b|\bspace|\bsystem|cistern|\bsulc|\bcsf\b|matter|"
    r"vessel|arter|vein|sinus|calcif|catheter|drain|\bevd\b|midline|\bair\b|\bhead\b|\beyes?\b|\blens|background|"
    r"external|\bbody\b|\bcouch|\btable\b"
)
OUTSIDE_SKULL = re.compile(r"scalp|sub ?galea|galea|cephal ?h|extra ?cranial|subcutaneous")
NOT_ALL_BLOOD = re.compile(r"edema|\bphe\b|infarct|tumou?r|\b(?:no|non|not|without)\b")
NAMES_NO_BLOOD = re.compile(r"blood (?:vessel\w*|pool|flow|volume)|peri ?h(?:a)?ematomal|peri ?h(?:a)?emorrhagic")


def name_kind(name: str) -> str:
    """What a segment of this name holds: one of `KINDS`, "unknown", or "ambiguous" where it says two things."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    text = NAMES_NO_BLOOD.sub(" ", re.sub(r"[^a-z]+", " ", text).strip())
    places = [kind for kind, pattern in PLACES.items() if pattern.search(text)]
    structure = STRUCTURES.search(text) is not None
    if OUTSIDE_SKULL.search(text) and not places:
        return IGNORE
    if re.search(r"\bich\b", text) and places and places != ["parenchymal"]:
        return "ambiguous"  # intracerebral and something else, or intracranial and so of one kind
    if BLOOD.search(text) or (places and not structure):
        if NOT_ALL_BLOOD.search(text) or len(places) > 1:
            return "ambiguous"
        return places[0] if places else "blood"
    return IGNORE if structure or NAMES_NO_BLOOD.search(name.lower()) else "unknown"
