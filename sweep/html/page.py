"""The HTML file itself: data as JSON, style and scripts, all in one; nothing is ever fetched.

The scripts are parts of one program: they are joined in the order of `SCRIPTS` and share one scope.
"""

import html
import json
import math
from collections.abc import Mapping
from importlib import resources
from typing import Any

SCRIPTS = (
    "draw.js",
    "axes.js",
    "heatmap.js",
    "triangles.js",
    "contour.js",
    "slices.js",
    "parallel.js",
    "pareto.js",
    "curves.js",
    "search.js",
    "comparison.js",
    "page.js",
)

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""Browsers enforce what the file promises: it loads nothing."""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main id="page"></main>
<noscript>This report is drawn by scripts in this file; please allow them.</noscript>
<script type="application/json" id="data">{data}</script>
<script>
"use strict";
(() => {{
{script}}})();
</script>
</body>
</html>
"""


def page(title: str, data: Mapping[str, Any]) -> str:
    """Return the file's text.

    Args:
        title: The document's title.
        data: What is shown; NaN becomes null and an infinity the text "inf" or "-inf".
    """
    return _PAGE.format(
        policy=POLICY,
        title=html.escape(title),
        style=_asset("page.css"),
        data=embedded(data),
        script="".join(_asset(name) for name in SCRIPTS),
    )


def embedded(value: Any) -> str:
    """Return JSON that is safe within a script element, whatever texts it holds."""
    text = json.dumps(
        _plain(value), ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False
    )
    # JSON has these characters in strings only, so their escapes mean the same.
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if math.isinf(value):
            return "inf" if value > 0 else "-inf"
    return value


def _asset(name: str) -> str:
    return resources.files("sweep.html").joinpath("assets", name).read_text(encoding="utf-8")
