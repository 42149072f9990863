"""Tasks that edit: what they see, what becomes of their changes, and that the user's checkout is the user's."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
from pathlib import Path

import pytest
from work_support import Hands, git, make_repository

from parallelai import AsyncParallelAI, Task
from parallelai.client.options import CarryOut
from parallelai.engines.protocol import Port, Request
from parallelai.errors import NotFoundError
from parallelai.records import Finding, Outcome, Reply, Severity
from parallelai.results import formats
from parallelai.results.document import GONE

FILES = {"a.py": "a = 1\n", "b.py": "b = 2\n", "src/c.py": "c = 3\n", ".gitignore": ".env\nnode_modules\n"}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repo", FILES)


def state_of_git(root: Path) -> dict[str, tuple[int, bytes]]:
    """All files of `.git`, with their times."""
    found = {}
    for path in sorted((root / ".git").rglob("*")):
        if path.is_file():
            found[str(path)] = (path.stat().st_mtime_ns, path.read_bytes())
    return found


async def test_a_change_is_made_apart_and_applied_when_asked(repository: Path) -> None:
    (repository / "b.py").write_text("b = 20\n")  # not committed
    (repository / "new.py").write_text("n = 1\n")  # not even added
    before = state_of_git(repository)
    seen: dict[str, str] = {}

    def act(request: Request, root: Path) -> str:
        seen.update({str(p.relative_to(root)): p.read_text() for p in root.glob("*.py")})
        (root / "a.py").write_text("a = 2\n")
        (root / "made" / "deep").mkdir(parents=True)
        (root / "made/deep/d.py").write_text("d\n")
        (root / "src/c.py").unlink()
        return "done"

    async with AsyncParallelAI(repository, engines=[Hands(act)]) as ai:
        task = Task(id="t", description="Change it.", engine="hands", edits=True)
        document = await ai.execute(tasks=[task])
        change = document.tasks[0].change
        assert change is not None
        assert (document.exit, change.files, change.applied) == (
            0,
            ("a.py", "made/deep/d.py", "src/c.py"),
            False,
        )
        assert seen == {"a.py": "a = 1\n", "b.py": "b = 20\n", "new.py": "n = 1\n"}
        assert (repository / "a.py").read_text() == "a = 1\n"
        assert state_of_git(repository) == before, "nothing at all is written to the user's repository"

        (applied,) = await ai.changes.apply()
        assert applied.refused == ()
        assert (repository / "a.py").read_text() == "a = 2\n"
        assert (repository / "made/deep/d.py").read_text() == "d\n"
        assert not (repository / "src").exists()
        assert ai.runs.show().tasks[0].change.applied
        (repository / "a.py").write_text("a = 1\n")
        shown = ai.runs.show().tasks[0].change
        assert (shown.applied, shown.why) == (True, "no longer in the checkout: a.py")
        again = await ai.runs.resume()
        assert again is not None
        assert again.tasks[0].change == shown

        await ai.changes.unapply()
        assert (repository / "src/c.py").read_text() == "c = 3\n"
        assert not (repository / "made").exists()
        assert (repository / "a.py").read_text() == "a = 1\n"
    assert state_of_git(repository) == before


async def test_the_patch_is_one_for_git_apply(repository: Path) -> None:
    def act(request: Request, root: Path) -> str:
        (root / "a.py").rename(root / "renamed.py")
        (root / "bin").write_bytes(bytes(range(256)))
        (root / "b.py").chmod(0o755)
        (root / "link").symlink_to("b.py")
        return "done"

    async with AsyncParallelAI(repository, engines=[Hands(act)]) as ai:
        document = await ai.execute(tasks=[Task(id="t", description="x", engine="hands", edits=True)])
    change = document.tasks[0].change
    assert change is not None
    git(repository, "apply", change.patch)
    assert (repository / "renamed.py").read_text() == "a = 1\n"
    assert (repository / "bin").read_bytes() == bytes(range(256))
    assert os.access(repository / "b.py", os.X_OK)
    assert os.readlink(repository / "link") == "b.py"


async def test_an_assistants_own_commits_are_part_of_the_change(repository: Path) -> None:
    def act(request: Request, root: Path) -> str:
        (root / "a.py").write_text("a = 5\n")
        git(root, "commit", "-q", "-a", "-m", "mine")
        git(root, "checkout", "-q", "-b", "elsewhere")
        git(root, "stash", "list")
        return git(root, "log", "--oneline")

    async with AsyncParallelAI(repository, engines=[Hands(act)]) as ai:
        document = await ai.execute(tasks=[Task(id="t", description="x", engine="hands", edits=True)])
    assert document.tasks[0].change is not None
    assert document.tasks[0].change.files == ("a.py",)
    assert git(repository, "branch", "--list").split() == ["*", "main"]
    assert len((document.tasks[0].text or "").splitlines()) == 3, "it sees the user's history"


async def test_a_later_task_sees_the_changes_of_earlier_ones(repository: Path) -> None:
    seen: dict[str, tuple[str, str]] = {}

    def act(request: Request, root: Path) -> str:
        seen[request.task] = (root / "a.py").read_text(), (root / "b.py").read_text()
        if request.task != "look":
            path = root / {"one": "a.py", "two": "b.py"}[request.task]
            path.write_text(f"by {request.task}\n")
        return "done"

    tasks = [
        Task(id="one", description="x", engine="hands", edits=True),
        Task(id="two", description="x", engine="hands", edits=True),
        Task(id="look", description="x", engine="hands", depends_on=["one", "two"]),
    ]
    async with AsyncParallelAI(repository, engines=[Hands(act)]) as ai:
        document = await ai.execute(tasks=tasks)
    assert document.exit == 0
    assert seen["look"] == ("by one\n", "by two\n")
    assert seen["two"] == ("a = 1\n", "b = 2\n")


class Reviewer(Hands):
    """Reports findings instead of what it says."""

    def __init__(self, *found: Finding) -> None:
        super().__init__(lambda request, root: "")
        self.name = "reviewer"
        self._found = found

    async def perform(self, request: Request, port: Port) -> Reply:
        return dataclasses.replace(await super().perform(request, port), text=None, findings=self._found)


async def test_a_review_of_changes_that_nobody_applied_keeps_its_findings(repository: Path) -> None:
    def act(request: Request, root: Path) -> str:
        (root / "a.py").write_text("a = 1\nnew = eval(a)\n")
        return "done"

    def finding(file: str, quote: str) -> Finding:
        return Finding(file, (1, 1), Severity.HIGH, f"about {quote}", quote=quote)

    found = finding("a.py", "new = eval(a)"), finding("a.py", "made = up"), finding("b.py", "b = 2")
    tasks = [
        Task(id="edit", description="x", engine="hands", edits=True),
        Task(id="look", description="x", engine="reviewer", output="findings", depends_on=["edit"]),
    ]
    async with AsyncParallelAI(repository, engines=[Hands(act), Reviewer(*found)]) as ai:
        document = await ai.execute(tasks=tasks)
    assert (repository / "a.py").read_text() == "a = 1\n"
    told = {(one.file, one.line[0], one.quote) for one in document.findings}
    assert told == {("a.py", 2, "new = eval(a)"), ("b.py", 1, "b = 2")}


async def test_changes_that_do_not_fit_together_are_a_conflict(repository: Path) -> None:
    def act(request: Request, root: Path) -> str:
        (root / "a.py").write_text(f"by {request.task}\n")
        return "done"

    tasks = [Task(id=name, description="x", engine="hands", edits=True) for name in ("one", "two")]
    tasks.append(Task(id="both", description="x", engine="hands", depends_on=["one", "two"]))
    async with AsyncParallelAI(repository, engines=[Hands(act)]) as ai:
        document = await ai.execute(tasks=tasks)
    error = document.tasks[2].error
    assert error is not None
    assert (error.kind, "`a.py`" in error.said) == ("conflict", True)


async def test_what_a_task_that_does_not_edit_changed_is_dropped_and_told(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parallelai.work.scratch.workspaces.is_confined", lambda workspace: False)

    def act(request: Request, root: Path) -> str:
        text = (root / "a.py").read_text()
        (root / "a.py").write_text("hacked\n")
        (root / "more").write_text("more\n")
        return text

    tasks = [Task(id=f"t{n}", description="x", engine="hands") for n in range(3)]
    async with AsyncParallelAI(repository, engines=[Hands(act)], config={"engines": {}}) as ai:
        document = await ai.execute(tasks=tasks, parallel=1)
        report = ai.runs.report()
    assert document.exit == 0
    assert {task.text for task in document.tasks} == {"a = 1\n"}, "each found the folder as it was"
    assert (repository / "a.py").read_text() == "a = 1\n"
    notes = [
        note for task in report.order for note in (report.reply(task).notes if report.reply(task) else ())
    ]
    assert len([note for note in notes if "does not edit" in note and "`a.py`" in note]) == 3


async def test_an_empty_change_is_no_success_unless_it_may_be(repository: Path) -> None:
    engine = Hands(lambda request, root: "I looked at it.")
    tasks = [
        Task(id="must", description="x", engine="hands", edits=True),
        Task(id="may", description="x", engine="hands", edits=True, empty="ok"),
    ]
    async with AsyncParallelAI(repository, engines=[engine]) as ai:
        document = await ai.execute(tasks=tasks, parallel=1)
    assert [task.status for task in document.tasks] == [Outcome.FAILED, Outcome.OK]
    assert document.tasks[0].error is not None
    assert document.tasks[0].error.kind == "invalid"
    asked = [request for request in engine.requests if request.task == "must"]
    assert len(asked) > 1, "it was told so in its session first"
    assert asked[1].session == "session of must"
    assert asked[0].root == asked[1].root


async def test_checks_run_in_the_workspace_and_a_failure_is_told_to_the_assistant(repository: Path) -> None:
    def act(request: Request, root: Path) -> str:
        (root / "a.py").write_text("good\n" if "exit 1" in request.prompt else "bad\n")
        return "done"

    engine = Hands(act)
    check = ["sh", "-c", "echo $PWD > where; echo junk >> b.py; grep good a.py"]
    task = Task(id="t", description="x", engine="hands", edits=True, checks=[check])
    async with AsyncParallelAI(repository, engines=[engine]) as ai:
        document = await ai.execute(tasks=[task])
    result = document.tasks[0]
    assert (result.status, result.turns) == (Outcome.OK, 2)
    assert result.change is not None
    assert result.change.files == ("a.py",), "what a check leaves behind is no part of the change"
    assert "where" not in (repository / result.change.patch).read_text()
    assert "grep good a.py" in engine.requests[1].prompt


async def test_a_check_that_keeps_failing_fails_the_task(repository: Path) -> None:
    def act(request: Request, root: Path) -> str:
        (root / "a.py").write_text(f"{len(request.prompt)}\n")
        return "done"

    task = Task(id="t", description="x", engine="hands", edits=True, checks=[["false"]], retries=0)
    async with AsyncParallelAI(repository, engines=[Hands(act)]) as ai:
        document = await ai.execute(tasks=[task], apply=True)
        kept = ai.changes.kept()
        assert (ai.changes.diff(), await ai.changes.apply()) == ((), ()), "it is no change to take"
        with pytest.raises(NotFoundError, match="no change to take") as refused:
            await ai.changes.apply(None, ["t"])
    (result,) = document.tasks
    assert result.error is not None
    assert (result.error.kind, result.change) == ("check_failed", None)
    assert result.error.said == "check `false` failed (exit 1)", "nothing follows where it printed nothing"
    log, patch = re.findall(r"`(.+?)`", result.error.next or "")
    assert (repository / log).is_file()
    assert kept == {"t": patch}
    assert "-a = 1\n" in (repository / patch).read_text()
    assert patch in (refused.value.next or "")
    assert (repository / "a.py").read_text() == FILES["a.py"]


async def test_todo_is_done_in_one_session_and_folder(repository: Path) -> None:
    def act(request: Request, root: Path) -> str:
        with (root / "a.py").open("a") as file:
            file.write(f"turn {request.turn}\n")
        return f"did {request.turn}"

    engine = Hands(act)
    task = Task(
        id="t", description="Build it.", engine="hands", edits=True, todo=["first", "second", "third"]
    )
    async with AsyncParallelAI(repository, engines=[engine]) as ai:
        document = await ai.execute(tasks=[task])
        await ai.changes.apply()
    assert (repository / "a.py").read_text() == "a = 1\nturn 1\nturn 2\nturn 3\n"
    assert len({request.root for request in engine.requests}) == 1
    assert [request.session for request in engine.requests] == [None, *["session of t"] * 2]
    assert "second" in engine.requests[1].prompt
    assert "Build it." not in engine.requests[1].prompt
    assert document.tasks[0].turns == 3


async def test_copy_link_setup_and_worktreeinclude(repository: Path) -> None:
    (repository / ".env").write_text("KEY=1\n")
    (repository / "node_modules").mkdir()
    (repository / "node_modules/m.js").write_text("m\n")
    (repository / "local.cfg").write_text("cfg\n")
    (repository / ".gitignore").write_text(".env\nnode_modules\nlocal.cfg\n")
    (repository / ".worktreeinclude").write_text("# mine\nlocal.cfg\n")
    seen: list[str] = []

    def act(request: Request, root: Path) -> str:
        names = (".env", "node_modules/m.js", "local.cfg", "prepared")
        seen.extend((root / name).read_text() for name in names)
        (root / "a.py").write_text("a = 2\n")
        return "done"

    plan = {
        "workspace": {
            "copy": [".env"],
            "link": ["node_modules"],
            "setup": [["sh", "-c", "echo ready > prepared"]],
        },
        "tasks": [{"id": "t", "description": "x", "engine": "hands", "edits": True}],
    }
    async with AsyncParallelAI(repository, engines=[Hands(act)]) as ai:
        document = await ai.execute(plan)
    assert document.exit == 0, document.tasks[0].error
    assert seen == ["KEY=1\n", "m\n", "cfg\n", "ready\n"]
    assert document.tasks[0].change is not None
    assert document.tasks[0].change.files == ("a.py",)
    patch = (repository / document.tasks[0].change.patch).read_text()
    assert "prepared" not in patch
    assert "by setup" not in patch


@pytest.mark.parametrize("pattern", ["up", "*p"])
async def test_what_leads_out_of_the_project_is_not_brought_in(repository: Path, pattern: str) -> None:
    (repository.parent / "outside").write_text("secret\n")
    (repository / "up").symlink_to("../outside")
    plan = {
        "workspace": {"copy": [pattern]},
        "tasks": [{"id": "t", "description": "x", "engine": "hands", "edits": True}],
    }
    async with AsyncParallelAI(repository, engines=[Hands(lambda request, root: "x")]) as ai:
        document = await ai.execute(plan)
    assert document.exit != 0
    assert document.tasks[0].error is not None
    assert "leads out of the project" in document.tasks[0].error.said


async def test_what_may_not_be_changed_is_kept_out(repository: Path) -> None:
    (repository / ".parallelai/roles").mkdir(parents=True)
    (repository / ".parallelai/roles/r.yaml").write_text("x: 1\n")

    def act(request: Request, root: Path) -> str:
        (root / "a.py").write_text("a = 2\n")
        (root / ".git/hooks").mkdir(exist_ok=True)
        (root / ".git/hooks/pre-commit").write_text("#!/bin/sh\n")
        (root / ".parallelai/roles/r.yaml").write_text("x: 2\n")
        (root / "evil").symlink_to("/etc/passwd")
        subprocess.run(["git", "init", "-q", "inner"], cwd=root, check=True)
        (root / "inner/f").write_text("f\n")
        return "done"

    async with AsyncParallelAI(repository, engines=[Hands(act)]) as ai:
        document = await ai.execute(tasks=[Task(id="t", description="x", engine="hands", edits=True)])
        (applied,) = await ai.changes.apply()
    change = document.tasks[0].change
    assert change is not None
    assert applied.kept_out == change.kept_out
    shown = formats.render("terminal", document, formats.RenderContext(root=repository))
    assert "kept out: .parallelai/roles/r.yaml, evil, inner/" in " ".join(shown.split())
    assert change.files == ("a.py",)
    assert set(change.kept_out) == {".parallelai/roles/r.yaml", "evil", "inner/"}
    assert not (repository / ".git/hooks/pre-commit").exists()
    assert not (repository / "evil").is_symlink()


async def test_a_secret_in_a_change_blocks_it(repository: Path) -> None:
    def act(request: Request, root: Path) -> str:
        (root / "a.py").write_text(f"a = 1\nKEY = '{'sk-' + 'a1' * 20}'\n")
        return "done"

    async with AsyncParallelAI(repository, engines=[Hands(act)]) as ai:
        document = await ai.execute(tasks=[Task(id="t", description="x", engine="hands", edits=True)])
    result = document.tasks[0]
    assert (result.status, result.change) == (Outcome.BLOCKED, None)
    assert result.error is not None
    assert result.error.kind == "trespass"
    assert result.error.said.endswith("a secret into `a.py:2`: a key of a model server")
    (patch,) = repository.rglob("*.patch")
    assert f"what it changed is kept in `{patch.relative_to(repository)}`" in (result.error.next or "")
    assert patch.stat().st_mode & 0o777 == 0o600
    assert "a1a1" not in formats.render("terminal", document, formats.RenderContext())


async def test_nothing_is_left_when_the_run_has_ended(repository: Path, tmp_path: Path) -> None:
    roots: list[Path] = []

    def act(request: Request, root: Path) -> str:
        roots.append(root)
        (root / "closed").mkdir()
        (root / "closed/f").write_text("x")
        (root / "closed").chmod(0)
        (root / "a.py").write_text("a = 3\n")
        return "done"

    tasks = [Task(id=f"t{n}", description="x", engine="hands", edits=n % 2 == 0) for n in range(4)]
    async with AsyncParallelAI(repository, engines=[Hands(act)]) as ai:
        await ai.execute(tasks=tasks)
    assert roots
    assert not any(root.exists() for root in roots)
    assert not roots[0].parent.exists()


async def test_resume_keeps_a_change_and_does_not_make_it_again(repository: Path) -> None:
    is_failing = True

    def act(request: Request, root: Path) -> str:
        if request.task == "two" and is_failing:
            return "nothing"
        (root / f"{request.task}.py").write_text((root / "a.py").read_text())
        return "done"

    engine = Hands(act, resumes=False)
    tasks = [
        Task(id="one", description="x", engine="hands", edits=True, files="*.py"),
        Task(id="two", description="x", engine="hands", edits=True, depends_on=["one"]),
    ]
    async with AsyncParallelAI(repository, engines=[engine]) as ai:
        first = await ai.execute(tasks=tasks)
        assert [task.status for task in first.tasks] == [Outcome.OK, Outcome.FAILED]
        await ai.changes.apply()  # the checkout is not as it was: by the run's own doing
        is_failing = False
        second = await ai.runs.resume()
        assert second is not None
        assert second.exit == 0
        await ai.changes.apply()
    assert [request.task for request in engine.requests] == ["one", "two", "two"]
    assert (repository / "two.py").read_text() == "a = 1\n"


async def test_outside_git_a_task_that_edits_is_refused_clearly(tmp_path: Path) -> None:
    engine = Hands(lambda request, root: "x")
    async with AsyncParallelAI(tmp_path, engines=[engine]) as ai:
        document = await ai.execute(tasks=[Task(id="t", description="x", engine="hands", edits=True)])
    error = document.tasks[0].error
    assert error is not None
    assert (error.kind, "git" in error.said) == ("unavailable", True)
    assert document.exit == 3
    assert not engine.requests


def states(ai: AsyncParallelAI) -> list[tuple[bool, str | None]]:
    """Of each change of the latest run whether it is said to be in the checkout, and what is said of it."""
    changes = [row.change for row in ai.runs.show().tasks]
    return [(change.applied, change.why) for change in changes if change is not None]


async def test_what_git_discarded_is_applied_again_and_what_was_edited_is_said(repository: Path) -> None:
    """Of two changes of the same line: the files count, not what was written down once."""

    def act(request: Request, root: Path) -> str:
        text = (root / "a.py").read_text()
        (root / "a.py").write_text(text.replace("1", "2") if request.task == "fix" else "a = 3\n")
        return "done"

    tasks = [
        Task(id="fix", description="x", engine="hands", edits=True),
        Task(id="doc", description="y", engine="hands", edits=True, depends_on=("fix",)),
    ]
    path = repository / "a.py"
    async with AsyncParallelAI(repository, engines=[Hands(act)]) as ai:
        run = (await ai.execute(tasks=tasks)).run
        assert [one.task for one in await ai.changes.apply()] == ["fix", "doc"]
        assert await ai.changes.apply() == ()
        assert states(ai) == [(True, None), (True, None)]
        path.write_text("a = 2\n")  # as `fix` had it, without `doc`
        assert states(ai) == [(True, None), (False, GONE)]
        git(repository, "checkout", "-q", ".")
        assert states(ai) == [(False, GONE), (False, GONE)]
        assert [one.change.why for one in ai.changes.diff()] == [GONE, GONE]
        shown = formats.render("terminal", ai.runs.show(run), formats.RenderContext(root=repository))
        assert f"1 file changed, {GONE}: .parallelai" in " ".join(shown.split())
        assert [one.why for one in await ai.changes.apply()] == [None, None]
        assert path.read_text() == "a = 3\n"
        assert states(ai) == [(True, None), (True, None)]
        path.write_text("a = 3  # mine\n")  # nobody knows what of it is whose
        edited = [(True, "edited since: a.py")] * 2
        assert states(ai) == edited
        assert [one.change.why for one in ai.changes.diff()] == ["edited since: a.py"] * 2
        assert [one.refused for one in await ai.changes.apply()] == [("a.py",)] * 2
        assert states(ai) == edited, "what is refused changes nothing"
        path.write_text("a = 3\n")
        assert states(ai) == [(True, None), (True, None)]
        git(repository, "checkout", "-q", ".")
        assert [one.why for one in await ai.changes.unapply()] == [None, None], "it was discarded"
        assert states(ai) == [(False, None), (False, None)]
        assert path.read_text() == "a = 1\n"
        assert [one.why for one in await ai.changes.apply()] == [None, None]

        (refused,) = await ai.changes.unapply(tasks=["fix"])
        assert refused.refused == ("a.py",)
        git(repository, "checkout", "-q", ".")
        (back,) = await ai.changes.unapply(tasks=["fix"])
        assert (back.why, back.dependents) == (None, ("doc",))
        document = await ai.runs.resume(run, CarryOut(is_applied=True))
        assert document is not None
        assert (document.exit, path.read_text()) == (0, "a = 3\n")

        path.write_text("a = 4\n")
        document = await ai.runs.resume(run, CarryOut(is_applied=True))
        assert document is not None
        change = document.tasks[1].change
        assert change is not None
        assert (document.exit, change.applied, path.read_text()) == (4, True, "a = 4\n")
        assert "edited since" in str(change.why)
