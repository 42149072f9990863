"""`parallelai templates …`."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import click

from parallelai.cli.grammar import group
from parallelai.cli.shared import Shared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parallelai.client import AsyncParallelAI
    from parallelai.client.templates import Checked, Found, Templates

_WIDTH = 100


@group()
def templates() -> None:
    """List, show, write and check task templates."""


@templates.command("list")
def list_(shared: Shared) -> int:
    """List the templates that tasks here may name."""
    found = shared.read(lambda ai: _templates(ai).list())
    shared.result({"templates": [_row(one) for one in found]}, lambda: "\n".join(_lines(found)))
    return 0


@templates.command()
@click.argument("name")
def show(shared: Shared, name: str) -> int:
    """Show a template: what it asks for, its checklist, its parameters."""
    found = shared.read(lambda ai: _templates(ai).find(name))
    shared.result(found.to_data(), lambda: "\n".join(_page(found)))
    return 0


@templates.command()
@click.argument("name")
@click.option("--like", metavar="TEMPLATE", help="Begin with a copy of this one.")
def new(shared: Shared, name: str, like: str | None) -> int:
    """Write a template of the project's own, to be edited. What is there is never overwritten."""
    file = shared.read(lambda ai: _templates(ai).new(name, like=like))
    advice = f"edit it, then `parallelai templates check {name}`"
    shared.result({"name": name, "file": file}, f"written: {file}\nnext: {advice}")
    return 0


@templates.command()
@click.argument("names", nargs=-1, metavar="[NAME|FILE]...")
def check(shared: Shared, names: tuple[str, ...]) -> int:
    """Check templates, by default all but those that ship; exit 2 if anything is wrong."""
    from parallelai.errors import PlanError

    checked: Checked = shared.read(lambda ai: _templates(ai).check(names))
    if checked.problems:
        raise PlanError(checked.problems)
    count = len(checked.files)
    said = "\n".join(f"{file}: ok" for file in checked.files) if count else "there is no template of your own"
    shared.result({"ok": True, "files": checked.files}, said)
    return 0


def _templates(ai: AsyncParallelAI) -> Templates:
    from parallelai.client.templates import Templates

    return Templates(ai.project)


def _row(found: Found) -> dict[str, object]:
    template = found.template
    return {
        "name": template.name,
        "description": template.description,
        "output": _output(found),
        "edits": template.edits,
        "model": template.model,
        "kind": template.kind,
        "tags": template.tags,
        "source": template.source,
        "replaces_shipped": found.replaces_shipped,
        "file": found.file,
    }


def _output(found: Found) -> str:
    template = found.template
    if template.output is None:
        return "change" if template.edits else "text"
    return template.output if isinstance(template.output, str) else "schema"


def _lines(found: Sequence[Found]) -> list[str]:
    rows = [(one.template.name, _output(one), one.template.source, _about(one)) for one in found]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip()
        for row in rows
    ]


def _about(found: Found) -> str:
    note = "(in place of the one that ships)" if found.replaces_shipped else ""
    return " ".join(filter(None, (found.template.description, note)))


def _page(found: Found) -> list[str]:
    template = found.template
    facts = [f"gives {_output(found)}", "edits files" if template.edits else "", template.source]
    facts += [
        f"model {template.model}" if template.model else "",
        f"kind {template.kind}" if template.kind else "",
    ]
    lines = [f"{template.name}: {template.description}" if template.description else template.name]
    lines += [", ".join(fact for fact in facts if fact), found.file]
    if template.files:
        lines.append("files: " + ", ".join(template.files))
    if template.params:
        lines += ["", "Parameters (a task's `params`)"]
        for name, one in template.params.items():
            default = f"default: {one.default}" if one.default else "optional"
            rest = "required" if one.is_required else default
            lines += _item(name, f"{one.description} ({rest})".strip())
    lines += ["", "Prompt", *(f"  {line}".rstrip() for line in template.prompt.rstrip().split("\n"))]
    if template.checklist:
        lines += ["", "Checklist (all, unless `--checklist` chooses)"]
        for name, text in template.checklist.items():
            lines += _item(name, text)
    return lines


def _item(name: str, text: str) -> list[str]:
    return textwrap.wrap(f"{name}: {text}", _WIDTH, initial_indent="  ", subsequent_indent="      ") or [
        f"  {name}"
    ]
