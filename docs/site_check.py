"""Checks the built site: no script, style, font or picture of it comes from another place."""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

LOADED = {"script": ("src",), "link": ("href",), "img": ("src", "srcset"), "iframe": ("src",)}
LOADED |= {"source": ("src", "srcset"), "video": ("src", "poster"), "audio": ("src",)}
LOADED |= {"object": ("data",), "embed": ("src",), "image": ("href", "xlink:href")}
NOT_LOADED = {"canonical", "next", "prev", "alternate"}
STYLE = re.compile(r"""(?:url\(|@import)\s*['"]?\s*((?:https?:)?//[^'")\s]+)""")


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "link" and set(values.get("rel", "").split()) & NOT_LOADED:
            return
        self.found += [values[name] for name in LOADED.get(tag, ()) if name in values]
        self.found += STYLE.findall(values.get("style", ""))


def foreign_loads(site: Path) -> Iterator[tuple[Path, str]]:
    """(page, address) of everything that a page or a style sheet loads from another host."""
    for page in sorted(site.rglob("*.html")):
        reader = _Loads()
        text = page.read_text(encoding="utf-8")
        reader.feed(text)
        addresses = [*reader.found, *STYLE.findall(text)]
        yield from ((page, item) for item in addresses if re.match(r"(?:https?:)?//", item))
    for style in sorted(site.rglob("*.css")):
        yield from ((style, item) for item in STYLE.findall(style.read_text(encoding="utf-8")))


if __name__ == "__main__":
    loads = [f"{page}: loads {address}" for page, address in foreign_loads(Path(sys.argv[1]))]
    sys.exit("\n".join(loads) or 0)
