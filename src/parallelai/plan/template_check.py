"""What is wrong with a template file, each thing at its place: before a plan that uses it is carried out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from jinja2 import TemplateSyntaxError, meta, nodes

from parallelai.errors import Problem, UsageError
from parallelai.plan.files import read_text
from parallelai.plan.members import wrong_members
from parallelai.plan.problems import meant
from parallelai.plan.reasons import reason
from parallelai.plan.sandbox import ENVIRONMENT, FAILURES, has_markup
from parallelai.plan.templates import MAX_BYTES, Source, Template, line_of, load

_NAMES = frozenset({"file", "files", "params", "range", "tasks", "vars"})
_ITEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


def check_template(path: Path, *, top: Path, source: Source = "project") -> list[Problem]:
    """Say all that is wrong with a template file that lies below `top`; nothing where it is good."""
    try:
        template = load(path, top=top, source=source)
    except UsageError as error:
        return [_problem(error)]
    where = path.relative_to(top).as_posix() if path.is_relative_to(top) else path.as_posix()
    text = read_text(top, where, max_bytes=MAX_BYTES)
    return list(_problems(template, text, where))


def _problem(error: UsageError) -> Problem:
    file, _, place = (error.where or "").partition(":")
    line, _, column = place.partition(":")
    numbers = [int(part) if part.isdigit() else None for part in (line, column)]
    return Problem(error.said, file, numbers[0], numbers[1], error.next)


def _problems(template: Template, text: str, where: str) -> Iterator[Problem]:
    for name in template.checklist:
        if not _ITEM.match(name):
            said = f"`{name}` cannot be chosen by `--checklist`, which takes letters, digits, `.`, `_`, `-`"
            yield _at(said, text, where, "checklist", name)
    used: set[str] = set()
    if has_markup(template.prompt):
        try:
            tree = ENVIRONMENT.parse(template.prompt)
        except FAILURES as error:
            offset = error.lineno if isinstance(error, TemplateSyntaxError) else 0
            yield _at(f"the prompt cannot be rendered: {reason(error)}", text, where, "prompt", offset=offset)
            return
        for name in sorted(meta.find_undeclared_variables(tree) - _NAMES):
            advice = meant(name, _NAMES - {"range"}, "name")
            yield _at(f"the prompt uses `{name}`, which nobody gives", text, where, "prompt", advice=advice)
        for said in wrong_members(tree):
            yield _at(f"the prompt cannot be rendered: {said}", text, where, "prompt")
        used = set(_members(tree))
    for name in sorted(used - template.params.keys()):
        said = f"the prompt uses `params.{name}`, which is not under `params`"
        yield _at(said, text, where, "prompt", advice=meant(name, template.params, "parameter"))
    for name in sorted(template.params.keys() - used):
        yield _at(f"the prompt does not use the parameter `{name}`", text, where, "params", name)


def _members(tree: nodes.Template) -> Iterator[str]:
    """The parameters that a prompt names."""
    for node in tree.find_all(nodes.Getattr):
        if isinstance(node.node, nodes.Name) and node.node.name == "params":
            yield node.attr
    for item in tree.find_all(nodes.Getitem):
        is_ours = isinstance(item.node, nodes.Name) and item.node.name == "params"
        if is_ours and isinstance(item.arg, nodes.Const) and isinstance(item.arg.value, str):
            yield item.arg.value


def _at(said: str, text: str, where: str, *keys: str, advice: str | None = None, offset: int = 0) -> Problem:
    """A problem at a key of the file; `offset` counts the lines of a block below it."""
    line = line_of(text, where, keys).rpartition(":")[2]
    return Problem(said, where, int(line) + offset if line.isdigit() else None, next=advice)
