"""Task templates: a prompt, a checklist and what the reply has to be, in a YAML file each.

Those that ship are in `parallelai/templates/`; a user's own and a project's (`.parallelai/templates/`) come
on top, the project's last. A template is text and runs nothing, but it may be found in a repository that
nobody trusts: files are bounded, aliases are refused, links out of the project are not followed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from parallelai.errors import NotFoundError, UsageError
from parallelai.plan.files import read_text
from parallelai.plan.model import Output, Patterns

SHIPPED = Path(__file__).parent.parent / "templates"
PROJECT_FOLDER = ".parallelai/templates"
MAX_BYTES = 256 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")


def _one_line(value: Any) -> Any:
    return " ".join(value.split()) if isinstance(value, str) else value


class Template(BaseModel):
    """What a task may take over with `template: NAME`.

    `prompt` is rendered (Jinja) and goes before the task's description. `checklist` maps a short name to
    what is to be checked; a task's own `checklist` chooses from it. `output`, `model`, `kind` and `files`
    hold where the task says nothing. `source` is where the template comes from: shipped, user or project.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    description: Annotated[str, BeforeValidator(_one_line)] = ""
    prompt: Annotated[str, Field(min_length=1)]
    checklist: Mapping[str, Annotated[str, BeforeValidator(_one_line)]] = Field(default_factory=dict)
    output: Output | None = None
    model: str | None = None
    kind: str | None = None
    files: Patterns | None = None
    source: Literal["shipped", "user", "project"] = "shipped"


def find(root: Path | None = None, user_dir: Path | None = None) -> Mapping[str, Template]:
    """Load all templates, by name, sorted.

    Args:
        root: the project, whose `.parallelai/templates` are taken.
        user_dir: the folder of the user's own templates.

    Raises:
        UsageError: a template cannot be read; `where` names its file.
    """
    found: dict[str, Template] = {}
    places = (
        ("shipped", SHIPPED, SHIPPED),
        ("user", user_dir, user_dir),
        ("project", root / PROJECT_FOLDER if root else None, root),
    )
    for source, folder, top in places:
        if folder is not None and top is not None:
            for path in _files(folder):
                template = load(path, top=top, source=source)
                found[template.name] = template
    return dict(sorted(found.items()))


def pick(templates: Mapping[str, Template], name: str) -> Template:
    """Give a template by name. Raises `NotFoundError` naming the nearest one."""
    if name in templates:
        return templates[name]
    near = difflib.get_close_matches(name, templates, n=1)
    names = ", ".join(f"`{other}`" for other in templates)
    advice = f"did you mean `{near[0]}`?" if near else f"there are {names}"
    raise NotFoundError(f"there is no template `{name}`", next=advice)


def load(path: Path, *, top: Path, source: str = "project") -> Template:
    """Read one template file, which must lie below `top`. Raises `UsageError`."""
    where = path.relative_to(top).as_posix() if path.is_relative_to(top) else path.as_posix()
    try:
        text = read_text(top, where, max_bytes=MAX_BYTES)
    except OSError as error:
        raise UsageError(f"the template cannot be read: {error.strerror}", where=where) from None
    except UsageError as error:
        raise UsageError(f"the template cannot be read: {error.said}", where=where) from None
    data = _yaml(text, where)
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise UsageError("a template is a mapping of keys to values", where=where, next="write `prompt: …`")
    if "source" in data:
        raise UsageError("unknown key `source`", where=where)
    try:
        template = Template.model_validate({"name": path.stem, **data, "source": source})
    except ValidationError as error:
        raise UsageError(_reason(error), where=where) from None
    if not _NAME.match(template.name):
        raise UsageError("a template's name has letters, digits, `.`, `_`, `-`", where=where)
    return template


def _files(folder: Path) -> Iterator[Path]:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return
    for name in names:
        if name.endswith((".yaml", ".yml")) and not name.startswith("."):
            yield folder / name


class _Loader(yaml.SafeLoader):
    """Plain YAML without aliases, so that a small file stays small, and without keys given twice."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML's own
            raise yaml.MarkedYAMLError(None, None, "aliases are not allowed", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key, _ in node.value:
            if key.value in keys:
                raise yaml.MarkedYAMLError(
                    None, None, f"the key `{key.value}` is there twice", key.start_mark
                )
            if isinstance(key.value, str):
                keys.add(key.value)
        return super().construct_mapping(node, deep)


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506  # a safe loader, made stricter
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        raise UsageError(f"not valid YAML: {error.problem}", where=place) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())[:200]
        raise UsageError(f"not valid YAML: {said}", where=where) from None


def _reason(error: ValidationError) -> str:
    """Say what is wrong, without repeating the value."""
    found = error.errors(include_input=False, include_url=False)
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    key = ".".join(str(part) for part in first["loc"]) or "template"
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, Template.model_fields, n=1)
        return f"unknown key `{key}`" + (f"; did you mean `{near[0]}`?" if near else "")
    if first["type"] == "missing":
        return f"the key `{key}` is missing"
    return f"`{key}`: {first['msg']}"
