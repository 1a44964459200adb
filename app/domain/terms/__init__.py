"""One vocabulary: the name of every load class, state, rule and profile, in each language.

Pages, reports, boards, alarm texts and the command line take their terms from here, so that a thing has the
same name everywhere. One file per language, each a table family -> code -> term; adding a language is adding
its file to :data:`LANGUAGES`. English follows ISO/IEC 30134 and EN 50600, Chinese GB/T 32910.3 and GB 40879.
"""

from __future__ import annotations

from collections.abc import Mapping

from app.domain.terms import en, zh

LANGUAGES: Mapping[str, Mapping[str, Mapping[str, str]]] = {"en": en.TERMS, "zh": zh.TERMS}
"""Language code -> family -> code -> term."""


def term(language: str, family: str, code: str, otherwise: str | None = None) -> str:
    """Name of a code in a language.

    Parameters
    ----------
    language : str
        ``en`` or ``zh``.
    family : str
        Kind of thing, such as ``class``, ``finding`` or ``rule``.
    code : str
        Machine-readable name within the family.
    otherwise : str, optional
        What to say where there is no such term; the code itself when absent.
    """
    found = LANGUAGES[language].get(family, {}).get(code)
    return found if found is not None else code if otherwise is None else otherwise
