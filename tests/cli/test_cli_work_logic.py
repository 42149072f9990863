"""A run that lands work over a logic conflict says so at its end: git merges it, and no gate has to see it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from shops import git, shop_with

AGENT = """\
name=$(git branch --show-current)
if [ ${name##*/} = one ]; then
    echo "def rate(): return 2" > src/rates.py
else
    printf 'from src.rates import price\\n\\n\\ndef total():\\n    return price()\\n' > src/total.py
fi
"""
PLAN = """\
version: 1
engines: {sh: {use: command, command: [sh, agent.sh]}}
defaults: {engine: sh}
workstreams:
  one: {description: One., owns: "src/rates.py"}
  two: {description: Two., owns: "src/total.py"%s}
"""
RATES = "def price():\n    return 1\n"


@pytest.mark.parametrize("after", ["", ", approve: true"])
def test_what_git_merges_and_does_not_work_together_is_told(
    after: str, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"plan.yaml": PLAN % after, "agent.sh": AGENT, "src/rates.py": RATES}
    shop = shop_with(tmp_path, monkeypatch, files)
    called = cli("work", "run", "plan.yaml")
    if after:  # `one` landed when `two` was done
        assert cli("work", "approve", "two").code == 0
        called = cli("work", "run", "plan.yaml")

    assert called.code == 0
    assert "price()" in git(shop, "show", "main:src/total.py")
    later = "two" if after else "(one|two)"  # the one that was done later has it
    told = f" {later}: logic conflict, which git merges: (`two`|the target) calls `price"  # where `two` had landed
    assert re.search(told, called.out + called.err)
