"""The target on its remote, and pull requests."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from landing_support import Field, Files, Gate, landed
from repositories import Repository as Checkout

from parallelai.client.workstreams.arrivals import result_of
from parallelai.errors import UsageError
from parallelai.records import Outcome
from parallelai.work.landing.records import Arrival, Plan, Verdict

PUSH = Plan("main", push=True)


@pytest.fixture
def field(tmp_path: Path) -> Field:
    made = Field(tmp_path / "repo", {"a.txt": "1\n2\n3\n"})
    made.checkout.git("clone", "-q", "--bare", str(made.root), str(tmp_path / "remote.git"))
    made.checkout.git("remote", "add", "origin", str(tmp_path / "remote.git"))
    return made


def colleague(field: Field) -> Checkout:
    place = field.root.parent / "colleague"
    if not place.exists():
        field.checkout.git("clone", "-q", str(field.root.parent / "remote.git"), str(place))
    return Checkout(place)


def remote(field: Field, ref: str = "main") -> str:
    return Checkout(field.root.parent / "remote.git").git("rev-parse", f"refs/heads/{ref}").strip()


def no_bad(files: Files) -> bool:
    return not any(path.startswith("bad") for path in files)


def test_what_landed_is_pushed(field: Field) -> None:
    arrivals = field.land([field.branch("one", {"x": "1"})], field.gate(no_bad), plan=PUSH)
    assert arrivals["one"].push_error is None
    assert remote(field) == field.tip() != field.base


def test_without_the_setting_nothing_is_pushed(field: Field) -> None:
    field.land([field.branch("one", {"x": "1"})])
    assert remote(field) == field.base


def test_a_rejection_brings_what_others_pushed_and_pushes_again(field: Field) -> None:
    other = colleague(field)
    theirs = other.commit({"theirs": "1"})
    other.git("push", "-q", "origin", "main")
    gate = field.gate(no_bad)
    arrivals = field.land([field.branch("one", {"x": "1"})], gate, plan=PUSH)
    assert arrivals["one"].push_error is None
    assert remote(field) == field.tip()
    assert {"x", "theirs"} <= field.files().keys()
    assert len(gate.judged) == 2
    merge, landing = field.first_parents()
    assert field.checkout.git("log", "-1", "--format=%P", merge).split() == [landing, theirs]
    assert "refs/parallelai" not in field.checkout.git("for-each-ref")
    assert field.status() == ""


class Racing(Gate):
    """A gate during which a colleague pushes, a number of times."""

    def __init__(self, field: Field, times: int) -> None:
        super().__init__(field.repository, no_bad)
        self.other = colleague(field)
        self.times = times

    async def judge(self, commit: str, base: str, names: tuple[str, ...]) -> Verdict:
        if self.times:
            self.times -= 1
            self.other.commit({f"theirs-{self.times}": "1"})
            self.other.git("push", "-q", "origin", "main")
        return await super().judge(commit, base, names)


def test_several_rejections_end_in_one_push(field: Field) -> None:
    arrivals = field.land([field.branch("one", {"x": "1"})], Racing(field, 3), plan=PUSH)
    assert arrivals["one"].push_error is None
    assert remote(field) == field.tip()
    assert {"x", "theirs-0", "theirs-1", "theirs-2"} <= field.files().keys()


def test_pushing_gives_up_and_says_so(field: Field) -> None:
    arrivals = field.land([field.branch("one", {"x": "1"})], Racing(field, 100), plan=PUSH)
    error = arrivals["one"].push_error
    assert landed(arrivals) == {"one"}
    assert error is not None
    assert (error.kind, error.retry_helps) == ("transient", True)


@pytest.mark.parametrize(
    ("theirs", "kind", "pulled"), [({"x": "2"}, "conflict", 1), ({"bad": "1"}, "gate_failed", 0)]
)
def test_what_does_not_fit_to_the_remote_has_landed_here_only(
    field: Field, theirs: dict[str, str | bytes], kind: str, pulled: int
) -> None:
    other = colleague(field)
    pushed = other.commit(theirs)
    other.git("push", "-q", "origin", "main")
    arrivals = field.land([field.branch("one", {"x": "1"})], field.gate(no_bad), plan=PUSH)
    error = arrivals["one"].push_error
    assert landed(arrivals) == {"one"}
    assert error is not None
    assert (error.kind, error.next) == (kind, "git pull --no-rebase origin main")
    assert remote(field) == pushed
    assert field.files()["x"] == "1"
    done = subprocess.run(error.next.split(), cwd=field.root, check=False, capture_output=True)
    assert done.returncode == pulled, "git merges it, or asks to settle that; it does not ask how"


def test_a_remote_that_refuses_is_not_asked_again(field: Field) -> None:
    hook = field.root.parent / "remote.git" / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho no >&2\nexit 1\n")
    hook.chmod(0o755)
    arrivals = field.land([field.branch("one", {"x": "1"})], plan=PUSH)
    error = arrivals["one"].push_error
    assert error is not None
    assert error.kind == "rejected"
    assert "pre-receive hook declined" in error.said


def test_who_is_faster_in_the_middle_of_a_push_is_brought_as_well(field: Field) -> None:
    other = colleague(field)
    theirs = other.commit({"theirs": "1"})
    other.git("push", "-q", "origin", "main:refs/heads/later")
    hook = field.root.parent / "remote.git" / "hooks" / "pre-receive"
    move = f"env -u GIT_QUARANTINE_PATH git update-ref refs/heads/main {theirs}"
    hook.write_text(f'#!/bin/sh\nrm "$0"\n{move}\n')
    hook.chmod(0o755)
    arrivals = field.land([field.branch("one", {"x": "1"})], plan=PUSH)
    assert not hook.exists()
    assert arrivals["one"].push_error is None
    assert remote(field) == field.tip()
    assert {"x", "theirs"} <= field.files().keys()


def test_a_remote_that_cannot_move_its_branch_says_so(field: Field) -> None:
    lock = field.root.parent / "remote.git" / "refs" / "heads" / "main.lock"
    lock.touch()
    error = field.land([field.branch("one", {"x": "1"})], plan=PUSH)["one"].push_error
    assert error is not None
    assert error.kind == "rejected"
    assert "failed to update ref" in error.said


def test_what_git_says_of_a_push_in_several_lines_is_one_without_gaps(field: Field) -> None:
    field.checkout.git("remote", "set-url", "origin", "../nowhere.git")
    error = field.land([field.branch("one", {"x": "1"})], plan=PUSH)["one"].push_error
    assert error is not None
    assert "repository; fatal: Could not read from remote repository; Please make sure" in error.said
    assert not re.search(r"[.;:] *;", error.said)

    hook = field.root / ".git" / "hooks" / "pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nprintf '\\nno, not so;\\n\\n \\nfirst:\\n\\nthis.\\n' >&2\nexit 1\n")
    hook.chmod(0o755)
    field.checkout.git("remote", "set-url", "origin", str(field.root.parent / "remote.git"))
    again = field.land([field.branch("two", {"y": "1"})], plan=PUSH)["two"].push_error
    assert again is not None
    assert again.said.startswith("not pushed: no, not so; first: this; error: failed to push some refs")


def test_without_a_remote_that_is_said(field: Field) -> None:
    field.checkout.git("remote", "remove", "origin")
    arrivals = field.land([field.branch("one", {"x": "1"})], plan=PUSH)
    error = arrivals["one"].push_error
    assert error is not None
    assert (error.said, error.next) == (
        "not pushed: the repository has no remote",
        "`git remote add origin ADDRESS`, then land again with `--push`",
    )


def test_what_is_pending_is_not_pushed(field: Field) -> None:
    field.checkout.write({"a.txt": "mine"})
    arrivals = field.land([field.branch("one", {"a.txt": "0\n"})], plan=PUSH)
    assert "waits on `parallelai/landing/main`" in str(arrivals["one"].push_error)
    assert remote(field) == field.base
    field.checkout.git("checkout", "-q", "--", "a.txt")
    field.land([field.branch("one", {"a.txt": "0\n"})], plan=PUSH)
    assert remote(field) == field.tip() != field.base


def test_the_branch_is_pushed_to_what_it_follows(field: Field) -> None:
    field.checkout.git("push", "-q", "origin", "main:trunk")
    field.checkout.git("fetch", "-q", "origin")
    field.checkout.git("branch", "-q", "--set-upstream-to=origin/trunk", "main")
    field.land([field.branch("one", {"x": "1"})], plan=PUSH)
    assert (remote(field, "trunk"), remote(field)) == (field.tip(), field.base)


def test_what_git_says_of_a_push_is_told_without_secrets(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "my-own-secret")
    hook = field.root / ".git" / "hooks" / "pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'no: https://me:pass@host.example has no my-own-secret' >&2\nexit 1\n")
    hook.chmod(0o755)
    error = field.land([field.branch("one", {"x": "1"})], plan=PUSH)["one"].push_error
    assert error is not None
    assert "not pushed: no: https://host.example has no ••••" in error.said


# -- pull requests


def program(field: Field, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> Path:
    """Put a program of a host on the PATH; what it was called with is in the file that is given."""
    folder = bare_path(field, monkeypatch)
    calls = field.root.parent / "calls"
    calls.write_text("")
    path = folder / name
    path.write_text(f'#!/bin/sh\nprintf "%s\\n" "{name} $*" >> {calls}\n{script}\n')
    path.chmod(0o755)
    return calls


def bare_path(field: Field, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH without the programs of hosts that this machine may have; gives its folder."""
    folder = field.root.parent / "bin"
    folder.mkdir(exist_ok=True)
    for name in ("git", "cat"):
        found = shutil.which(name)
        if found is not None and not (folder / name).exists():
            (folder / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(folder))
    return folder


PR = Plan("main", via="pr")


def test_pull_requests_are_opened_for_what_passes(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = program(
        field,
        monkeypatch,
        "gh",
        '[ "$2" = list ] && echo "[]" && exit\ncat > body\necho https://host.example/pull/7',
    )
    one = field.branch("one", {"x": "1"}, intent="Does one\n\nIn detail", trailers={"ParallelAI-Run": "r-1"})
    branches = [
        one,
        field.branch("worse", {"bad": "1"}),
        field.branch("two", {"y": "1"}, depends_on=("one",)),
    ]
    gate = field.gate(no_bad)
    arrivals = field.land(branches, gate, plan=PR)
    assert arrivals["one"].pull_request == "https://host.example/pull/7"
    assert arrivals["one"].landed is arrivals["one"].error is None
    assert arrivals["worse"].error is not None
    assert arrivals["worse"].error.kind == "gate_failed"
    assert arrivals["two"].waits_for == "one"
    assert remote(field, "one") == one.commit
    assert field.tip() == remote(field) == field.base
    assert len(gate.judged) == 2
    view, create = calls.read_text().splitlines()
    assert view.startswith("gh pr list --head=one --base=main --state=open ")
    assert create == "gh pr create --base=main --head=one --title=Does one --body-file=-"
    assert "In detail" in (field.root / "body").read_text()
    assert "ParallelAI-Run: r-1" in (field.root / "body").read_text()


ADDRESS = "https://host.example/pull/3"
OTHERS = {"url": "https://host.example/pull/2", "isCrossRepository": True}
GITHUB = [OTHERS, {"url": ADDRESS, "isCrossRepository": False}]
MERGE_REQUEST = {
    "web_url": ADDRESS,
    "state": "opened",
    "source_branch": "one",
    "target_branch": "main",
    "description": "state: closed\n",
    "source_project_id": 1,
    "target_project_id": 1,
}
GITLAB = [{**MERGE_REQUEST, "web_url": "https://host.example/pull/9", "source_project_id": 2}, MERGE_REQUEST]


@pytest.mark.parametrize(("name", "told"), [("gh", GITHUB), ("glab", GITLAB)])
def test_an_open_pull_request_is_found_again(
    field: Field, monkeypatch: pytest.MonkeyPatch, name: str, told: object
) -> None:
    calls = program(field, monkeypatch, name, f"printf '%s' '{json.dumps(told)}'")
    arrivals = field.land([field.branch("one", {"x": "1"})], plan=PR)
    assert arrivals["one"].pull_request == ADDRESS
    assert len(calls.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gh", [OTHERS]),
        ("gh", {"message": "odd"}),
        ("glab", [{**MERGE_REQUEST, "target_branch": "next"}]),
        ("glab", [{**MERGE_REQUEST, "source_branch": "next"}]),
        ("glab", [{**MERGE_REQUEST, "state": "merged"}]),
        ("glab", {"message": "odd"}),
    ],
)
def test_one_that_is_closed_or_for_another_branch_is_not_taken_for_it(
    field: Field, monkeypatch: pytest.MonkeyPatch, name: str, told: object
) -> None:
    new = "https://host.example/pull/4"
    script = f'[ "$2" != create ] && printf "%s" \'{json.dumps(told)}\' || echo {new}'
    program(field, monkeypatch, name, script)
    assert field.land([field.branch("one", {"x": "1"})], plan=PR)["one"].pull_request == new


@pytest.mark.parametrize("since", ["nothing", "the same lines", "a revert"])
def test_what_its_host_squashed_has_landed_and_is_not_proposed_again(
    field: Field, monkeypatch: pytest.MonkeyPatch, since: str
) -> None:
    calls = program(field, monkeypatch, "gh", f'[ "$2" = list ] && echo "[]" || echo {ADDRESS}')
    field.checkout.commit({"x": "0"})
    one = field.branch("one", {"x": "1"}, base=field.tip())
    two = field.branch("two", {"y": "1"}, depends_on=("one",))
    field.checkout.git("merge", "-q", "--squash", "one")
    field.checkout.git("commit", "-q", "-m", "Does one (#7)")
    if since == "the same lines":
        field.checkout.commit({"x": "2"})
    elif since == "a revert":
        field.checkout.git("revert", "--no-edit", "HEAD")

    arrivals = field.land([one, two], plan=PR)

    if since == "a revert":
        assert arrivals["one"].pull_request == ADDRESS
        assert arrivals["two"].waits_for == "one"
        return
    row = result_of(arrivals["one"], {"branch": "one"})
    assert (row.status, row.error, (row.workstream or {})["stage"]) == (Outcome.OK, None, "there")
    assert arrivals["two"].pull_request == ADDRESS
    assert [call.split()[1:4] for call in calls.read_text().splitlines()] == [
        ["pr", "list", "--head=two"],
        ["pr", "create", "--base=main"],
    ]
    assert not field.checkout.git("ls-remote", "origin", "refs/heads/one")


@pytest.mark.parametrize("how", ["merge", "squash"])
def test_what_its_host_merged_and_nobody_pulled_is_not_proposed_again(
    field: Field, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    calls = program(field, monkeypatch, "gh", f'[ "$2" = list ] && echo "[]" || echo {ADDRESS}')
    one, two = field.branch("one", {"x": "1"}), field.branch("two", {"y": "1"})
    before = field.tip()
    field.checkout.git("merge", "-q", *(["--squash"] if how == "squash" else ["--no-ff"]), "one")
    field.checkout.git(*("commit", "-q", "--allow-empty", "-m", "Does one (#7)"))
    field.checkout.git("push", "-q", "origin", "main")
    field.checkout.git("reset", "-q", "--hard", before)

    arrivals = field.land([one, two], plan=PR)

    error = arrivals["one"].error
    assert error is not None
    assert error.said == "`origin/main` has it by now, and `main` here has not"
    assert error.next == "`git pull --ff-only origin main`, then go on"
    assert arrivals["two"].pull_request == ADDRESS
    assert "one" not in calls.read_text()
    field.checkout.git("pull", "-q", "--ff-only", "origin", "main")
    assert field.land([one], plan=PR)["one"].landed is not None


def test_an_open_pull_request_waits_for_a_person() -> None:
    row = result_of(Arrival("one", pull_request=ADDRESS), {})
    assert row.status is Outcome.BLOCKED
    assert row.error is not None
    assert (row.error.said, row.error.next) == (
        f"its pull request is open: {ADDRESS}",
        "merge it there, pull, then go on",
    )


def test_gitlab_has_its_own_program(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = program(
        field,
        monkeypatch,
        "glab",
        '[ "$2" = list ] && exit 1\necho "!4 (one)"; echo " https://gitlab.example/4"',
    )
    arrivals = field.land([field.branch("one", {"x": "1"}, intent="Does one")], plan=PR)
    assert arrivals["one"].pull_request == "https://gitlab.example/4"
    create = calls.read_text().splitlines()[1]
    assert create.startswith("glab mr create --target-branch=main --source-branch=one --title=Does one ")


def test_no_line_of_a_description_is_a_command_to_gitlab(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = program(field, monkeypatch, "glab", '[ "$2" = list ] && exit 1\necho " https://gitlab.example/4"')
    field.land([field.branch("one", {"x": "1"}, intent="Does one\n\n/merge\nsee src/merge")], plan=PR)
    assert "--description=\\/merge\nsee src/merge\n" in calls.read_text()


@pytest.mark.parametrize(
    ("address", "is_logged_in", "wanted"),
    [
        ("https://me@git.example/me/p.git", True, "gh"),
        ("https://git.example/me/p.git", False, "glab"),
        ("git@git.example:me/p.git", False, "glab"),
        ("ssh://git@git.example:22/me/p.git", False, "glab"),
        ("git@github.com:me/p.git", False, "gh"),
        ("git@gitlab.com:me/p.git", True, "glab"),
    ],
)
def test_of_two_programs_the_one_that_knows_the_host_is_taken(
    field: Field, monkeypatch: pytest.MonkeyPatch, address: str, is_logged_in: bool, wanted: str
) -> None:
    pushed_to = field.checkout.git("remote", "get-url", "origin").strip()
    field.checkout.git("config", "remote.origin.pushurl", pushed_to)
    field.checkout.git("config", "remote.origin.url", address)
    program(field, monkeypatch, "glab", '[ "$2" = list ] && exit 1\necho " https://host.example/glab"')
    known = "[ $3 = --hostname=git.example ]" if is_logged_in else "false"
    script = (
        f'[ "$1" = auth ] && {{ {known}; exit; }}\n[ "$2" = list ] && exit 1\necho https://host.example/gh'
    )
    program(field, monkeypatch, "gh", script)
    arrivals = field.land([field.branch("one", {"x": "1"})], plan=PR)
    assert arrivals["one"].pull_request == f"https://host.example/{wanted}"


def test_a_program_that_fails_says_why(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GH_TOKEN", "my-own-secret")
    said = "echo 'not logged in: https://me:pass@host.example has no my-own-secret' >&2; exit 4"
    program(field, monkeypatch, "gh", said)
    arrivals = field.land([field.branch("one", {"x": "1"})], plan=PR)
    error = arrivals["one"].error
    assert error is not None
    assert "`one`, which is pushed: not logged in: https://host.example has no ••••" in error.said
    assert remote(field, "one")


def test_without_a_program_or_a_remote_it_is_refused(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    bare_path(field, monkeypatch)
    one = field.branch("one", {"x": "1"})
    with pytest.raises(UsageError, match="`gh` or `glab`"):
        field.land([one], plan=PR)
    field.checkout.git("remote", "remove", "origin")
    with pytest.raises(UsageError, match="remote"):
        field.land([one], plan=PR)
