"""Whoever follows a page of docs/ meets what the page says: the same reader as the README's, page by page."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tour import REPOSITORY, Reader, blocks

DOCS = REPOSITORY / "docs"
GENERATED = {"cli.md", "plan.md", "config.md", "events.md", "errors.md"}
PAGES = sorted(
    path
    for path in [*DOCS.rglob("*.md"), REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "AGENTS.md"]
    if path.name not in GENERATED
)
RUN = [path for path in PAGES if blocks(path.read_text(encoding="utf-8"))]
ALL = [*PAGES, REPOSITORY / "README.md", *(REPOSITORY / "examples").rglob("*.md")]
_NAMES = {path: path.relative_to(REPOSITORY).as_posix() for path in ALL}


@pytest.mark.parametrize("page", RUN, ids=_NAMES.get)
def test_a_page_can_be_followed(page: Path, tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(REPOSITORY / "examples" / "shop", shop)
    reader = Reader(tmp_path / "home", shop)
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "A small shop"]):
        subprocess.run(["git", *command], cwd=shop, env=reader.env, check=True)
    reader.follow(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", ALL, ids=_NAMES.get)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{_NAMES[page]} links to {target}"


def test_no_address_is_made_up() -> None:
    # The project has no public address yet, and nobody should be sent to a place that somebody else may take.
    known = (
        "https://agentclientprotocol.com",
        "https://docs.astral.sh/",
        "https://docs.oasis-open.org/",
        "http://127.0.0.1",
        "http://www.w3.org/",
    )
    files = [*ALL, REPOSITORY / "mkdocs.yml", *(REPOSITORY / "examples").rglob("*.*"), *DOCS.glob("*.svg")]
    for path in {path for path in files if path.is_file()}:
        for address in re.findall(r"https?://[^\s)>\"'`]+", path.read_text(encoding="utf-8")):
            assert address.startswith(known), f"{path.name}: {address}"


def test_agents_page_is_short() -> None:
    assert len((REPOSITORY / "AGENTS.md").read_text(encoding="utf-8").splitlines()) < 100
