"""Interactive reports: one HTML file that holds all it shows, for any browser, without a server.

`data` arranges a record as plain values, `page` puts them into one file with the scripts of `assets/`.
"""

from pathlib import Path

from sweep.html.data import sweep_data
from sweep.html.page import page
from sweep.html.search import search_data
from sweep.record import Record

FILE_NAME = "report.html"


def write_html(record: Record, folder: Path) -> Path:
    """Write `report.html` into a folder; the same record gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    path.write_bytes(html_text(record).encode())
    return path


def html_text(record: Record) -> str:
    """Return the interactive report of a sweep as the text of one file."""
    search = {} if record.search is None else {"search": search_data(record.search)}
    return page(record.name, {**sweep_data(record), **search})
