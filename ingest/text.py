"""Text from hosts: only what the wire's escaping can have made is let in."""

from __future__ import annotations

import re
from typing import Final

from kaimon.base.escape import escape, unescape

_ODD: Final = re.compile(r"[\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def is_canonical(text: str) -> bool:
    r"""Say whether `text` is what `kaimon.base.escape` makes of some bytes.

    Control characters must be escaped, and nothing else may be: one name has one spelling, or two files could pass
    for one.
    """
    if _ODD.search(text) is None:
        return True
    try:
        return escape(unescape(text)) == text
    except (ValueError, UnicodeEncodeError):
        return False
