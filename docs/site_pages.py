"""Pages of the site that lie elsewhere in the repository: README, CONTRIBUTING, CHANGELOG and the benchmarks.

Links in all pages are those of the repository, where a reader may follow them too. MkDocs calls the two hooks named in
mkdocs.yml: `on_files` adds the pages, `on_page_markdown` turns links to the place a page has in the site.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, and what the benchmarks' pages link to."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    for path in sorted((ROOT / "benchmarks").rglob("*")):
        if path.suffix in {".md", ".png", ".csv", ".py", ".txt"}:
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn the links of one page."""
    here = PurePosixPath(page.file.src_uri)

    def turned(link: re.Match[str]) -> str:
        return relpath(in_site(normpath(in_repository(here).parent / link[1])), here.parent)

    return LINK.sub(turned, markdown)


def in_repository(page: PurePosixPath) -> PurePosixPath:
    """Return the path in the repository of a page of the site."""
    if page.parts[0] == "benchmarks":
        return page
    names = {PurePosixPath(there): PurePosixPath(name) for name, there in PAGES.items()}
    return names.get(page, "docs" / page)


def in_site(path: str) -> str:
    """Return the path in the site of a file of the repository."""
    return PAGES.get(path, path.removeprefix("docs/"))
