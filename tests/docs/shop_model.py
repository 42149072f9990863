"""The model that the pages ask: a server on 127.0.0.1 that knows the small shop, and answers alike each time.

It stands where a reader has a key: `OPENAI_BASE_URL` and `ANTHROPIC_BASE_URL` of the tests' reader lead here.
An answer depends on the request alone, so that any number of pages can ask at once:

    a review    the findings below whose quotes are in the prompt; of the model `other`, all but the last
    a verdict   the finding about the password is refuted, the others hold
    a change    `shell=True` goes out of the backup
    else        one sentence

As a program it serves until its stdin ends, and prints its port first.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))

from loopback import USAGE, Loopback, Seen

FINDINGS: tuple[dict[str, Any], ...] = (
    {
        "file": "src/orders.py",
        "line": 10,
        "severity": "high",
        "category": "security",
        "message": "`pickle.load` runs code that whoever wrote the file put there.",
        "quote": "return pickle.load(file)",
        "suggestion": "Keep the orders as JSON.",
        "confidence": 0.9,
    },
    {
        "file": "src/orders.py",
        "line": 15,
        "severity": "medium",
        "category": "bug",
        "message": "An order without `cents` ends the sum with a `KeyError`.",
        "quote": 'return sum(order["cents"] for order in orders)',
        "suggestion": None,
        "confidence": 0.6,
    },
    {
        "file": "src/backup.py",
        "line": 8,
        "severity": "high",
        "category": "security",
        "message": "A folder's name with `;` in it runs a command of its own.",
        "quote": 'subprocess.run("tar czf backup.tar.gz " + name, shell=True, check=True)',
        "suggestion": "Give `tar` a list of arguments.",
        "confidence": 0.95,
    },
    {
        "file": "src/settings.py",
        "line": 4,
        "severity": "low",
        "category": "security",
        "message": "A password is in the source.",
        "quote": 'PASSWORD = "winter-2019"',
        "suggestion": None,
        "confidence": 0.7,
    },
)
OLD = 'subprocess.run("tar czf backup.tar.gz " + name, shell=True, check=True)'
NEW = 'subprocess.run(["tar", "czf", "backup.tar.gz", "--", name], check=True)'
TEST_MACHINE = "The host is this machine, and the password is the one of its test database."


def answer(seen: Seen) -> str:
    """Give the answer to a request."""
    said = "\n".join(_texts(seen.body))
    if '"verdicts"' in said:
        return json.dumps({"verdicts": _verdicts(said)})
    if '{"files": [' in said:
        return json.dumps(_change(said) if OLD in said else {"files": []})
    if '"quote"' in said or '"findings"' in said:
        known = FINDINGS[:-1] if seen.body.get("model") == "other" else FINDINGS
        found = [{**one, "file": _path(one["file"], said)} for one in known if one["quote"] in said]
        return json.dumps({"findings": found})
    return "The shop keeps its orders in a pickle."


def _change(said: str) -> dict[str, Any]:
    edit = {"path": _path("src/backup.py", said), "edits": [{"old": OLD, "new": NEW}]}
    return {"files": [edit]}


def _path(name: str, said: str) -> str:
    """Give a file of the shop as the request calls it, wherever the shop lies in the project."""
    found = re.search(r"[\w/.-]*" + re.escape(name), said)
    return found[0] if found else name


def _verdicts(said: str) -> list[dict[str, str]]:
    told = re.findall(r"^Finding (\d+) \(.*\):\n`+\n(.*)$", said, re.MULTILINE)
    return [
        {
            "id": number,
            "why": TEST_MACHINE if "password" in text else "The case is as it says.",
            "verdict": "refuted" if "password" in text else "holds",
        }
        for number, text in told
    ]


def _texts(data: Any) -> list[str]:
    """Give every text in a request's body."""
    if isinstance(data, str):
        return [data]
    parts = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return [text for part in parts for text in _texts(part)]


async def _serve() -> None:
    USAGE.update(input=1_500, cached=0, output=1_000, reasoning=0)  # so that a price means something
    async with Loopback(answer, models=("tiny", "other")) as server:
        print(server.port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve())
