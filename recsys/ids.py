"""Ids of users and sales: blanks and invisible characters at their ends are no part of them."""

INVISIBLE = "".join(
    chr(code)
    for first, last in (
        (0x00, 0x20),  # controls and the blank
        (0x7F, 0xA0),  # more controls, the no-break space
        (0x1680, 0x1680),
        (0x2000, 0x200F),  # blanks of many widths, of no width, marks of direction
        (0x2028, 0x202F),
        (0x205F, 0x2064),
        (0x3000, 0x3000),
        (0xFEFF, 0xFEFF),  # the byte-order mark
    )
    for code in range(first, last + 1)
)
"""Characters that are removed from both ends of an id: a reader cannot see them, and systems add or lose them."""

PLACEHOLDERS = (
    *("null", "(null)", "none", "nil", "nan", "na", "n/a", "#n/a", "undefined", "unknown", "anonymous", "anon"),
    *("guest", "empty", "not set", "(not set)", "missing", "-1", "?", "''", '""'),
)
"""Ids, in lower case, that systems write where they know none; so are those of zeros and hyphens alone."""


def trimmed(text: str) -> str:
    """Return an id without blanks and invisible characters at its ends."""
    return text.strip(INVISIBLE)
