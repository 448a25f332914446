"""The phone sets of festival's voices: their symbols to the classes of :mod:`moda.phones`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from moda.phones import Classes, Phone, arpabet_phones

PhoneSet = Literal["arpabet", "italian", "finnish", "czech", "catalan", "russian", "indic"]


def _table(rows: Mapping[Phone, str]) -> dict[str, Phone]:
    return {symbol: phone for phone, symbols in rows.items() for symbol in symbols.split()}


COMMON = _table(
    {
        Phone.SILENCE: "pau # ## _",
        Phone.BILABIAL: "p b m",
        Phone.LABIODENTAL: "f v",
        Phone.DENTAL: "T D",
        Phone.ALVEOLAR: "t d n",
        Phone.SIBILANT: "s z ts dz",
        Phone.POSTALVEOLAR: "S Z tS dZ",
        Phone.VELAR: "k g N ng J",
        Phone.GLOTTAL: "h",
        Phone.RHOTIC: "r rr",
        Phone.LATERAL: "l L",
        Phone.ROUNDED: "w u y",
        Phone.O: "o O",
        Phone.A: "a",
        Phone.E: "e E",
        Phone.I: "i j",
        Phone.SCHWA: "ax @",
    }
)
SETS: dict[PhoneSet, dict[str, Phone]] = {
    "italian": {"nf": Phone.LABIODENTAL},
    "finnish": {"7": Phone.O, "@": Phone.A, "&": Phone.A},
    "czech": _table(
        {
            Phone.SIBILANT: "c",
            Phone.POSTALVEOLAR: "c~ s~ z~ dz~",
            Phone.VELAR: "ch t~ d~ n~ n*",
            Phone.RHOTIC: "r~ r~*",
        }
    ),
    "catalan": {},
    "russian": _table(
        {
            Phone.BILABIAL: "pp bb mm",
            Phone.LABIODENTAL: "ff vv",
            Phone.ALVEOLAR: "tt dd nn",
            Phone.SIBILANT: "ss zz c",
            Phone.POSTALVEOLAR: "sh zh ch sch",
            Phone.VELAR: "kk gg h hh",
            Phone.LATERAL: "ll",
            Phone.ROUNDED: "uu ur",
            Phone.O: "oo",
            Phone.A: "aa",
            Phone.E: "ee",
            Phone.I: "ii y yy ay",
            Phone.SCHWA: "ae",
        }
    ),
    "indic": _table(
        {
            Phone.BILABIAL: "bh ph",
            Phone.ALVEOLAR: "th dh T D N td tth ddh",
            Phone.SIBILANT: "S",
            Phone.POSTALVEOLAR: "sh zh ch j jh",
            Phone.VELAR: "x kh gh",
            Phone.RHOTIC: "R",
            Phone.ROUNDED: "uh uw",
            Phone.O: "oh oo",
            Phone.A: "aa",
            Phone.E: "eh ee",
            Phone.I: "ih iy y",
        }
    ),
}
PAIRS: dict[str, Classes] = {
    "ay": (Phone.A, Phone.I),
    "aw": (Phone.A, Phone.ROUNDED),
    "ksh": (Phone.VELAR, Phone.POSTALVEOLAR),
}


def festival_phones(symbol: str, phone_set: PhoneSet) -> Classes:
    """Classes of one phone of a festival voice; stress ``1`` and length ``:`` are passed over."""
    if phone_set == "arpabet":
        return arpabet_phones(symbol)
    known = COMMON | SETS[phone_set]
    for plain in (symbol, symbol.rstrip(":"), symbol.rstrip("1")):
        if plain in known:
            return (known[plain],)
    return PAIRS.get(symbol, ())
