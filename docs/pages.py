"""The site has pages that stand elsewhere in the repository, and notebooks: mkdocs calls these functions.

Links between files lead to the same page here and on the repository's page: they are written for the repository, and
turned into those of the site.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter
from pymdownx.slugs import slugify

ROOT = Path(__file__).parents[1]
ELSEWHERE = ("LICENSE", "[A-Z]*.md", "models/*/*.md", "examples/*.ipynb", "examples/*/README.md")
_RENAMED = {"README.md": "overview.md", "LICENSE": "LICENSE.txt"}  # an index.md is there; mkdocs wants an extension
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^)#\s]+)")
_NOTEBOOK = ".ipynb"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The navigation may have patterns; headings have the anchors that the repository's page gives them."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    config.nav = _expanded(config.nav)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that stand outside `docs/`, and the pictures of notebooks."""
    for path in sorted(path for pattern in ELSEWHERE for path in ROOT.glob(pattern)):
        for name, content in _made_of(path):
            files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links to files of the repository become links to pages of the site."""
    here = posixpath.dirname(page.file.src_uri)
    source = posixpath.dirname(_source_of(page.file.src_uri))

    def on_the_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(source, link[0]))
        return posixpath.relpath(page_of(target), here or ".")

    return LINK.sub(on_the_site, markdown)


def page_of(path: str) -> str:
    """The site's page of a file or folder of the repository; anything else keeps its path."""
    if (ROOT / path).is_dir():
        path = f"{path}/README.md"
    if path in _RENAMED:
        return _RENAMED[path]
    return path.removeprefix("docs/").replace(_NOTEBOOK, ".md")


def _source_of(page: str) -> str:
    """The file of the repository that a page is made of."""
    return f"docs/{page}" if (ROOT / "docs" / page).exists() else page


def _made_of(path: Path) -> Iterator[tuple[str, str | bytes]]:
    page = page_of(path.relative_to(ROOT).as_posix())
    if path.suffix != _NOTEBOOK:
        yield page, path.read_text()
        return
    text, resources = MarkdownExporter().from_filename(path, {"unique_key": path.stem, "output_files_dir": path.stem})
    yield page, text
    for name, content in resources["outputs"].items():
        yield f"{posixpath.dirname(page)}/{name}", content


def _expanded(nav: Any) -> Any:
    """The navigation with the pages of every pattern, such as `docs/decisions/0*.md`, in its place in a list."""
    if isinstance(nav, dict):
        return {title: _expanded(entry) for title, entry in nav.items()}
    if not isinstance(nav, list):
        return nav
    return [page for entry in nav for page in (_pages(entry) if _is_pattern(entry) else [_expanded(entry)])]


def _is_pattern(entry: Any) -> bool:
    return isinstance(entry, str) and "*" in entry


def _pages(pattern: str) -> list[str]:
    return [page_of(path.relative_to(ROOT).as_posix()) for path in sorted(ROOT.glob(pattern))]
