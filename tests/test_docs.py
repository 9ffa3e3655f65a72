"""The documentation: every public name is explained by an example that runs, and listed once."""

import doctest
import importlib
import inspect
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

import nassearch as ns
from nassearch import config

ROOT = Path(ns.__file__).parent.parent
DOCS = ROOT / "docs"
FUNCTIONS = [name for name in ns.__all__ if name.islower()]
SECTIONS = ("Args:", "Returns:", "Raises:", "Examples:")
sys.path.insert(0, str(DOCS))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which something was trained and searched."""
    place = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        supernet = ns.train_supernet("digits_tiny", "digits", epochs=1, threads=1)
        table = ns.profile_device("digits_tiny", "box", runtime="fake", seconds=1)
        ns.search_subnets(supernet, devices=[table], budgets=["30%", "60%"], trials=6)
    return place


@pytest.mark.parametrize("name", ns.__all__)
def test_the_example_of_a_public_name_runs(
    name: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")
    torch.manual_seed(0)
    text = inspect.getdoc(getattr(ns, name)) or ""
    test = doctest.DocTestParser().get_doctest(text, {}, name, name, 0)
    assert test.examples, f"{name} has no example"
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    printed: list[str] = []
    doctest.DocTestRunner(optionflags=flags, verbose=False).run(test, out=printed.append)
    assert not printed, "".join(printed)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_says_what_it_takes_and_returns(name: str) -> None:
    function = getattr(ns, name)
    text = inspect.getdoc(function) or ""
    assert [section for section in SECTIONS if section not in text] == []
    assert text.split()[0] not in ("What", "Which", "The", "A"), "a docstring begins with a verb"
    arguments = text.partition("Args:")[2].partition("Returns:")[0]
    missing = [
        parameter
        for parameter in inspect.signature(function).parameters
        if not re.search(rf"\b{parameter}\b", arguments)
    ]
    assert missing == []


def test_the_reference_lists_every_public_name_once() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^::: nassearch\.(\w+)$", page, re.MULTILINE)
    assert sorted(listed) == sorted(ns.__all__)


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:")[2]
    pages = [path.name for path in DOCS.glob("*.md")]
    pages += [path.with_suffix(".md").name for path in DOCS.glob("*.ipynb")]
    pages += [f"experiments/{path.parent.name}.md" for path in ROOT.glob("experiments/*/README.md")]
    assert [page for page in pages if f": {page}" not in navigation] == []


PAGES = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")]
PAGES += sorted(DOCS.glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s#:]+)(?:#[^)\s]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_python_on_the_pages_is_python_and_uses_what_there_is() -> None:
    for page in (ROOT / "README.md", *DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            compile(block, str(page), "exec")
        names = re.findall(r"\bns\.(\w+)", text)
        assert [name for name in names if name not in ns.__all__] == [], page.name


def test_what_was_renamed_is_where_the_changes_say() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    table = changes.partition("| module | is now |")[2].partition("| name |")[0]
    rows = re.findall(r"^\| `([\w.]+)` \| (.+) \|$", table, re.MULTILINE)
    assert len(rows) > 40
    for before, now in rows:
        for module in re.findall(r"`([\w.]+)`", now):
            importlib.import_module(f"nassearch.{module}")
        with pytest.raises(ImportError):
            importlib.import_module(f"nassearch.{before}")


def test_the_site_takes_its_notebooks_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pages = pytest.importorskip("site_pages")
    checks = importlib.import_module("site_check")
    notebook = json.loads((DOCS / "whole_job.ipynb").read_text(encoding="utf-8"))
    assert "```python\nimport nassearch as ns" in pages.notebook_page(notebook)
    (tmp_path / "index.html").write_text(
        "<script src=https://cdn.example/a.js></script>"
        "<link rel=canonical href=https://here.example>"
        "<a href=https://elsewhere.example>a link is no load</a><img src=own.png>"
        "<style>@import '//fonts.example/b.css';</style>"
    )
    loads = [address for _, address in checks.foreign_loads(tmp_path)]
    assert loads == ["https://cdn.example/a.js", "//fonts.example/b.css"]
    assert config.read_yaml(ROOT / "mkdocs.yml")["theme"]["font"] is False
