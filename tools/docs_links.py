"""A hook of mkdocs: links that leave ``docs/`` become the paths they name: the site holds only the pages.

``[a scheduler](../examples/plugins/mine.py)`` becomes ``a scheduler (`examples/plugins/mine.py`)``.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

LINK = re.compile(r"\[([^\]]*)\]\(((?:\.\./)+[^)\s]+)\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """The text of ``page`` with such links replaced."""
    folder = posixpath.join("docs", posixpath.dirname(page.file.src_uri))

    def replaced(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[2]))
        if path.startswith("docs/"):
            return match[0]
        text = match[1].strip("`")
        return f"`{path}`" if path.startswith(text) or path.endswith(text) else f"{match[1]} (`{path}`)"

    return LINK.sub(replaced, markdown)
