"""Text that every place takes: what fails may name files whose names are no text, or hold zero bytes.

Such a text cannot be written as UTF-8, or not into PostgreSQL, and whoever tries again tries for ever.
"""


def plain_text(text: str) -> str:
    r"""Return a text with what cannot be stored written out, as in `\udce9` or `\x00`."""
    return text.encode(errors="backslashreplace").decode().replace("\0", r"\x00")
