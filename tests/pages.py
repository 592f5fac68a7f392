"""A report's page, read as a browser reads it: headings, pictures, and whatever it would fetch."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

from PIL import Image

_FETCHING = frozenset(
    {"src", "srcset", "href", "xlink:href", "data", "poster", "background", "action"}
)
_FETCHING_TAGS = frozenset({"script", "link", "iframe", "object", "embed", "base"})
_STYLE_FETCHES = re.compile(r"@import[^;]*|url\([^)]*\)")


class Page(HTMLParser):
    """What a page holds.

    Attributes:
        headings: Text of its ``h2``.
        captions: Text of its ``figcaption``, lines joined by a space.
        images: Where the pictures of its ``img`` are.
        outside: What it would fetch from elsewhere: tags, addresses, rules of a style.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.captions: list[str] = []
        self.images: list[str] = []
        self.outside: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _FETCHING_TAGS:
            self.outside.append(tag)
        for name, value in attrs:
            if name in _FETCHING and not (value or "").startswith(("data:", "#")):
                self.outside.append(f"{name}={value}")
            if name == "style":
                self._note_style(value or "")
        if tag == "img":
            self.images.append(dict(attrs).get("src") or "")
        if tag in ("h2", "figcaption", "style"):
            self._inside = tag
            rows = {"h2": self.headings, "figcaption": self.captions}.get(tag)
            if rows is not None:
                rows.append("")
        elif tag == "br" and self._inside == "figcaption":
            self.captions[-1] += " "

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self._note_style(data)
        elif self._inside:
            rows = self.headings if self._inside == "h2" else self.captions
            rows[-1] += data

    def picture(self, index: int) -> Image.Image:
        """Return one of the pictures that lie within the page."""
        kind, _, encoded = self.images[index].partition(";base64,")
        assert kind == "data:image/jpeg"
        return Image.open(io.BytesIO(base64.b64decode(encoded)))

    def _note_style(self, rules: str) -> None:
        found = _STYLE_FETCHES.findall(rules)
        self.outside += [rule for rule in found if not rule.startswith(("url(#", "url(data:"))]
