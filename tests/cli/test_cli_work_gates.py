"""`work run` with a gate that the target itself does not pass: what is told of it before the work is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from shops import shop_with

PLAN = """\
version: 1
engines: {sh: {use: command, command: [sh, -c, "sleep 1; echo a > src/a.txt"]}}
defaults: {engine: sh}
workstreams:
  a: {description: A., owns: src/a.txt}
gates: {landing: [%s], canary: "off"}
"""
RED = """\
import sys
case = '<testcase classname="c" name="%s"><failure message="no"/></testcase>'
report = '<testsuite>' + case % 'old' + '<testcase classname="c" name="good"/></testsuite>'
open(sys.argv[1], 'w').write(report)
sys.exit(1)
"""


@pytest.mark.parametrize(
    ("gate", "told"),
    [
        (
            "[tools/check]",
            "gate `tools/check` failed, 0.00 s: it could not be run: its program `tools/check` is not",
        ),
        ("[sh, -c, no-such-check]", "gate `sh -c no-such-check` failed (exit 127), "),
        (
            "[python3, red.py, '{report}']",
            None,
        ),  # what fails there already is told at the end, and hinders nothing
        ("[sh, -c, '! test -e src/a.txt']", None),  # only what was made fails it
    ],
)
def test_a_gate_that_lets_nothing_pass_is_told_while_the_assistants_work(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate: str, told: str | None
) -> None:
    shop_with(tmp_path, monkeypatch, {"plan.yaml": PLAN % gate, "red.py": RED})
    called = cli("work", "run", "plan.yaml")
    lines = [line for line in called.err.splitlines() if line.startswith("gate ")]
    assert [line[: len(told or "")] for line in lines] == ([told] if told else [])
