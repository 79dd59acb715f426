"""A page as tests read it: its elements, its text, and whether it asks anybody for anything."""

import re
from html.parser import HTMLParser

EMPTY = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Page(HTMLParser):
    """Elements of a page; an element closed in the wrong order is an error."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def check_page(text):
    """A page that is complete, closed, and asks nobody for anything."""
    found = Page(text)
    for _, attributes in found.elements:
        for name in ("src", "href", "srcset", "data", "poster"):
            address = attributes.get(name) or ""
            assert not re.match(r"(https?:)?//", address), address
    assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import", text)
    assert "default-src 'none'" in found.all("meta")[1]["content"]
    assert found.all("html") == [{"lang": "en"}]
    assert len(found.all("h1")) == 1
    assert all("alt" in image for image in found.all("img"))
    identifiers = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    return found
