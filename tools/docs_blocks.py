"""A hook of mkdocs: what the tests need to know of a code block becomes what a reader wants to see.

The first line of a block may say ``file=NAME`` (the name becomes the block's title), ``status=N`` or
``set=…`` (for ``tests/docs``, dropped). Left as they are, the site would take such a block for plain text.
"""

from __future__ import annotations

import re
from typing import Any

FENCE = re.compile(r"^```(\w+) +([^\n]+)$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The text of a page with the first lines of its blocks as the site's markdown has them."""

    def replaced(match: re.Match[str]) -> str:
        options = dict(word.split("=", 1) for word in match[2].split())
        title = f' title="{options["file"]}"' if "file" in options else ""
        return f"```{match[1]}{title}"

    return FENCE.sub(replaced, markdown)
