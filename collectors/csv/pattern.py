"""Regular expressions of a mapping: in linear time, whatever stands in them and in the file.

Python's own may need exponential time, and holds up the whole process meanwhile; whoever may import files
could stop the service with one. So they are those of RE2, which pyarrow brings: without backward references
and assertions around a place.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

_LONGEST = 1000


class Pattern:
    """A regular expression of RE2.

    Parameters
    ----------
    text : str
    ignore_case : bool

    Raises
    ------
    ValueError
        If it is none, or too long.
    """

    def __init__(self, text: str, *, ignore_case: bool = False) -> None:
        self._text, self._ignore_case = text, ignore_case
        if len(text) > _LONGEST:
            raise ValueError(f"a regular expression has at most {_LONGEST} characters, not {len(text)}")
        try:
            self.search("")
        except pa.ArrowInvalid as error:
            reason = str(error).removeprefix("Invalid regular expression: ")
            raise ValueError(f"{text!r} is no regular expression: {reason}") from None

    def search(self, text: str) -> bool:
        """Whether it stands anywhere in `text`."""
        return self._found(self._text, text)

    def match(self, text: str) -> bool:
        """Whether `text` begins with it."""
        return self._found(rf"\A(?:{self._text})", text)

    def _found(self, pattern: str, text: str) -> bool:
        found = pc.match_substring_regex(pa.scalar(text), pattern, ignore_case=self._ignore_case)
        return bool(found.as_py())
