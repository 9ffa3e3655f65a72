"""Pages of the site that lie elsewhere in the repository, and notebooks, as Markdown.

A hook of MkDocs. What a page links to in the repository is looked up there: a page of the site, a
file that the site then holds as well, or a broken link, which the build refuses.
"""

import json
import posixpath
import re
from html import escape
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"README.md": "index.md"}
"""Path in the repository -> page of the site, where that is made of it."""
PAGES |= {name: name.lower() for name in ("CONTRIBUTING.md", "CHANGELOG.md")}
for path in sorted(ROOT.glob("experiments/*/README.md")):
    PAGES[str(path.relative_to(ROOT))] = f"experiments/{path.parent.name}.md"
for path in sorted(ROOT.glob("docs/*.ipynb")):
    PAGES[str(path.relative_to(ROOT))] = f"{path.stem}.md"
SOURCES = {page: source for source, page in PAGES.items()}
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(#[^)\s]*)?(?=\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from elsewhere."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        if source.endswith(".ipynb"):
            files.remove(files.src_uris[source.removeprefix("docs/")])
            text = notebook_page(json.loads(text))
        files.append(File.generated(config, page, content=_linked(text, source, files, config)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links of the pages in docs/ to the rest of the repository."""
    source = page.file.src_uri
    return markdown if source in SOURCES else _linked(markdown, f"docs/{source}", files, config)


def notebook_page(notebook: dict[str, Any]) -> str:
    """A notebook as Markdown: text, code, and what the code printed or showed."""
    parts = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in cell.get("outputs", ()):
            shown = output.get("data", {})
            if "text/html" in shown:
                parts.append(f"<div>{''.join(shown['text/html'])}</div>")
            else:
                printed = "".join(output.get("text", shown.get("text/plain", "")))
                parts.append(f"<pre>{escape(printed)}</pre>")
    return "\n\n".join(parts) + "\n"


def _linked(text: str, source: str, files: Files, config: MkDocsConfig) -> str:
    """The text of the file `source` with its links into the repository as links of the site."""
    here = PAGES.get(source, source.removeprefix("docs/"))

    def link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        place = PAGES.get(target, target.removeprefix("docs/"))
        if place == target and (ROOT / target).is_file() and place not in files.src_uris:
            files.append(File.generated(config, place, abs_src_path=str(ROOT / target)))
        return posixpath.relpath(place, posixpath.dirname(here) or ".") + (match[2] or "")

    return LINK.sub(link, text)
