"""`init`, `doctor`, `trust`, `config`, `engines`, `cache`: what sets a project up and looks after it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from shops import git

from parallelai.store import Machine
from running import run_program

FILES = (
    "parallelai.toml",
    "parallelai.yaml",
    ".parallelai/plan.schema.json",
    ".parallelai/.gitignore",
)
MINE = '[engines.mine]\nuse = "command"\ncommand = ["cat"]\n'


# -- init


def test_init_writes_a_config_and_a_plan_that_works(cli: Any, here: Path) -> None:
    called = cli("init")

    assert (called.code, called.err) == (0, "")
    assert "found: Python (3 files)" in called.out
    assert all((here / name).is_file() for name in FILES)
    checked = cli("plan", "check", "parallelai.yaml")
    assert (checked.code, checked.err) == (0, "")
    executed = cli("execute", "parallelai.yaml", "--json")
    assert executed.code == 0
    assert executed.document["counts"]["ok"] == len(executed.document["tasks"]) == 3


def test_what_init_makes_for_editors_is_left_out_of_commits(cli: Any, here: Path) -> None:
    git(here, "init", "-q")
    cli("init")
    git(here, "add", ".")
    added = git(here, "diff", "--cached", "--name-only").splitlines()
    assert ".parallelai/.gitignore" in added
    assert ".parallelai/plan.schema.json" not in added

    (here / ".parallelai" / ".gitignore").write_text("# mine\n")
    assert ".gitignore" not in cli("init", "--force").out
    assert (here / ".parallelai" / ".gitignore").read_text() == "# mine\n"


def test_init_as_json(cli: Any, here: Path) -> None:
    document = cli("init", "--json").document

    assert document["files"] == list(FILES)
    assert document["languages"] == [["Python", 3]]
    assert "analyzers" in document["engines"]


def test_the_config_of_init_sets_nothing_and_loads(cli: Any, here: Path) -> None:
    cli("init")

    assert cli("config", "show").out == "nothing is set; defaults hold, and `--verbose` shows them\n"
    assert cli("doctor").code == 0


def test_the_config_of_init_holds_with_its_comments_taken_off(cli: Any, here: Path) -> None:
    cli("init")
    config = here / "parallelai.toml"
    lines = config.read_text().splitlines()
    config.write_text("\n".join(line.removeprefix("# ") for line in lines[3:] if "=" in line or "[" in line))

    called = cli("config", "show")

    assert called.code == 0, called.err
    assert "limits.parallel = 8" in called.out


@pytest.mark.parametrize("there", FILES[:2])
def test_init_never_overwrites(cli: Any, here: Path, there: str) -> None:
    (here / there).write_text("# mine\n")

    called = cli("init")

    assert called.code == 2
    assert f"`{there}` is there already" in called.err
    assert (here / there).read_text() == "# mine\n"
    assert not any((here / name).exists() for name in FILES if name != there)


def test_init_overwrites_where_it_is_told_to(cli: Any, here: Path) -> None:
    (here / "parallelai.toml").write_text("# mine\n")

    assert cli("init", "--force").code == 0
    assert "ParallelAI's settings" in (here / "parallelai.toml").read_text()


def test_init_in_a_project_without_any_known_language(cli: Any, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")

    called = cli("init")

    assert called.code == 0
    assert "found: no language that it knows" in called.out
    assert cli("plan", "check", "parallelai.yaml").code == 0
    assert cli("execute", "parallelai.yaml").code == 0


def test_init_where_nothing_can_be_written(cli: Any, here: Path) -> None:
    shutil.rmtree(here / ".parallelai")
    (here / ".parallelai").write_text("a file, not a folder")

    called = cli("init", "--json")

    assert called.code == 2
    assert ".parallelai" in called.error["said"]


# -- doctor


def test_doctor_is_content_with_a_fresh_project(cli: Any, here: Path) -> None:
    called = cli("doctor")

    assert (called.code, called.err) == (0, "")
    whats = [line.split()[1] for line in called.out.splitlines()]
    assert whats[:6] == ["parallelai", "platform", "git", "sandbox", "config", "journal"]
    assert not (here / ".parallelai/state").exists()


def test_doctor_as_json(cli: Any, here: Path) -> None:
    checks = cli("doctor", "--json").document["checks"]

    assert {"what", "state", "said", "next"} == set(checks[0])
    assert {check["state"] for check in checks} <= {"ok", "note", "wrong"}


def test_doctor_names_a_config_that_is_wrong(cli: Any, here: Path) -> None:
    (here / "parallelai.toml").write_text("[limits]\nparalel = 3\n")

    called = cli("doctor")

    assert called.code == 4
    wrong = [line for line in called.out.splitlines() if line.startswith("wrong ")]
    assert len(wrong) == 1
    assert "unknown key `paralel`; did you mean `parallel`?" in wrong[0]


def test_doctor_says_where_a_config_is_no_toml(cli: Any, here: Path) -> None:
    (here / "parallelai.toml").write_text("[limits\n")

    called = cli("doctor", "--json")

    assert called.code == 4
    check = next(check for check in called.document["checks"] if check["what"] == "config")
    assert check["state"] == "wrong"
    assert check["said"].startswith("parallelai.toml:1")


def test_doctor_repairs_the_projections(cli: Any, plan: Path) -> None:
    assert cli("execute", plan).code == 0
    shown = cli("runs", "show", "--json").out

    called = cli("doctor", "--repair")

    assert called.code == 0
    assert "rebuilt the tables of 1 run(s) from their events" in called.err
    assert cli("runs", "show", "--json").out == shown


def test_doctor_with_nothing_to_repair(cli: Any, here: Path) -> None:
    called = cli("doctor", "--repair")

    assert called.code == 0
    assert "there is no journal to repair" in called.err


@pytest.mark.parametrize(
    "garbage", [b"garbage, not a database\n" * 400, b"", b"SQLite format 3\x00" + b"\xff" * 5000]
)
def test_doctor_repairs_a_journal_that_is_garbage(cli: Any, plan: Path, here: Path, garbage: bytes) -> None:
    assert cli("execute", plan).code == 0
    state = here / ".parallelai/state"
    for file in state.glob("journal.db*"):
        file.unlink()
    (state / "journal.db").write_bytes(garbage)

    before = cli("doctor")
    repaired = cli("doctor", "--repair")
    after = cli("execute", plan)

    if garbage:  # an empty file is a new journal
        assert before.code == 4
        assert "doctor --repair" in before.out
        assert cli("runs", "list").code == 0
    assert repaired.code == 0, repaired
    assert after.code == 0, after


def test_a_journal_that_is_garbage_is_told_as_such(cli: Any, plan: Path, here: Path) -> None:
    assert cli("execute", plan).code == 0
    for file in (here / ".parallelai/state").glob("journal.db*"):
        file.write_bytes(b"garbage, not a database\n" * 400)

    called = cli("execute", plan, "--json")

    assert called.code == 3
    assert called.error["kind"] == "store_corrupt"
    assert "doctor --repair" in called.error["next"]


# -- trust and config


def _untrusted(here: Path) -> None:
    (here / "parallelai.toml").write_text(MINE)
    (here / "mine.yaml").write_text("version: 1\ntasks: [{id: t, description: hello, engine: mine}]\n")


def test_what_nobody_trusted_is_ignored_and_named(cli: Any, here: Path) -> None:
    _untrusted(here)

    called = cli("execute", "mine.yaml")

    assert called.code == 2
    assert "mine" in called.err
    assert "not trusted, so ignored:" in called.err
    assert "parallelai trust" in called.err


def test_trust_holds_until_the_config_changes(cli: Any, here: Path) -> None:
    _untrusted(here)

    trusted = cli("trust")
    assert trusted.code == 0
    assert trusted.out.splitlines() == [
        f"trusted: {here}, as its config is now",
        "  now holds: engines.mine.use",
        "  now holds: engines.mine.command",
    ]
    assert cli("execute", "mine.yaml").code == 0

    (here / "parallelai.toml").write_text(MINE.replace('"cat"', '"cat", "-u"'))
    assert cli("execute", "mine.yaml").code == 2

    assert cli("trust").code == 0
    assert cli("execute", "mine.yaml").code == 0

    revoked = cli("trust", "--revoke")
    assert (revoked.code, revoked.out) == (0, f"not trusted any more: {here}\n")
    assert cli("execute", "mine.yaml").code == 2
    assert cli("trust", "--revoke").out == f"there was no trust to take back: {here}\n"


def test_trust_in_an_engine_that_there_is_not_is_not_taken_back(cli: Any, here: Path) -> None:
    with Machine.open() as machine:
        machine.consent("openai")
        machine.consent("gone")  # which was installed when the user agreed

    called = cli("trust", "--revoke", "openai", "nosuch")

    assert (called.code, called.out) == (2, "")
    assert "there is no engine `nosuch`" in called.err
    assert "`codex`" in called.err
    with Machine.open() as machine:
        assert machine.has_consent("openai")
    assert cli("trust", "--revoke", "gone").out.startswith("`auto` takes `gone` no more")


def test_consent_to_an_engine_is_taken_back(cli: Any, here: Path) -> None:
    with Machine.open() as machine:
        machine.consent("openai")

    called = cli("trust", "--revoke", "openai", "codex")
    assert called.out.splitlines() == [
        "`auto` takes `openai` no more, until you agree again",
        "nobody had agreed to `codex`",
    ]
    with Machine.open() as machine:
        assert not machine.has_consent("openai")
    assert cli("trust", "openai").code == 2


def test_a_run_that_goes_on_says_again_what_is_not_trusted(cli: Any, here: Path) -> None:
    (here / "parallelai.toml").write_text(f'consent = ["openai"]\n{MINE}')
    (here / "plan.yaml").write_text("tasks: [{id: t, description: hello, engine: mock}]\n")
    untrusted = "note: not trusted, so ignored: engines.mine.use, engines.mine.command (`parallelai trust`)"
    never = "note: `consent` of this project's config is ignored: only your own config can say it"

    for words in (("execute", "plan.yaml"), ("runs", "resume"), ("execute", "plan.yaml", "--resume")):
        said = cli(*words).err.splitlines()
        assert said.count(untrusted) == 1, words
        assert said.count(never) == 1, words

    assert cli("trust").out.count("now holds:") == 2
    said = cli("runs", "resume").err.splitlines()
    assert (untrusted in said, never in said) == (False, True)
    assert "(parallelai.toml; ignored)" in cli("config", "show").out


@pytest.mark.parametrize("words", ["plan check", "plan show", "plan estimate", "execute --dry-run"])
def test_what_is_not_trusted_is_also_told_before_a_run(cli: Any, here: Path, words: str) -> None:
    (here / ".parallelai" / "roles").mkdir(parents=True)
    (here / ".parallelai" / "roles" / "orders.yaml").write_text("limits: {parallel: 0}\n")
    (here / "plan.yaml").write_text(
        "tasks: [{id: t, description: hello, engine: mock, role: orders}]\nworkspace: {sparse: nothere}\n"
    )

    called = cli(*words.split(), "plan.yaml")

    assert called.code == 0
    assert (
        called.err.splitlines().count("note: not trusted, so ignored: roles.orders (`parallelai trust`)") == 1
    )
    assert ("`nothere` of `sparse` matches no file" in called.err) == (words == "plan check")


def test_trust_for_one_call(cli: Any, here: Path) -> None:
    _untrusted(here)

    assert cli("execute", "mine.yaml", "--trust").code == 0
    assert cli("execute", "mine.yaml").code == 2


def test_yes_is_not_trust(cli: Any, here: Path) -> None:
    _untrusted(here)

    assert cli("execute", "mine.yaml", "--yes").code == 2


def test_a_project_whose_config_sets_nothing_is_trusted_until_it_does(cli: Any, here: Path) -> None:
    """For what assistants and analysers would obey of it."""
    called = cli("trust")
    assert (called.code, called.out) == (0, f"trusted: {here}\n")
    (here / "parallelai.toml").write_text("# as `init` writes it: all of it is comments\n")
    assert cli("trust", "--json").document == {"project": str(here), "digest": None, "now_holds": []}
    _untrusted(here)
    assert cli("config", "show", "--json").document["ignored"]
    assert cli("trust", "--revoke").out == f"not trusted any more: {here}\n"
    assert cli("trust", "--revoke").out == f"there was no trust to take back: {here}\n"


def test_trust_as_json(cli: Any, here: Path) -> None:
    _untrusted(here)

    assert set(cli("trust", "--json").document) == {"project", "digest", "now_holds"}
    assert cli("trust", "--revoke", "--json").document == {
        "project": str(here),
        "digest": None,
        "now_holds": [],
    }


def test_config_show_says_where_each_setting_is_from(cli: Any, here: Path, monkeypatch: Any) -> None:
    (here / "parallelai.toml").write_text("[limits]\nparallel = 3\n")
    monkeypatch.setenv("PARALLELAI_DEFAULTS__TIMEOUT", "5m")

    called = cli("config", "show")

    assert called.code == 0
    assert "limits.parallel = 3  (parallelai.toml" in called.out
    assert 'defaults.timeout = "5m"  (' in called.out


def test_config_show_names_what_is_ignored(cli: Any, here: Path) -> None:
    _untrusted(here)

    called, document = cli("config", "show"), cli("config", "show", "--json").document

    assert "note: not trusted, so ignored: " in called.err
    assert document["ignored"]
    assert {"key", "value", "from", "ignored"} == set(document["settings"][0])
    assert all(setting["ignored"] for setting in document["settings"])


def test_config_show_hides_no_mistake(cli: Any, here: Path) -> None:
    (here / "parallelai.toml").write_text("[limits\n")

    called = cli("config", "show", "--json")

    assert called.code == 2
    assert called.error["kind"] == "config"
    assert called.error["where"].startswith("parallelai.toml:1")


# -- engines and cache


def test_engines_list_says_what_is_here_and_how_to_get_the_rest(cli: Any, here: Path) -> None:
    called = cli("engines", "list")

    assert (called.code, called.err) == (0, "")
    assert "* analyzers        ready " in called.out
    assert "mock" in called.out


def test_engines_list_starts_none_of_them(cli: Any, here: Path) -> None:
    (here / "parallelai.toml").write_text(
        '[engines.mine]\nuse = "command"\ncommand = ["sh", "-c", "touch started; cat"]\n'
    )
    assert cli("trust").code == 0

    listed = cli("engines", "list", "--json")

    row = next(row for row in listed.document["engines"] if row["name"] == "mine")
    assert (row["use"], row["state"]) == ("command", "ready")
    assert not (here / "started").exists()
    assert cli("engines", "test", "mine").code == 0
    assert (here / "started").exists()


@pytest.mark.parametrize("name", ["analyzers", "mock"])
def test_engines_test_does_one_request(cli: Any, here: Path, name: str) -> None:
    called = cli("engine", "test", name)
    document = cli("engine", "test", name, "--json").document

    assert called.code == 0
    assert called.out.startswith(f"`{name}` answered in ")
    assert (document["engine"], document["ok"]) == (name, True)


def test_engines_test_of_nobody(cli: Any, here: Path) -> None:
    called = cli("engines", "test", "nobody", "--json")

    assert called.code == 2
    assert called.error["kind"] == "not_found"


def test_engines_test_of_what_is_not_installed_and_of_what_fails(cli: Any, here: Path) -> None:
    (here / "parallelai.toml").write_text(
        '[engines.gone]\nuse = "command"\ncommand = ["no-such-program"]\n'
        '[engines.bad]\nuse = "command"\ncommand = ["false"]\n'
    )
    cli("trust")

    gone, bad = cli("engines", "test", "gone", "--json"), cli("engines", "test", "bad", "--json")

    assert (gone.code, gone.error["kind"]) == (3, "unavailable")
    assert (bad.code, bad.error["said"]) == (4, "`false` ended with exit 1")


def test_the_cache_is_counted_and_cleared(cli: Any, here: Path) -> None:
    assert cli("cache", "info", "--json").document["entries"] == 0
    assert cli("review", "--engine", "mock").code == 0
    assert cli("cache", "info", "--json").document["entries"] > 0
    assert cli("cache", "info").out.endswith(" MB\n")

    cleared = cli("caches", "clear")

    assert cleared.code == 0
    assert cleared.out.startswith("cleared: ")
    assert cli("cache", "info", "--json").document["entries"] == 0


def test_looking_makes_no_journal(cli: Any, here: Path) -> None:
    for words in ("cache info", "cache clear", "runs list", "engines list", "config show", "doctor"):
        assert cli(*words.split()).code == 0

    assert not (here / ".parallelai/state").exists()


def test_a_program_of_its_own_says_the_same(here: Path) -> None:
    ended = run_program(here, "engines", "list", "--json")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)["engines"]
