"""Checks a built site: every link to another place of the site has a target, and no page loads anything from elsewhere.

Usage: check.py FOLDER
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The anchors, the links and the loaded files of a page."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.loaded = {""}, [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        target = attributes.get("href") or attributes.get("src")
        if target and tag == "a":
            self.links.append(target)
        elif target:
            self.loaded.append(target)


def main(site):
    pages = {path: Page(path) for path in site.rglob("*.html")}
    mistakes = []
    for path, page in pages.items():
        where = path.relative_to(site)
        for target in page.loaded + page.links:
            url = urlsplit(target)
            if url.scheme or url.netloc:
                if target in page.loaded and url.scheme != "data":
                    mistakes.append(f"{where} loads {target}")
                continue
            if not (url.path or url.fragment):
                continue
            file = (path.parent / unquote(url.path)).resolve() if url.path else path
            file = site / url.path[1:] if url.path.startswith("/") else file
            file = file / "index.html" if file.is_dir() else file
            if not file.is_file():
                mistakes.append(f"{where} links to {target}, which does not exist")
            elif file in pages and unquote(url.fragment) not in pages[file].anchors:
                mistakes.append(f"{where} links to {target}, which has no such anchor")
    print(f"{len(pages)} pages, {sum(len(page.links) for page in pages.values())} links")
    sys.exit("\n".join(mistakes) or 0)


main(Path(sys.argv[1]).resolve())
