"""README.md, of which each script here writes the part that its results tell."""

import re
from pathlib import Path

from nassearch import files

PAGE = Path(__file__).parent / "README.md"


def write_part(script: str, text: str) -> None:
    """Replace what `script` wrote before, or add it at the end."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    begin, end = f"<!-- {script} -->", f"<!-- end of {script} -->"
    part = f"{begin}\n{text.strip()}\n{end}\n"
    found = re.compile(f"{re.escape(begin)}.*{re.escape(end)}\n", re.DOTALL)
    if found.search(page):
        page = found.sub(lambda _: part, page)
    else:
        page = f"{page}\n{part}" if page else part
    files.write_text(PAGE, page)
