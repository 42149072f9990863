"""The target and the user's checkout: moved along as git would, else kept pending; races; take-over."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from landing_support import Field, Gate, landed
from repositories import everything

from parallelai.processes import Completed
from parallelai.work.landing.commits import words
from parallelai.work.landing.records import Plan, Verdict
from parallelai.work.landing.refusing import reason
from parallelai.work.landing.target import Target, Tip, take_over

PENDING = "parallelai/landing/main"


@pytest.fixture
def field(tmp_path: Path) -> Field:
    return Field(tmp_path / "repo", {"a.txt": "1\n2\n3\n", "b.txt": "b\n"})


def yes(_: object) -> bool:
    return True


def test_a_dirty_checkout_that_is_not_in_the_way_moves_along(field: Field) -> None:
    field.checkout.write({"b.txt": "mine\n"})
    field.land([field.branch("one", {"a.txt": "0\n2\n3\n"})])
    assert (field.root / "a.txt").read_text() == "0\n2\n3\n"
    assert (field.root / "b.txt").read_text() == "mine\n"
    assert field.status() == " M b.txt\n"


@pytest.mark.parametrize("how", ["dirty", "staged", "untracked", "merging", "rebasing"])
def test_where_git_refuses_the_result_waits_and_is_taken_over(field: Field, how: str) -> None:
    one = field.branch("one", {"a.txt": "0\n2\n3\n", "new.txt": "new\n"})
    if how == "untracked":
        field.checkout.write({"new.txt": "mine\n"})
    elif how == "merging":
        (field.root / ".git" / "MERGE_HEAD").write_text(f"{field.base}\n")
    elif how == "rebasing":
        field.checkout.git("checkout", "-q", "--detach")
        (field.root / ".git" / "rebase-merge").mkdir()
        (field.root / ".git" / "rebase-merge" / "head-name").write_text("refs/heads/main\n")
    else:
        field.checkout.write({"a.txt": "mine\n"})
        if how == "staged":
            field.checkout.git("add", "a.txt")
    files = {path: made for path, made in everything(field.root).items() if not path.startswith(".git")}
    index = (field.root / ".git" / "index").read_bytes()
    arrival = field.land([one], field.gate(yes))["one"]
    now = {path: made for path, made in everything(field.root).items() if not path.startswith(".git")}
    assert now == files
    assert (field.root / ".git" / "index").read_bytes() == index or how in ("dirty", "untracked")
    assert arrival.landed is not None
    assert arrival.landed.pending == PENDING
    only = "" if how in ("merging", "rebasing") else "--ff-only "  # a commit of one's own is there by then
    assert arrival.next == f"git merge {only}{PENDING}"
    assert arrival.notes
    assert arrival.notes[-1].startswith("your checkout waits: ")
    assert arrival.notes[-1].endswith(f", then `{arrival.next}`")
    in_the_way = {
        "untracked": "waits: `new.txt` is in the way: move it,",
        "dirty": "waits: what you changed in `a.txt` is in the way: put it aside",
        "staged": "waits: what you changed in `a.txt` is in the way: put it aside",
    }
    assert in_the_way.get(how, "") in arrival.notes[-1]
    assert (field.tip(), field.tip(PENDING)) == (field.base, arrival.landed.commit)

    # What is pending is the target for the rest.
    more = field.land([field.branch("two", {"two.txt": "2"})], field.gate(yes))["two"]
    assert more.landed is not None
    assert (more.landed.before, more.landed.pending) == (arrival.landed.commit, PENDING)
    assert field.tip() == field.base

    if how == "merging":
        (field.root / ".git" / "MERGE_HEAD").unlink()
    elif how == "rebasing":
        (field.root / ".git" / "rebase-merge" / "head-name").unlink()
        (field.root / ".git" / "rebase-merge").rmdir()
        field.checkout.git("checkout", "-q", "main")
    elif how == "untracked":
        (field.root / "new.txt").unlink()
    else:
        field.checkout.git("checkout", "-q", "HEAD", "--", "a.txt")
    field.checkout.git(*arrival.next.split()[1:])
    assert field.tip() == more.landed.commit
    assert field.status() == ""
    standing = field.run(take_over(field.repository, "main", frozenset))
    assert (standing.pending, field.has(PENDING)) == (None, False)


def test_what_takes_over_is_a_command_that_git_does(field: Field) -> None:
    field.checkout.write({"a.txt": "mine\n"})
    field.land([field.branch("one", {"new.txt": "1", "a.txt": "0\n2\n3\n"})])
    target = Target(field.repository, "main", frozenset)
    assert field.run(target.look()).next == f"git merge --ff-only {PENDING}"
    field.checkout.git("checkout", "-q", "--", "a.txt")
    field.checkout.commit({"later": "1"})  # main and the pending branch went different ways
    assert field.run(target.look()).next == f"git merge {PENDING}"
    field.checkout.git("checkout", "-q", "-b", "other")
    assert field.run(target.look()).next == f"git switch main && git merge {PENDING}"
    field.checkout.git("checkout", "-q", "main")
    field.checkout.git("merge", "-q", PENDING)
    assert field.run(target.look()).pending is None


def test_take_over_moves_the_checkout_once_git_would(field: Field) -> None:
    field.checkout.write({"a.txt": "mine\n"})
    one = field.branch("one", {"a.txt": "0\n2\n3\n"})
    field.land([one])
    standing = field.run(take_over(field.repository, "main", frozenset))
    assert standing.pending == PENDING
    assert standing.next == f"git merge --ff-only {PENDING}"
    assert standing.why is not None
    assert "a.txt" in standing.why
    again = field.land([one])["one"]
    assert again.notes[0] == "it had landed already"
    assert again.notes[1].startswith("your checkout waits: what you changed in `a.txt`")
    field.checkout.git("checkout", "-q", "--", "a.txt")
    arrivals = field.land([one])
    record = arrivals["one"].landed
    assert record is not None
    assert record.pending is None
    assert field.files()["a.txt"] == "0\n2\n3\n"
    assert not field.has(PENDING)


def test_a_target_that_left_what_is_pending_is_merged_with_it(field: Field) -> None:
    field.checkout.write({"a.txt": "mine\n"})
    one = field.branch("one", {"a.txt": "0\n2\n3\n"})
    field.land([one])
    field.checkout.git("checkout", "-q", "--", "a.txt")
    theirs = field.checkout.commit({"c.txt": "by hand\n"})
    gate = field.gate(yes)
    arrivals = field.land([one, field.branch("two", {"two": "2"})], gate)
    assert landed(arrivals) == {"one", "two"}
    assert field.files().keys() == {"a.txt", "b.txt", "c.txt", "two"}
    assert theirs in field.first_parents()
    assert len(gate.judged) == 2
    assert not field.has(PENDING)


def test_a_target_that_conflicts_with_what_is_pending_blocks(field: Field) -> None:
    field.checkout.write({"a.txt": "mine\n"})
    field.land([field.branch("one", {"a.txt": "0\n2\n3\n"})])
    theirs = field.checkout.commit()
    arrivals = field.land([field.branch("two", {"two": "2"})])
    error = arrivals["two"].error
    assert error is not None
    assert error.kind == "conflict"
    assert error.next == f"git merge {PENDING}"
    assert (field.tip(), field.has(PENDING)) == (theirs, True)


def test_the_stash_and_the_configuration_are_never_written(field: Field) -> None:
    field.checkout.git("config", "merge.autoStash", "true")
    field.checkout.git("config", "rebase.autoStash", "true")
    field.checkout.write({"a.txt": "mine\n"})
    config = (field.root / ".git" / "config").read_bytes()
    field.land([field.branch("one", {"a.txt": "0\n2\n3\n"})])
    assert field.checkout.git("stash", "list") == ""
    assert (field.root / ".git" / "config").read_bytes() == config
    assert (field.root / "a.txt").read_text() == "mine\n"


def test_a_locked_index_is_waited_for_and_then_pending(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parallelai.work.landing.target._LOCKED_SECONDS", 0.0)
    (field.root / ".git" / "index.lock").write_text("")
    arrival = field.land([field.branch("one", {"x": "1"})])["one"]
    assert arrival.landed is not None
    assert arrival.landed.pending == PENDING
    (field.root / ".git" / "index.lock").unlink()
    assert field.run(take_over(field.repository, "main", frozenset)).pending is None
    assert (field.root / "x").exists()


@pytest.mark.parametrize("options", ["-s ours", "--squash", "--no-ff"])
def test_options_for_merges_of_the_branch_change_nothing_of_how_it_moves(field: Field, options: str) -> None:
    field.checkout.git("config", "branch.main.mergeOptions", options)
    arrival = field.land([field.branch("one", {"x": "1"})])["one"]
    assert arrival.landed is not None
    assert arrival.landed.commit == field.tip()
    assert ((field.root / "x").read_text(), field.status()) == ("1", "")


@pytest.mark.parametrize("path", ["secrets", "secrets/mine/key"])
def test_a_file_that_git_ignores_is_not_written_over(field: Field, path: str) -> None:
    field.checkout.commit({".gitignore": "secrets\n"})
    field.checkout.write({path: "mine\n"})
    one = field.branch("one", {"secrets": "theirs\n", "x": "1"}, base=field.tip())
    arrival = field.land([one])["one"]
    assert arrival.landed is not None
    assert arrival.landed.pending == PENDING
    assert "your checkout waits: `secrets` is in the way: move it" in arrival.notes[-1]
    assert ((field.root / path).read_text(), field.status()) == ("mine\n", "")
    shutil.move(field.root / "secrets", field.root.parent / "put aside")
    assert field.run(take_over(field.repository, "main", frozenset)).pending is None
    assert (field.root / "secrets").read_text() == "theirs\n"


@pytest.mark.parametrize("name", ["refs/heads/main.lock", "HEAD.lock", "hooks/reference-transaction"])
def test_a_branch_that_git_cannot_move_leaves_the_files_as_they_are(
    field: Field, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`git merge --ff-only` writes the files first, and then finds that it cannot move the branch."""
    monkeypatch.setattr("parallelai.work.landing.target._LOCKED_SECONDS", 0.0)
    monkeypatch.setattr("parallelai.work.landing.target._LOCKED_TRIES", 2)
    place = field.root / ".git" / name
    if place.suffix == ".lock":
        place.write_text("")
    else:
        place.parent.mkdir(exist_ok=True)
        place.write_text(
            "#!/bin/sh\n[ $1 != prepared ] || ! grep -q refs/heads/main || { echo frozen >&2; exit 1; }\n"
        )
        place.chmod(0o755)
    arrival = field.land([field.branch("one", {"a.txt": "0\n2\n3\n", "x": "1"})])["one"]
    assert arrival.landed is not None
    assert arrival.landed.pending == PENDING
    said = (
        "frozen" if place.suffix != ".lock" else f"another git works there, or was killed and left `{place}`"
    )
    assert said in arrival.notes[-1]
    assert (field.status(), (field.root / "a.txt").read_text()) == ("", "1\n2\n3\n")
    place.unlink()
    assert field.run(take_over(field.repository, "main", frozenset)).pending is None
    assert (field.status(), (field.root / "x").exists()) == ("", True)


@pytest.mark.parametrize("name", ["linked tree", 'linked\nbranch refs/heads/x\n\ttree\u00fc"'])
def test_a_target_in_a_linked_worktree_moves_that_one(field: Field, tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    field.checkout.git("checkout", "-q", "-b", "elsewhere")
    field.checkout.git("worktree", "add", "-q", str(place), "main")
    field.land([field.branch("one", {"x": "1"})])
    assert (place / "x").exists()
    assert not (field.root / "x").exists()
    (place / "y").write_text("mine")
    arrival = field.land([field.branch("two", {"y": "2"})])["two"]
    assert arrival.next == f"git -C '{place}' merge --ff-only {PENDING}"
    assert field.status() == ""


def test_a_target_that_nobody_looks_at_is_moved_alone(field: Field, tmp_path: Path) -> None:
    place = tmp_path / "gone"
    field.checkout.git("branch", "release")
    field.checkout.git("worktree", "add", "-q", str(place), "release")
    os.rename(place, tmp_path / "away")  # a worktree whose folder is gone holds nothing
    before = everything(field.root / "b.txt")
    arrival = field.land([field.branch("one", {"x": "1"})], plan=Plan("release"))["one"]
    assert arrival.landed is not None
    assert arrival.landed.pending is None
    assert field.tip("release") == arrival.landed.commit
    assert field.tip() == field.base
    assert everything(field.root / "b.txt") == before
    assert field.status() == ""


@pytest.mark.parametrize("ours", ["worktree", "admin"])
def test_a_worktree_that_an_assistant_forged_is_no_checkout_of_the_users(
    field: Field, tmp_path: Path, ours: str
) -> None:
    """Its folder of git's leads to a repository of its own, with programs in its settings, on the target."""
    worktree, admin = tmp_path / "w", field.root / ".git" / "worktrees" / "w"
    field.checkout.git("branch", "release")
    field.checkout.git("worktree", "add", "-q", "-b", "parallelai/w", str(worktree))
    evil, ran = worktree / "evil", tmp_path / "ran"
    subprocess.run(["git", "clone", "-q", "--bare", str(field.root), str(evil / "own")], check=True)
    (evil / "run.sh").write_text(f"#!/bin/sh\ntouch {ran}\n")
    (evil / "run.sh").chmod(0o755)
    with (evil / "own" / "config").open("a") as config:
        config.write(f"[core]\nbare = false\nfsmonitor = {evil}/run.sh\n")
    (evil / ".git").write_text(f"gitdir: {admin}\n")
    (admin / "gitdir").write_text(f"{evil}/.git\n")
    (admin / "HEAD").write_text("ref: refs/heads/release\n")
    (admin / "commondir").write_text(f"{evil}/own\n")
    places = frozenset([str(worktree if ours == "worktree" else admin)])
    commit = field.tip(field.branch("one", {"x": "1"}).name)
    moved = field.run(Target(field.repository, "release", lambda: places).move(commit, Tip(field.base)))
    assert (moved.how, field.tip("release"), ran.exists()) == ("moved", commit, False)


class Meanwhile(Gate):
    """A gate during which somebody commits to the target, a number of times."""

    def __init__(self, field: Field, times: int) -> None:
        super().__init__(field.repository, lambda files: "bad" not in files)
        self.field = field
        self.times = times

    async def judge(self, commit: str, base: str, names: tuple[str, ...]) -> Verdict:
        verdict = await super().judge(commit, base, names)
        if self.times:
            self.times -= 1
            await asyncio.to_thread(self.field.checkout.commit, {f"by-hand-{self.times}": "1"})
        return verdict


def test_a_move_by_somebody_else_restarts_on_the_new_tip(field: Field) -> None:
    gate = Meanwhile(field, 2)
    branches = [field.branch(f"f{n}", {f"f{n}": "1"}) for n in range(3)]
    arrivals = field.land(branches, gate)
    assert len(landed(arrivals)) == 3
    assert {"by-hand-0", "by-hand-1", "f0", "f1", "f2"} <= field.files().keys()
    assert len(field.first_parents()) == 3
    record = arrivals["f0"].landed
    assert record is not None
    assert record.tree == gate.judged[-1]
    assert field.status() == ""


def test_what_somebody_else_lands_meanwhile_is_not_landed_again(field: Field) -> None:
    class Merges(Gate):
        async def judge(self, commit: str, base: str, names: tuple[str, ...]) -> Verdict:
            if not self.judged:
                await asyncio.to_thread(field.checkout.git, "merge", "-q", "--no-edit", "--no-ff", "f1")
            return await super().judge(commit, base, names)

    branches = [field.branch(f"f{n}", {f"f{n}": "1"}) for n in range(3)]
    arrivals = field.land(branches, Merges(field.repository, yes))
    assert len(landed(arrivals)) == 3
    assert arrivals["f1"].notes == ("it had landed already",)
    assert field.checkout.git("log", "--format=%s", "main").count("Merge") == 3


def test_a_target_that_never_rests_is_given_up(field: Field) -> None:
    arrivals = field.land([field.branch("one", {"x": "1"})], Meanwhile(field, 100))
    error = arrivals["one"].error
    assert error is not None
    assert (error.kind, error.retry_helps) == ("transient", True)
    assert "x" not in field.files()


def test_the_target_never_moves_from_another_place(field: Field) -> None:
    target = Target(field.repository, "main", frozenset)
    tip = field.run(target.tip())
    field.checkout.commit({"c": "1"})
    now = field.tip()
    moved = field.run(target.move(field.branch("one", {"x": "1"}).commit, tip))
    assert (moved.how, field.tip()) == ("lost", now)


def test_a_hook_that_refuses_the_message_keeps_it_from_landing(field: Field) -> None:
    hook = field.root / ".git" / "hooks" / "commit-msg"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(
        '#!/bin/sh\ngrep -q TICKET "$1" || { echo "no ticket" >&2; exit 1; }\necho "Checked: yes" >> "$1"\n'
    )
    hook.chmod(0o755)
    arrivals = field.land([field.branch("one", {"x": "1"})])
    assert "no ticket" in str(arrivals["one"].error)
    assert field.tip() == field.base
    arrivals = field.land([field.branch("two", {"y": "1"}, intent="TICKET 7")])
    assert landed(arrivals) == {"two"}
    assert "Checked: yes" in field.message("main")


@pytest.mark.parametrize(("method", "source"), [("merge", "merge"), ("squash", "message")])
def test_a_hook_that_prepares_the_message_is_heard_before_the_one_that_judges_it(
    field: Field, method: Any, source: str
) -> None:
    hooks = field.root / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name, script in (
        ("prepare-commit-msg", 'echo "TICKET 7, of a $2" >> "$1"'),
        ("commit-msg", 'grep -q TICKET "$1"'),
    ):
        (hooks / name).write_text(f"#!/bin/sh\n{script}\n")
        (hooks / name).chmod(0o755)
    assert landed(field.land([field.branch("one", {"x": "1"})], plan=Plan("main", method=method))) == {"one"}
    assert f"TICKET 7, of a {source}" in field.message("main")


@pytest.mark.parametrize("script", [': > "$1"', 'rm "$1"'])
def test_a_hook_that_leaves_no_message_keeps_it_from_landing(field: Field, script: str) -> None:
    hook = field.root / ".git" / "hooks" / "commit-msg"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\n{script}\n")
    hook.chmod(0o755)
    error = field.land([field.branch("one", {"x": "1"})])["one"].error
    assert error is not None
    assert "nothing is left of the message `Merge one" in error.said
    assert "`commit-msg`" in error.said
    assert field.tip() == field.base


def test_commits_are_signed_where_the_user_signs(field: Field) -> None:
    program = field.root.parent / "sign"
    program.write_text('#!/bin/sh\ncat >/dev/null\necho "[GNUPG:] SIG_CREATED " >&2\necho SIGNED\n')
    program.chmod(0o755)
    field.checkout.git("config", "commit.gpgSign", "true")
    field.checkout.git("config", "gpg.program", str(program))
    field.land([field.branch("one", {"x": "1"}), field.branch("two", {"y": "1"})])
    for commit in ("main", "main^2", "main^2^1"):
        assert "SIGNED" in field.checkout.git("cat-file", "commit", commit)
    program.write_text("#!/bin/sh\nexit 1\n")
    arrivals = field.land([field.branch("three", {"z": "1"})])
    assert "did not make the commit" in str(arrivals["three"].error)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="`ssh-keygen` is not installed")
def test_a_real_signature_is_good(field: Field) -> None:
    folder = field.root.parent
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    email = field.checkout.git("config", "user.email").strip()
    (folder / "signers").write_text(f"{email} {key.with_suffix('.pub').read_text()}")
    settings = {"commit.gpgSign": "true", "gpg.format": "ssh", "user.signingKey": str(key)}
    for name, value in {**settings, "gpg.ssh.allowedSignersFile": str(folder / "signers")}.items():
        field.checkout.git("config", name, value)
    field.land([field.branch("one", {"x": "1"}), field.branch("two", {"y": "1"})])
    for commit in ("main", "main^2", "main^2^1"):
        assert field.checkout.git("log", "-1", "--format=%G? %GS", commit).strip() == f"G {email}"


def test_what_git_said_is_put_together_as_it_was_meant() -> None:
    heading, advice = "error: These files would be overwritten:", "Aborting"
    told = Completed(1, None, b"", f"{heading}\n\ta.txt\n{advice}".encode(), 0.1)
    assert words(told) == "error: These files would be overwritten: a.txt; Aborting"
    untracked = "error: The following untracked working tree files would be overwritten by merge:\n"
    files = "".join(f"\t{name}\n" for name in "abcd")
    many = Completed(1, None, b"", f"{untracked}{files}Please move them.\n{advice}".encode(), 0.1)
    assert reason(many) == "`a`, `b`, `c` and 1 more are in the way: move them"
    other = Completed(128, None, b"", b"fatal: not possible to fast-forward, aborting.", 0.1)
    assert reason(other) == "fatal: not possible to fast-forward, aborting."
    unsigned = Completed(128, None, b"", b"fatal: Commit 61adec8 does not have a GPG signature.", 0.1)
    assert "`git config merge.verifySignatures false`" in reason(unsigned)


def test_of_a_checkout_in_the_middle_of_a_merge_it_is_said_what_to_do(field: Field) -> None:
    field.checkout.git("checkout", "-q", "-b", "side")
    field.checkout.commit({"mid.txt": "side\n"})
    field.checkout.git("checkout", "-q", "main")
    field.checkout.commit({"mid.txt": "main\n"})
    one = field.branch("one", {"one.txt": "1\n"}, base=field.tip())
    with pytest.raises(AssertionError):
        field.checkout.git("merge", "-q", "side")
    notes = field.land([one])["one"].notes
    command = "git merge parallelai/landing/main"  # by then the merge is a commit of one's own
    assert any(f"not settled: settle them, then `{command}`" in each for each in notes)
    assert field.run(field.lander()._target.look()).next == command
    field.checkout.git("add", "mid.txt")
    assert "a merge there is not finished: finish it" in str(
        field.land([field.branch("two", {"two.txt": "2\n"})])
    )
    field.checkout.git("commit", "-q", "-m", "finished")
    field.checkout.git(*command.split()[1:], "-q", "--no-edit")
    assert {"one.txt", "two.txt"} <= field.files().keys()
