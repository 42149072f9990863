"""Finds lines that give a password away, and prints them as findings.

An engine of the kind `command` reads a prompt on stdin, and prints its answer on stdout. Where findings are
wanted, that is a JSON list like this one.
"""

import json
import re
import sys
from pathlib import Path


def main() -> None:
    """Look at every Python file that the prompt names."""
    prompt = sys.stdin.read()
    findings = []
    for name in sorted(set(re.findall(r"[\w./-]+\.py", prompt))):
        path = Path(name)
        if not path.is_file():
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(r"(?i)password\s*=\s*[\"']", line):
                findings.append(
                    {
                        "file": name,
                        "line": number,
                        "severity": "high",
                        "category": "security",
                        "message": "a password in the source",
                        "quote": line,
                    }
                )
    print(json.dumps(findings))


main()
