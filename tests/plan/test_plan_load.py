"""Broken and hostile plans: each is refused with what is wrong, where, and what to write."""

# ruff: noqa: E501  # a table of plans and of what users are told

from __future__ import annotations

import os
from pathlib import Path

import pytest

from parallelai.errors import PlanError
from parallelai.plan.load import Names, from_mapping, load, loads, positions
from parallelai.plan.model import Choice, Plan, SchemaOutput, Task

NAMES = Names(
    engines=frozenset({"mock", "command", "openai", "claude-code"}),
    templates=frozenset({"code-review", "security-audit"}),
)
EXAMPLE = Path(__file__).parent / "data" / "contracts.yaml"

BROKEN = [
    ("unknown key", "tasks:\n  - id: a\n    descripton: x\n",
     "plan.yaml:3:5: unknown key `descripton`; did you mean `description`?"),
    ("unknown key at the top", "taks: []\n", "plan.yaml:1:1: unknown key `taks`; did you mean `tasks`?"),
    ("unknown key deep inside", "limits: {budget: {usd: 1, tokns: 3}}\ntasks: [{id: a, description: x}]\n",
     "plan.yaml:1:27: unknown key `tokns`; did you mean `tokens`?"),
    ("wrong type", "tasks:\n  - {id: a, description: x, retries: many}\n",
     "plan.yaml:2:38: `retries`: expected a whole number, not text; write a whole number"),
    ("a number that is not whole", "tasks:\n  - {id: a, description: x, retries: 1.5}\n",
     "plan.yaml:2:38: `retries`: expected a whole number, not `1.5`; write it without a point"),
    ("neither a count nor auto", "limits: {parallel: many}\ntasks: [{id: a, description: x}]\n",
     "plan.yaml:1:20: `parallel`: expected a whole number or `auto`, not `many`; write `auto`, or 4, say"),
    ("neither a count of a role nor auto", "roles: {r: {limits: {parallel: true}}}\ntasks: [{id: a, description: x}]\n",
     "plan.yaml:1:32: `parallel`: expected a whole number or `auto`, not true or false; write `auto`, or 4, say"),
    ("wrong type of a whole part", "tasks: 3\n", "plan.yaml:1:8: `tasks`: expected a list, not a number; write [{id: …, description: …}]"),
    ("a number where text is wanted", "tasks:\n  - {id: a, description: 3.10}\n",
     'plan.yaml:2:26: `description`: expected text, not a number; write it in quotes: "3.1"'),
    ("not one of the options", "tasks:\n  - {id: a, description: x, on_failure: stopp}\n",
     "plan.yaml:2:41: `on_failure`: `stopp` is not one of `skip-dependents`, `continue` or `stop`;"
     " did you mean `stop`?"),
    ("no id", "tasks:\n  - description: x\n", "plan.yaml:2:5: the task has no `id`; add `id: …`"),
    ("no description", "tasks:\n  - id: a\n",
     "plan.yaml:2:5: the task `a` has no `description` and no `template`; say what is to be done"),
    ("a bad id", "tasks:\n  - {id: a@b, description: x}\n",
     "plan.yaml:2:10: `id`: `a@b` is no id; begin with a letter or digit, then letters, digits, `.`, `_`, `-`"
     " (at most 100)"),
    ("a number as id", "tasks:\n  - {id: 7, description: x}\n",
     'plan.yaml:2:10: `id`: an id is text, not a number; write it in quotes: "7"'),
    ("the reserved id", "tasks:\n  - {id: landing, description: x}\n",
     "plan.yaml:2:10: `id`: the id `landing` is reserved; choose another"),
    ("a duplicate id", "tasks:\n  - {id: a, description: x}\nworkstreams:\n  a: {description: y, owns: src}\n",
     "plan.yaml:4:3: the id `a` is there twice, first in line 2;"
     " choose another: tasks and workstreams share one name space"),
    ("a duplicate key", "tasks:\n  - id: a\n    description: x\n    id: b\n",
     "plan.yaml:4:5: the key `id` is there twice, first in line 2; keep one of them"),
    ("a key under two names", "tasks:\n  - {id: a, description: x}\n  - id: b\n    description: x\n"
     "    depends_on: [a]\n    dependencies: [a]\n",
     "plan.yaml:6:5: `dependencies` says the same as `depends_on`, which is there too; keep `depends_on`"),
    ("a missing dependency", "tasks:\n  - {id: build, description: x}\n  - {id: b, description: x, depends_on: [biuld]}\n",
     "plan.yaml:3:42: `b` depends on `biuld`, which does not exist; did you mean `build`?"),
    ("a cycle", "tasks:\n  - {id: a, description: x, depends_on: [b]}\n  - {id: b, description: x, depends_on: c}\n"
     "  - {id: c, description: x, depends_on: [a]}\n",
     "plan.yaml:2:42: the tasks wait for each other: a → b → c → a; take out one of these dependencies"),
    ("a task that waits for itself", "tasks:\n  - {id: a, description: x, depends_on: [a]}\n",
     "plan.yaml:2:42: `a` depends on itself: a → a; leave it out"),
    ("an empty plan", "name: nothing\n",
     "plan.yaml:1:1: the plan is empty: it has no task and no workstream; add a task under `tasks:`"),
    ("an empty file", "# only a comment\n", "plan.yaml:1:1: the plan is empty; begin with `tasks:` or `workstreams:`"),
    ("not a mapping", "- a\n- b\n",
     "plan.yaml:1:1: the plan is a list, not a mapping; begin with `tasks:` or `workstreams:`"),
    ("unknown engine", "tasks:\n  - {id: a, description: x, engine: {fallback: [mock, claud-code]}}\n",
     "plan.yaml:2:55: the engine `claud-code` is unknown; did you mean `claude-code`?"),
    ("unknown registered engine", "engines: {e: {use: opnai}}\ntasks: [{id: a, description: x, engine: e}]\n",
     "plan.yaml:1:20: the engine `e` uses `opnai`, which is unknown; did you mean `openai`?"),
    ("unknown template", "tasks:\n  - {id: a, template: code-reviw}\n",
     "plan.yaml:2:23: the template `code-reviw` is unknown; did you mean `code-review`?"),
    ("unknown tier", "tasks:\n  - {id: a, description: x, tier: huge}\n",
     "plan.yaml:2:35: the tier `huge` is unknown; write `best`, `fast` or `standard`"),
    ("a misspelt tier", "tasks:\n  - {id: a, description: x, model: standart}\n",
     "plan.yaml:2:36: the tier `standart` is unknown; did you mean `standard`?"),
    ("a bad strategy", "strategy: batch\ntasks: [{id: a, description: x}]\n",
     "plan.yaml:1:11: `strategy`: `batch` is no strategy: `batch` needs a number; write it like batch:4"),
    ("an unknown strategy", "strategy: dagg\ntasks: [{id: a, description: x}]\n",
     "plan.yaml:1:11: the strategy `dagg` is unknown; did you mean `dag`?"),
    ("one file, two owners", "workstreams:\n  a: {description: x, owns: src/**}\n  b: {description: x, owns: [docs/x, '*.py']}\n",
     "plan.yaml:3:29: `a` and `b` both own `src/new.py`, and neither waits for the other;"
     " add `!src/**` to what `b` owns, list it under `shared`, or write `depends_on: [a]` in `b`"),
    ("a phase that names nobody", "phases: [{name: A, tasks: [a, bb]}]\ntasks: [{id: a, description: x}]\n",
     "plan.yaml:1:31: the phase `A` names `bb`, which does not exist; write `a`"),
    ("a task in no phase", "phases: [{name: A, tasks: [a]}]\ntasks:\n  - {id: a, description: x}\n"
     "  - {id: b, description: x}\n",
     "plan.yaml:4:5: `b` is in no phase, and the plan has phases; add it to the `tasks` of a phase"),
    ("a task in two phases", "phases:\n  - {name: A, tasks: [a]}\n  - {name: B, tasks: [a]}\n"
     "tasks: [{id: a, description: x}]\n",
     "plan.yaml:3:23: `a` is in two phases: `A` and `B`; keep one of them"),
    ("a phase that waits for a later one", "phases: [{name: A, tasks: [a]}, {name: B, tasks: [b]}]\n"
     "tasks:\n  - {id: a, description: x, depends_on: [b]}\n  - {id: b, description: x}\n",
     "plan.yaml:3:42: `a` (phase `A`) depends on `b` of the later phase `B`; move `b` to `A`, or `a` to `B`"),
    ("a pattern with braces", "tasks:\n  - {id: a, description: x, files: 'src/{a,b}.py'}\n",
     "plan.yaml:2:36: `files`: the pattern `src/{a,b}.py` has braces;"
     " write one pattern for each: [src/a.py, src/b.py]"),
    ("a pattern that climbs", "tasks:\n  - {id: a, description: x, files: [a.py, src/../../x]}\n",
     "plan.yaml:2:43: `files`: the pattern `src/../../x` climbs out of the project; write it from the project's root"),
    ("an empty pattern", "tasks:\n  - {id: a, description: x, files: ''}\n",
     "plan.yaml:2:36: `files`: `` is no file pattern; write it like src/**/*.py"),
    ("a workstream that owns nothing", "workstreams:\n  a: {description: x, owns: []}\n",
     "plan.yaml:2:29: the workstream `a` owns nothing; write the files that it may change"),
    ("an absolute pattern", "workstreams:\n  a: {description: x, owns: /etc/passwd}\n",
     "plan.yaml:2:29: `owns`: the pattern `/etc/passwd` is absolute; write it from the project's root: ./etc/passwd"),
    ("a shell operator", "tasks:\n  - {id: a, description: x, checks: ['cd x && make']}\n",
     "plan.yaml:2:38: `checks`: the command `cd x && make` needs a shell for `&&`, and there is none;"
     ' write [sh, -c, "cd x && make"]'),
    ("an engine called auto", "engines:\n  auto: {use: mock}\ntasks: [{id: a, description: x}]\n",
     "plan.yaml:2:3: `auto`: `auto` cannot be an engine's name: it stands for the engines that ParallelAI chooses"
     " itself; give the entry another name, such as `mine`, and write `engine: mine`"),
    ("a shell variable", "gates: {landing: ['make PREFIX=$HOME']}\ntasks: [{id: a, description: x}]\n",
     "plan.yaml:1:19: `landing`: the command `make PREFIX=$HOME` needs a shell for `$`, and there is none;"
     ' write [sh, -c, "make PREFIX=$HOME"]'),
    ("words instead of a command", "tasks:\n  - {id: a, description: x, checks: [pytest, -q]}\n",
     "plan.yaml:2:46: `checks`: `-q` is no program;"
     " a list of words is one command only inside another list: [[pytest, -q]]"),
    ("a bad duration", "tasks:\n  - {id: a, description: x, timeout: soon}\n",
     "plan.yaml:2:38: `timeout`: `soon` is no duration; write it like 90s, 30m, 4h or 2d"),
    ("a number out of bounds", "tasks:\n  - {id: a, description: x, timeout: 0}\n",
     "plan.yaml:2:38: `timeout`: `0` is out of bounds; write a number above 0"),
    ("a choice with two rules", "tasks:\n  - {id: a, description: x, engine: {race: [mock], vote: [mock]}}\n",
     "plan.yaml:2:37: `engine`: a choice of engines has exactly one rule;"
     " write a name, or one of `fallback`, `race`, `vote`, `spread` or `route`, such as {fallback: [a, b]}"),
    ("a route without else", "tasks:\n  - {id: a, description: x, engine: {route: {docs: mock}}}\n",
     "plan.yaml:2:37: `engine`: the route has no `else`; add the engine for all others: else: NAME"),
    ("another version", "version: 2\ntasks: [{id: a, description: x}]\n",
     "plan.yaml:1:10: `version`: `2` is not possible here; write `1`"),
    ("a key in the plan", "engines:\n  e: {use: openai, api_key: sk-verysecret}\ntasks: [{id: a, description: x}]\n",
     "plan.yaml:2:20: the key `api_key` is unknown: secrets are never in a plan;"
     " name the variable that holds it: api_key_env: NAME"),
    ("a key instead of a name", "engines:\n  e: {use: openai, api_key_env: sk-abc-123}\ntasks: [{id: a, description: x}]\n",
     "plan.yaml:2:33: `api_key_env`: expected the name of an environment variable; write it like ANTHROPIC_API_KEY"),
    ("a secret as a value", "workspace:\n  env: {X: sk-abcdefghijklmnopqrstuvwxyz}\ntasks: [{id: a, description: x}]\n",
     "plan.yaml:2:12: `X` holds what looks like a secret, and secrets are never in a plan;"
     " name the variable that holds it: `api_key_env`, or `pass_env`"),
    ("engines without names", "engines: [mock]\ntasks: [{id: a, description: x}]\n",
     "plan.yaml:1:10: `engines`: expected a mapping, not a list; write {NAME: {use: …}}"),
    ("an engine without its keys", "engines: {a: mock}\ntasks: [{id: a, description: x}]\n",
     "plan.yaml:1:14: `a`: expected a mapping, not text; write {use: …}"),
    ("limits in one number", "limits: 3\ntasks: [{id: a, description: x}]\n",
     "plan.yaml:1:9: `limits`: expected a mapping, not a number; write {parallel: …, budget: …}"),
    ("a budget in one number", "limits: {budget: 3}\ntasks: [{id: a, description: x}]\n",
     "plan.yaml:1:18: `budget`: `3` is no budget; write it like 10usd,5Mtok,4h"),
    ("a key in the wrong place", "budget: 3usd\ntasks: [{id: a, description: x}]\n",
     "plan.yaml:1:1: unknown key `budget`; did you mean `budget` in `defaults` or `limits`?"),
    ("tasks by name", "tasks: {a: {description: x}}\n",
     "plan.yaml:1:8: `tasks`: expected a list, not a mapping; write [{id: …, description: …}]"),
    ("workstreams in one number", "workstreams: 3\ntasks: [{id: a, description: x}]\n",
     "plan.yaml:1:14: `workstreams`: expected workstreams, not a number; write {NAME: {description: …, owns: …}}"),
    ("an engine that is no name", "tasks: [{id: a, description: x, engine: 3}]\n",
     "plan.yaml:1:41: `engine`: an engine is its name or a choice, not a number;"
     " write an engine's name, or {fallback: [a, b]}"),
    ("a gate without its review", "gates: {landing: [{fail_on: high}]}\ntasks: [{id: a, description: x}]\n",
     "plan.yaml:1:19: `landing` has no `review`; add `review: …`"),
    ("a key that is left empty", "tasks:\n  - {id: a, description: x, retries: }\n",
     "plan.yaml:2:38: `retries`: expected a whole number, but it is empty; write a whole number, or leave the key out"),
    # hostile ones
    ("a Python object", "tasks: !!python/object/apply:os.system ['id']\n",
     "plan.yaml:1:8: the tag `!!python/object/apply:os.system` is not taken; leave the tag out\n"
     "plan.yaml:1:41: `tasks`: expected a mapping, not text; write {id: …, description: …}"),
    ("a binary tag", "tasks:\n  - {id: a, description: !!binary aGVsbG8=}\n",
     "plan.yaml:2:26: the tag `!!binary` is not taken; write plain text, without a tag"),
    ("an alias bomb", "vars:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)),
     "plan.yaml:6:47: the aliases unfold to more than 100,000 values; write the values out, or use `defaults`"),
    ("an alias of itself", "vars: &v {a: *v}\n",
     "plan.yaml:1:14: the alias `*v` contains itself; write the values out"),
    ("an alias of nothing", "vars: {a: *v}\n", "plan.yaml:1:11: the alias `*v` has no anchor before it; define `&v`, or quote it"),
    ("nested without end", "vars: " + "[" * 100_000,
     "plan.yaml:1:46: values are nested more than 40 deep; a plan needs no such depth"),
    ("mappings without end", "vars: " + "{a: " * 50_000,
     "plan.yaml:1:163: values are nested more than 40 deep; a plan needs no such depth"),
    ("a list as key", "? [a, b]\n: x\n",
     "plan.yaml:1:1: the plan is empty: it has no task and no workstream; add a task under `tasks:`\n"
     "plan.yaml:1:3: a key is text, not a list or mapping; write the key as text"),
    ("keys that are none", "tasks:\n- id: a\n  [a, {b: c}]: [1, {x: y}]\n  {q: r}: &z {a: 1}\n  description: x\n  engin: *z\n",
     "plan.yaml:3:3: a key is text, not a list or mapping; write the key as text\n"
     "plan.yaml:4:3: a key is text, not a list or mapping; write the key as text\n"
     "plan.yaml:6:3: unknown key `engin`; did you mean `engine`?"),
    ("an alias as key", "name: &n x\ntasks:\n- {id: a, description: x, *n : y, engin: z}\n",
     "plan.yaml:3:27: the alias `*n` stands for a key; write the key out\n"
     "plan.yaml:3:35: unknown key `engin`; did you mean `engine`?"),
    ("a NUL byte", "tasks:\n  - id: a\0b\n", "plan.yaml:2:10: the plan is not text: character U+0000; leave the character out"),
    ("an escaped NUL", 'tasks:\n  - {id: a, description: "x\\0y"}\n',
     "plan.yaml:2:26: the text has a NUL or half a character; leave the escape out"),
    ("an escape sequence", "name: x\ntasks:\n  - {id: a, description: é\x1b[31m}\n",
     "plan.yaml:3:27: the plan is not text: character U+001B; leave the character out"),
    ("two documents", "tasks: [{id: a, description: x}]\n---\ntasks: []\n",
     "plan.yaml:2:1: a second YAML document begins here; keep one plan in one file"),
    ("a tab", "tasks:\n\t- id: a\n",
     "plan.yaml:2:1: this is not YAML: while scanning for the next token: found character that cannot start any token;"
     " indent with spaces, and quote text that begins with a special character"),
    ("a colon in text", "tasks:\n  - id: a\n    description: fix: it\n",
     "plan.yaml:3:21: this is not YAML: mapping values are not allowed in this context;"
     " put text that has `: ` in it in quotes"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_broken_plan_is_refused_with_place_and_advice(text: str, said: str) -> None:
    with pytest.raises(PlanError) as caught:
        loads(text, file="plan.yaml", names=NAMES)
    assert str(caught.value) == said
    assert caught.value.exit_code == 2


def test_the_pure_python_parser_refuses_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    monkeypatch.setattr("parallelai.plan.source._Loader", yaml.SafeLoader)
    for name, text, said in BROKEN:
        with pytest.raises(PlanError) as caught:
            loads(text, file="plan.yaml", names=NAMES)
        if name not in {"a tab", "a key that is left empty", "a colon in text"}:  # words and places differ
            assert str(caught.value) == said, name


def test_all_errors_are_said_at_once_in_the_order_of_the_file() -> None:
    text = """\
tasks:
  - {id: a, description: x, retrys: 1, depends_on: [b, zebra]}
  - {id: b, depends_on: [a], timeout: soon}
  - 3
  - {id: b, description: y, engine: mok}
strategy: batch
workstreams:
  c: {owns: src, description: z}
  d: {owns: src/x, description: z, checks: [a | b]}
"""
    with pytest.raises(PlanError) as caught:
        loads(text, file="p", names=NAMES)
    places = [(p.line, p.column, p.said.split(":")[0]) for p in caught.value.problems]
    assert places == [
        (2, 29, "unknown key `retrys`"),
        (2, 53, "the tasks wait for each other"),
        (2, 56, "`a` depends on `zebra`, which does not exist"),
        (3, 5, "the task `b` has no `description` and no `template`"),
        (3, 39, "`timeout`"),
        (4, 5, "`tasks`"),
        (5, 10, "the id `b` is there twice, first in line 3"),
        (5, 37, "the engine `mok` is unknown"),
        (6, 11, "`strategy`"),
        (9, 13, "`c` and `d` both own `src/x`, and neither waits for the other"),
        (9, 45, "`checks`"),
    ]
    assert len(caught.value.to_json()["problems"]) == len(places)


def test_what_cannot_be_read_makes_no_further_errors() -> None:
    text = "tasks:\n  - {id: a, description: 3}\n  - {id: b, description: x, depends_on: [a]}\n"
    with pytest.raises(PlanError) as caught:
        loads(text, file="p", names=NAMES)
    assert [p.line for p in caught.value.problems] == [2]


def test_a_thousand_errors_are_bounded() -> None:
    text = "tasks:\n" + "".join(f"  - {{id: t{n}, description: x, foo: 1}}\n" for n in range(3000))
    with pytest.raises(PlanError) as caught:
        loads(text, file="p", names=NAMES)
    assert len(caught.value.problems) == 501
    assert str(caught.value.problems[-1]) == "p: and 2500 more problems"


def test_a_value_never_appears_in_full_or_with_control_characters() -> None:
    with pytest.raises(PlanError) as caught:
        loads('tasks:\n  - {id: "' + "\\e[31m" + "x" * 5000 + '", description: y}\n', names=NAMES)
    assert len(str(caught.value)) < 300
    assert "\x1b" not in str(caught.value)


# Files


def _write(path: Path, text: str = "tasks: [{id: a, description: x, engine: mock}]\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_loaded_and_named_by_its_path_below_the_root(tmp_path: Path) -> None:
    path = _write(tmp_path / "plans" / "a.yaml", "tasks: [{id: a, description: x, foo: 1}]\n")
    with pytest.raises(PlanError) as caught:
        load(path, root=tmp_path)
    assert caught.value.where == "plans/a.yaml:1:33"


def test_a_link_that_leads_out_of_the_project_is_refused(tmp_path: Path) -> None:
    secret = _write(tmp_path / "outside" / "secret.yaml")
    root = tmp_path / "project"
    root.mkdir()
    (root / "plan.yaml").symlink_to(secret)
    (root / "folder").symlink_to(secret.parent)
    for name in ("plan.yaml", "folder/secret.yaml"):
        with pytest.raises(PlanError) as caught:
            load(root / name, root=root)
        assert (
            str(caught.value)
            == f"{name}: the plan is a link that leads out of the project; name the file itself"
        )


def test_links_inside_and_files_that_the_user_names_outside_are_taken(tmp_path: Path) -> None:
    root = tmp_path / "project"
    inside = _write(root / "plans" / "a.yaml")
    (root / "link.yaml").symlink_to(inside)
    outside = _write(tmp_path / "b.yaml")
    linked_root = tmp_path / "linked"
    linked_root.symlink_to(root)
    assert (
        load(root / "link.yaml", root=root)
        == load(outside, root=root)
        == load(linked_root / "link.yaml", root=root)
    )


def test_a_file_that_is_too_large_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    with path.open("wb") as stream:
        stream.truncate(100_000_000)
    with pytest.raises(PlanError) as caught:
        load(path, root=tmp_path)
    assert str(caught.value) == (
        "plan.yaml: the plan is too large for a plan: 100.0 MB, at most 10 MB are read;"
        " split it, or use `each` for many files"
    )


def test_what_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    said = {
        ".": "is not a file",
        "pipe.yaml": "is not a file",
        "missing.yaml": "there is no plan `missing.yaml`",
        "loop.yaml": "cannot be read",
    }
    for name, expected in said.items():
        with pytest.raises(PlanError, match=expected):
            load(tmp_path / name, root=tmp_path)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("plans/fix.yml", "did you mean `plans/fix.yaml`?"),
        ("else.yaml", "name a plan that is there; `parallelai init` writes a first one"),
        (
            "Fix src/a.py",
            "a plan is a file: `parallelai init` writes a first one; put these words there as a `description`",
        ),
    ],
)
def test_who_names_no_plan_is_told_what_to_do(tmp_path: Path, name: str, advice: str) -> None:
    (tmp_path / "plans").mkdir()
    for each in ("fix.yaml", "fix.py"):
        (tmp_path / "plans" / each).write_text("")
    with pytest.raises(PlanError) as caught:
        load(tmp_path / name, root=tmp_path)
    assert caught.value.problems[0].next == advice


def test_bytes_that_are_no_text_are_placed(tmp_path: Path) -> None:
    cases = {
        b"tasks:\n  - id: \xff\n": "p.yaml:2:9: the plan is not UTF-8 text: byte 0xff; save it as UTF-8",
        "tasks: []".encode("utf-16"): "p.yaml:1:1: the plan is UTF-16, not UTF-8; save it as UTF-8",
        b"\x89PNG\r\n\x1a\n\0\0": "p.yaml:1:1: the plan is not UTF-8 text: byte 0x89; save it as UTF-8",
    }
    for data, said in cases.items():
        (tmp_path / "p.yaml").write_bytes(data)
        with pytest.raises(PlanError) as caught:
            load(tmp_path / "p.yaml", root=tmp_path)
        assert str(caught.value) == said


def test_a_mark_and_windows_line_ends_are_taken() -> None:
    assert loads("\ufefftasks:\r\n  - {id: a, description: x}\r\n").tasks[0].id == "a"


# What is taken


def test_the_example_of_the_contracts_loads_whole() -> None:
    plan = loads(EXAMPLE.read_text(encoding="utf-8"), file="tasks.yaml", names=NAMES)
    assert [task.id for task in plan.tasks] == ["review-auth", "fix"]
    assert plan.workstreams[1].owns == ("src/export/**", "src/utils/language_formatter.py")
    assert plan.limits.budget.time == 4 * 3600
    assert plan.limits.budget.tokens == 5_000_000
    assert plan.defaults.engine == Choice(rule="fallback", members=("claude", "local"))
    assert plan.phases[0].gate == (("pytest", "--junitxml={report}", "tests/core"),)
    assert plan.gates.landing[0] == ("pytest", "-q", "--junitxml={report}")
    assert plan.workspace.copy_ == (".env",)
    assert plan.workstreams[0].priority < 1.0
    assert positions(plan).where_task("fix") == "tasks.yaml:21:5"
    assert positions(plan).where("tasks", 0, "files") == "tasks.yaml:18:12"
    assert positions(plan).task("testing") == (25, 3)


def test_import_aliases_mean_the_canonical_keys() -> None:
    plan = loads(
        """\
tasks:
  - {AGENT: one, GOAL: do it, STREAM: "ui, core", DEPENDENCIES: "None (starts at once)", estimated_hours: 2-3}
  - {name: two, description: x, dependencies: "one", provider: mock, tier: best, ESTIMATED TIME: "1-2 days"}
workstreams:
  - {agent_id: three, GOAL: x, FILES: "src/**, lib/**", BRANCH: b, after_tasks: [one], context_files: docs,
     forbidden_files: src/x}
  - {id: four, description: x, allowed_files: tests/**, files: [README.md]}
  - {id: five, description: x, files: [other/**]}
""",
        names=NAMES,
    )
    one, two = plan.tasks
    assert (one.id, one.description, one.tags, one.depends_on, one.estimate) == (
        "one",
        "do it",
        ("ui", "core"),
        (),
        10800,
    )
    assert (two.depends_on, two.model, two.estimate) == (("one",), "best", 2 * 86400)
    assert two.engine == Choice(members=("mock",))
    three, four, five = plan.workstreams
    assert (three.id, three.owns, three.branch, three.depends_on) == (
        "three",
        ("src/**", "lib/**"),
        "b",
        ("one",),
    )
    assert (three.reads, three.avoids) == (("docs",), ("src/x",))
    assert (four.owns, four.files) == (("tests/**",), ("README.md",))
    assert (five.owns, five.files) == (("other/**",), None)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("4h", 14400),
        ("2d", 172800),
        ("1h30m", 5400),
        (45, 45),
        (0.5, 0.5),
        ("1.5 hours", 5400),
    ],
)
def test_durations(written: object, seconds: float) -> None:
    assert Task(id="a", timeout=written).timeout == seconds


@pytest.mark.parametrize(
    ("written", "hours"),
    [(3, 3), ("3", 3), ("2-3", 3), ("2–4 hours", 4), ("~6h", 6), ("90m", 1.5), ("1 to 2 days", 48)],
)
def test_bare_estimates_are_hours(written: object, hours: float) -> None:
    assert Task(id="a", estimated_hours=written).estimate == hours * 3600
    assert Task.model_validate({"id": "a", "ESTIMATED TIME": written}).estimate == hours * 3600


def test_scalars_follow_the_core_schema() -> None:
    plan = loads(
        "vars: {a: on, b: no, c: 012, d: 12:30, e: 1_000, f: 0x10, g: 1e3, h: ~, i: 2026-01-01, j: .inf}\n"
        "workspace: {network: on}\ntasks: [{id: a, description: yes}]\n"
    )
    assert dict(plan.vars) == {
        "a": "on",
        "b": "no",
        "c": "012",
        "d": "12:30",
        "e": "1_000",
        "f": 16,
        "g": 1000.0,
        "h": None,
        "i": "2026-01-01",
        "j": ".inf",
    }
    assert plan.workspace.network == "on"


def test_anchors_and_merges_are_taken_within_bounds() -> None:
    plan = loads("""\
tasks:
  - &base {id: a, description: x, retries: 1, checks: [pytest -q]}
  - {<<: *base, id: b, retries: 2}
  - <<: [*base]
    id: c
""")
    assert [(task.id, task.retries, task.checks) for task in plan.tasks] == [
        ("a", 1, (("pytest", "-q"),)),
        ("b", 2, (("pytest", "-q"),)),
        ("c", 1, (("pytest", "-q"),)),
    ]


def test_an_error_in_an_alias_is_placed_and_said_once() -> None:
    with pytest.raises(PlanError) as caught:
        loads("tasks:\n  - &base {id: a, description: x, foo: 1}\n  - {<<: *base, id: b}\n", file="p")
    assert [(p.line, p.column) for p in caught.value.problems] == [(2, 35)]


def test_from_mapping_takes_models_and_plain_data_and_says_all_errors() -> None:
    assert (
        from_mapping({"tasks": [Task(id="a", description="x"), {"id": "b", "description": "y"}]}).tasks[1].id
        == "b"
    )
    with pytest.raises(PlanError) as caught:
        from_mapping({"tasks": [{"id": "a", "foo": 1}, {"id": "b", "description": "x", "depends_on": ["q"]}]})
    said = sorted(str(problem) for problem in caught.value.problems)
    assert said[0] == "`b` depends on `q`, which does not exist; write `a`"
    assert said[1] == "the task `a` has no `description` and no `template`; say what is to be done"
    assert said[2].startswith("unknown key `foo`; write `after`, `approve`")


def test_python_construction_is_checked_too() -> None:
    task = Task(
        id="a", description="x", engine="mock", dependencies=["b"], output={"schema": {"type": "object"}}
    )
    assert task.depends_on == ("b",)
    assert isinstance(task.output, SchemaOutput)
    assert Task(id="a", each={"chunk": "4k"}).each.chunk == 4000
    with pytest.raises(ValueError, match="reserved"):
        Task(id="landing")
    assert Plan(tasks=[task]) == Plan(tasks=(task,))
