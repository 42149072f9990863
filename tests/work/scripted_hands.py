"""An assistant that is a program: reads its prompt from stdin, and does what the last `script` block in it says.

The blocks are those of `tests/scripted/script.py`. Steps that have been done already are left out, so that it can
be told again in a later turn.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any


def do(step: dict[str, Any]) -> None:
    if "say" in step or "json" in step:
        print(step["say"] if "say" in step else json.dumps(step["json"]))
    elif step.get("tool") == "write":
        path = Path(step["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(step["text"], encoding="utf-8")
    elif step.get("tool") == "edit":
        path = Path(step["path"])
        text = path.read_text(encoding="utf-8")
        if step["new"] not in text:
            assert step["old"] in text, f"{path} has no such text"
            path.write_text(text.replace(step["old"], step["new"], 1), encoding="utf-8")
    elif step.get("tool") == "shell":
        subprocess.run(["sh", "-c", step["command"]], check=False)


def main() -> None:
    blocks = re.findall(r"```script\s*\n(.*?)\n\s*```", sys.stdin.read(), re.DOTALL)
    for step in json.loads(blocks[-1])["steps"] if blocks else [{"say": "done"}]:
        do(step)


if __name__ == "__main__":
    main()
