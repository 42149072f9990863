"""Task templates: a prompt, a checklist and what the reply has to be, in a YAML file each.

Those that ship are in `parallelai/templates/`; those of installed packages, a user's own and a project's
(`.parallelai/templates/`) come on top, the project's last. A package names the folder module of its YAML files
in the entry point group `parallelai.templates`. A template is text and runs nothing, but it may be found in a
repository that nobody trusts: files are bounded, aliases are refused, links out of the project are not followed.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from parallelai import extensions
from parallelai.errors import NotFoundError, UsageError
from parallelai.plan.fields import Patterns, Words
from parallelai.plan.files import read_text
from parallelai.plan.model import Output, Task

GROUP = "parallelai.templates"
SHIPPED = Path(__file__).parent.parent / "templates"
PROJECT_FOLDER = ".parallelai/templates"
MAX_BYTES = 256 * 1024
_NEAR = 0.75  # how alike a word and a name are that may be the same, of 1
Source = Literal["shipped", "package", "user", "project"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")


def _one_line(value: Any) -> Any:
    return " ".join(value.split()) if isinstance(value, str) else value


class Parameter(BaseModel):
    """What a task may set under `params`. Without a `default` it has to."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    description: Annotated[str, BeforeValidator(_one_line)] = ""
    default: str | int | float | bool | list[str] | None = None

    @property
    def is_required(self) -> bool:
        return "default" not in self.model_fields_set


class Template(BaseModel):
    """What a task may take over with `template: NAME`.

    `prompt` is rendered (Jinja) and goes before the task's description. `checklist` maps a short name to
    what is to be checked; a task's own `checklist` chooses from it. `params` are the values that the prompt
    takes from the task. `output`, `edits`, `model`, `kind`, `tags` and `files` hold where nobody else says
    anything. `source` is where the template comes from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    name: str
    description: Annotated[str, BeforeValidator(_one_line)] = ""
    prompt: Annotated[str, Field(min_length=1)]
    checklist: Mapping[str, Annotated[str, BeforeValidator(_one_line)]] = Field(default_factory=dict)
    output: Output | None = None
    model: str | None = None
    kind: str | None = None
    files: Patterns | None = None
    edits: bool = False
    tags: Words = ()
    params: Mapping[str, Parameter] = Field(default_factory=dict)
    source: Source = "shipped"


class Place(NamedTuple):
    """A folder of templates, which must lie below `top`."""

    source: Source
    folder: Path
    top: Path


def find(root: Path | None = None, user_dir: Path | None = None) -> Mapping[str, Template]:
    """Load all templates, by name, sorted.

    Args:
        root: the project, whose `.parallelai/templates` are taken.
        user_dir: the folder of the user's own templates.

    Raises:
        UsageError: a template cannot be read; `where` names its file.
    """
    shipped: dict[str, Path] = {}
    others: dict[str, Template] = {}
    for place in places(root, user_dir):
        for path in files(place.folder):
            if place.source == "shipped":
                shipped[path.stem] = path
                continue
            template = load(path, top=place.top, source=place.source)
            others[template.name] = template
    return _Found(shipped, others)


class _Found(Mapping[str, Template]):
    """Templates by name. A shipped one, whose name is that of its file, is read when somebody asks for it:
    to read all of them takes longer than all else before a small run."""

    def __init__(self, shipped: Mapping[str, Path], others: Mapping[str, Template]) -> None:
        self._shipped = shipped
        self._read = dict(others)
        self._names = sorted({*shipped, *others})

    def __getitem__(self, name: str) -> Template:
        known = self._read.get(name)
        if known is None:
            known = self._read[name] = load(self._shipped[name], top=SHIPPED, source="shipped")
        return known

    def __contains__(self, name: object) -> bool:
        return name in self._read or name in self._shipped

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def places(root: Path | None = None, user_dir: Path | None = None) -> list[Place]:
    """The folders in which templates are, the one that wins last."""
    found = [Place("shipped", SHIPPED, SHIPPED)]
    found += (Place("package", folder, folder) for folder in _packages())
    if user_dir is not None:
        found.append(Place("user", user_dir, user_dir))
    if root is not None:
        found.append(Place("project", root / PROJECT_FOLDER, root))
    return found


def _packages() -> Iterator[Path]:
    """The folders that installed packages name; a package that is broken gives none."""
    for point in sorted(extensions.of_group(GROUP), key=lambda point: (point.name, point.value)):
        try:
            spec = importlib.util.find_spec(point.module)
        except Exception:  # finding a module imports the packages above it, which may do anything
            spec = None
        for folder in (spec and spec.submodule_search_locations) or ():
            yield Path(folder)


def complete(task: Task, template: Template) -> Task:
    """Complete a task by its template, where nobody said anything; `output` and `checklist` are taken later.

    Raises `UsageError` for a parameter that is missing, or that the template does not have, and for what seems
    to be a misspelt name of its checklist.
    """
    said = task.model_fields_set
    _check_names(task, template)
    given: dict[str, Any] = {}
    for key in ("files", "kind", "tags", "edits"):
        value = getattr(template, key)
        if key not in said and value:
            given[key] = value
    params = _parameters(task, template)
    if params != task.params:
        given["params"] = params
    return task.model_copy(update=given) if given else task


def _parameters(task: Task, template: Template) -> Mapping[str, Any]:
    known = template.params
    if not known:
        return task.params
    for name in task.params:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            names = ", ".join(f"`{one}`" for one in known)
            advice = f"did you mean `{near[0]}`?" if near else f"there are {names}"
            said = f"the template `{template.name}` has no parameter `{name}`"
            raise UsageError(said, where=task.id, next=advice)
    for name, parameter in known.items():
        if parameter.is_required and name not in task.params:
            said = f"the template `{template.name}` needs the parameter `{name}`"
            about = f" ({parameter.description})" if parameter.description else ""
            raise UsageError(said, where=task.id, next=f"give it under the task's `params`{about}")
    return {**{name: one.default for name, one in known.items()}, **task.params}


def _check_names(task: Task, template: Template) -> None:
    """Refuse single words that are nearly a name of the template's checklist; others are words of the user's own."""
    known = template.checklist
    for word in task.checklist:
        near = (
            () if word in known or " " in word else difflib.get_close_matches(word, known, n=1, cutoff=_NEAR)
        )
        if near:
            raise UsageError(
                f"the checklist of the template `{template.name}` has no `{word}`",
                where=task.id,
                next=f"did you mean `{near[0]}`? To ask for something of your own, take more than one word",
            )


def replaces_shipped(template: Template) -> bool:
    """Say whether a template stands in place of one that ships, by its name."""
    return template.source != "shipped" and any(path.stem == template.name for path in files(SHIPPED))


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
        raise UsageError("unknown key `source`", where=line_of(text, where, ("source",)))
    try:
        template = Template.model_validate({"name": path.stem, **data, "source": source})
    except ValidationError as error:
        said, loc = _reason(error)
        raise UsageError(said, where=line_of(text, where, loc)) from None
    if not _NAME.match(template.name):
        advice = "letters, digits, `.`, `_`, `-`"
        said = f"a template's name has {advice}"
        raise UsageError(said, where=line_of(text, where, ("name",)))
    if template.edits and template.output not in (None, "change"):
        said = "a template that edits gives a change, no other `output`"
        raise UsageError(said, where=line_of(text, where, ("output",)), next="leave `output` out")
    return template


def line_of(text: str, where: str, loc: Sequence[str | int]) -> str:
    """Name the place, `file:line`, of a key in a template's text; the file alone where there is no such key."""
    try:
        node = yaml.compose(text, _Loader)
    except yaml.YAMLError:  # it was read before, so this does not happen
        return where
    line = 0
    for step in loc:
        if not isinstance(node, yaml.MappingNode):
            break
        pair = next((pair for pair in node.value if pair[0].value == step), None)
        if pair is None:
            break
        line, node = pair[0].start_mark.line + 1, pair[1]
    return f"{where}:{line}" if line else where


def files(folder: Path) -> Iterator[Path]:
    """The template files of a folder, sorted; none where there is no such folder."""
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


def _reason(error: ValidationError) -> tuple[str, Sequence[str | int]]:
    """Say what is wrong, without repeating the value, and where."""
    found = error.errors(include_input=False, include_url=False)
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    loc = first["loc"]
    key = ".".join(str(part) for part in loc) or "template"
    if first["type"] == "extra_forbidden":
        known = Template.model_fields if len(loc) == 1 else Parameter.model_fields
        near = difflib.get_close_matches(str(loc[-1]), known, n=1)
        return f"unknown key `{key}`" + (f"; did you mean `{near[0]}`?" if near else ""), loc
    if first["type"] == "missing":
        return f"the key `{key}` is missing", loc
    return f"`{key}`: {first['msg']}", loc
