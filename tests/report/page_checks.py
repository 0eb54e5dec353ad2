"""What must hold of any page: closed elements, no way out, nothing but its own script."""

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "input"}


class Outline(HTMLParser):
    """Reads a page, and fails where an element is not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.pictures_without_alt = 0
        self.tables_without_caption = 0

    def handle_starttag(self, tag, attrs):
        self._note(tag, dict(attrs))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables_without_caption += 1
        if tag == "caption":
            self.tables_without_caption -= 1

    def handle_startendtag(self, tag, attrs):
        self._note(tag, dict(attrs))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def _note(self, tag, attributes):
        assert not any(name.startswith("on") for name in attributes)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "a":
            self.links.append(attributes["href"])
        if tag == "img" and "alt" not in attributes:
            self.pictures_without_alt += 1


def check_page(page: str) -> None:
    """Fail where a page is not what every page must be."""
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    assert {link.removeprefix("#") for link in outline.links} <= set(outline.ids)
    assert outline.pictures_without_alt == outline.tables_without_caption == 0
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    steps = zip(outline.headings, outline.headings[1:], strict=False)
    assert all(after <= before + 1 for before, after in steps)
    check_closed(page)


def check_closed(page: str) -> None:
    """Fail where a page could reach anything outside it."""
    for word in ("http://", "https://", "@import", "url(http", "<style>*"):
        assert word not in page
    sources = re.findall(r'\b(?:src|href|srcset)="([^"]*)"', page)
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert page.count("<script>") == page.count("<script") == 1
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]+'", page)
