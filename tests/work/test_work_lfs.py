"""Files that git-lfs keeps: assistants get their content, and the user's repository only pointers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from repositories import Repository

from parallelai import AsyncParallelAI
from parallelai.records import TaskResult

POINTER = "version https://git-lfs.github.com/spec/v1\n"
FILTER = f"""#!/bin/sh
# What git-lfs does: `clean` keeps the content and gives a pointer, `smudge` gives the content of a pointer.
kept=$(mktemp); cat > $kept
if [ "$1" = clean ]; then
    name=$(sha256sum < $kept | cut -c1-64); mv $kept $0-$name
    printf '{POINTER.strip()}\\noid sha256:%s\\n' $name
else
    cat $0-$(sed -n s/^oid.sha256://p $kept); rm $kept
fi
"""
CONTENT = "content, and no pointer\n"


@pytest.fixture
def user(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.delenv("GIT_CONFIG_GLOBAL")
    program = tmp_path / "git-lfs"
    program.write_text(FILTER)
    program.chmod(0o755)
    (home / ".gitconfig").write_text(
        "[user]\n\tname = Ana\n\temail = ana@example.invalid\n"
        f'[filter "lfs"]\n\tclean = {program} clean\n\tsmudge = {program} smudge\n\trequired = true\n'
    )
    repository = Repository.start(tmp_path / "project")
    repository.commit({".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "a.bin": CONTENT})
    assert repository.git("show", "HEAD:a.bin").startswith(POINTER)
    return repository


async def carried_out(user: Repository, plan: dict[str, Any]) -> TaskResult:
    look = ["bash", "-c", "cat a.bin; echo more >> a.bin; echo new > b.bin"]
    plan = {"engines": {"sh": {"use": "command", "command": look}}, **plan}
    async with AsyncParallelAI(user.root) as ai:
        (row,) = (await ai.execute(plan, apply=True)).tasks
    assert row.status == "ok", row.error
    assert (row.text or "").startswith(CONTENT)
    assert (user.root / "a.bin").read_text() == f"{CONTENT}more\n"
    assert (user.root / "b.bin").read_text() == "new\n"
    return row


async def test_a_change_holds_content_and_a_commit_of_it_pointers(user: Repository) -> None:
    task = {"id": "t", "description": "d", "engine": "sh", "edits": True}
    row = await carried_out(user, {"tasks": [task]})
    assert row.change is not None
    assert row.change.files == ("a.bin", "b.bin")
    user.git("add", "-A")
    assert user.git("show", ":b.bin").startswith(POINTER)


async def test_a_workstream_lands_pointers(user: Repository) -> None:
    stream = {"description": "d", "engine": "sh", "owns": ["*.bin"]}
    await carried_out(user, {"workstreams": {"one": stream}})
    assert user.git("show", "main:a.bin").startswith(POINTER)
    assert user.git("show", "main:b.bin").startswith(POINTER)
    assert user.git("status", "--porcelain", "--", "*.bin") == ""
