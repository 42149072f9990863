"""Templates: the shipped ones hold together; found ones are bounded and named in errors."""

import json
from pathlib import Path

import pytest

from parallelai.errors import NotFoundError, UsageError
from parallelai.plan.sandbox import has_markup
from parallelai.plan.templates import find, pick
from parallelai.records import Severity


@pytest.mark.parametrize("name", ["code-review", "security-audit"])
def test_a_shipped_template_states_the_form_of_its_answer(name: str) -> None:
    template = find()[name]
    assert template.output == "findings"
    assert template.kind == "review"
    assert template.description
    assert len(template.checklist) >= 8
    for key in ["file", "line", "severity", "category", "message", "quote", "suggestion", "confidence"]:
        assert f'"{key}":' in template.prompt
    assert all(f'"{severity}"' in template.prompt for severity in Severity)
    example = json.loads(template.prompt[template.prompt.index('[{"file"') :])
    assert example[0]["severity"] in list(Severity)
    assert example[0]["category"] in template.prompt
    assert not has_markup(template.prompt)  # the same for every file, so that providers can cache it


def test_the_nearest_template_wins(tmp_path: Path) -> None:
    user, project = tmp_path / "user", tmp_path / "project"
    own = project / ".parallelai/templates"
    user.mkdir()
    own.mkdir(parents=True)
    (user / "code-review.yaml").write_text("prompt: mine\n")
    (user / "notes.yaml").write_text("prompt: notes\nchecklist: {a: first, b: second}\n")
    (own / "code-review.yaml").write_text("prompt: ours\noutput: text\nmodel: fast\nfiles: 'src/**, !x'\n")
    (own / "ignored.txt").write_text("prompt: no\n")
    found = find(project, user)
    assert list(found) == sorted(found)
    assert (found["code-review"].prompt, found["code-review"].source) == ("ours", "project")
    assert found["code-review"].files == ("src/**", "!x")
    assert found["notes"].checklist == {"a": "first", "b": "second"}
    assert found["security-audit"].source == "shipped"


def test_a_missing_template_is_answered_with_the_nearest() -> None:
    with pytest.raises(NotFoundError) as error:
        pick(find(), "code-revew")
    assert error.value.next == "did you mean `code-review`?"
    assert pick(find(), "code-review").name == "code-review"


@pytest.mark.parametrize(
    ("text", "said", "where"),
    [
        ("prompt: [1, 2\n", "not valid YAML", "x.yaml:2:1"),
        ("- a\n", "mapping", "x.yaml"),
        ("promt: a\n", "unknown key `promt`; did you mean `prompt`?", "x.yaml"),
        ("description: a\n", "`prompt` is missing", "x.yaml"),
        ("prompt: a\nprompt: b\n", "there twice", "x.yaml:2:1"),
        ("prompt: a\noutput: poem\n", "`output", "x.yaml"),
        ("prompt: a\nname: ../x\n", "name", "x.yaml"),
        ("prompt: a\nsource: shipped\n", "unknown key `source`", "x.yaml"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nprompt: *b\n", "aliases", "x.yaml:2:8"),
        ("prompt: !!python/object/apply:os.system [id]\n", "not valid YAML", "x.yaml:1:9"),
        ("[" * 5000, "not valid YAML", "x.yaml"),
        ("prompt: " + "a" * 300_000, "larger", "x.yaml"),
    ],
)
def test_a_bad_template_is_refused_with_its_place(
    tmp_path: Path, text: str, said: str, where: str | None
) -> None:
    folder = tmp_path / ".parallelai/templates"
    folder.mkdir(parents=True)
    (folder / "x.yaml").write_text(text)
    with pytest.raises(UsageError) as error:
        find(tmp_path)
    assert said in error.value.said
    if where is not None:
        assert error.value.where is not None
        assert error.value.where.startswith(".parallelai/templates/" + where)


def test_a_link_out_of_the_project_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text("prompt: secret\n")
    folder = tmp_path / "project/.parallelai/templates"
    folder.mkdir(parents=True)
    (folder / "x.yaml").symlink_to(tmp_path / "secret.yaml")
    with pytest.raises(UsageError, match="link out of the project"):
        find(tmp_path / "project")
