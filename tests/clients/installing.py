"""The real assistants for the tests: installed once, at the versions that `package-lock.json` pins.

`python tests/clients/installing.py` installs them, as `make clients` and the first test that needs them do,
and prints the folder of their programs. The lock file names no address: the user's own npm settings say where
packages come from. They lie in `build/clients/`, in a folder named after the lock file's content.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parent.parent / "build" / "clients"
SECONDS = 600
PACKAGES = {
    "claude-code": "@anthropic-ai/claude-code",
    "codex": "@openai/codex",
    "gemini": "@google/gemini-cli",
    "opencode": "opencode-ai",
    "qwen": "@qwen-code/qwen-code",
}
"""What npm calls each client, by its engine's name."""
_SCRIPTS = ("@anthropic-ai/claude-code/install.cjs", "opencode-ai/postinstall.mjs")
"""What two of them do after their installation, run by name: npm asks before it runs such scripts itself."""


def programs() -> Path:
    """Give the folder with `claude`, `codex` and the others, installing them where that is not done yet.

    Raises RuntimeError with npm's words where they cannot be installed. Safe to call from many processes.
    """
    lock = (HERE / "package-lock.json").read_bytes()
    folder = CACHE / hashlib.sha256(lock).hexdigest()[:16]
    found = folder / "node_modules" / ".bin"
    if (folder / "installed").exists():
        return found
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            _install(folder)
    return found


def _install(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder / name)
    install(folder)
    (folder / "installed").touch()


def install(folder: Path, *packages: str) -> Path:
    """Install `NAME@VERSION` each into an empty folder, or what its lock file pins; gives their programs' folder.

    Raises RuntimeError with npm's words.
    """
    wanted = ["install", *packages] if packages else ["ci"]
    options = ["--prefix=.", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    _run(["npm", *wanted, *options], folder)
    modules = folder / "node_modules"
    for script in _SCRIPTS:
        path = modules / script
        if path.exists():
            _run(["node", path.name], path.parent)
    return modules / ".bin"


def _run(argv: list[str], folder: Path) -> None:
    if shutil.which(argv[0]) is None:
        raise RuntimeError(
            f"`{argv[0]}` is not on the PATH: the tests of real assistants need Node 20 and npm"
        )
    done = subprocess.run(
        argv, cwd=folder, env=_own_environment(), capture_output=True, text=True, timeout=SECONDS
    )
    if done.returncode:
        raise RuntimeError(f"`{' '.join(argv)}` failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def _own_environment() -> dict[str, str]:
    """The user's home rather than a test's: there lie npm's settings and what it has fetched before."""
    return {**os.environ, "HOME": pwd.getpwuid(os.getuid()).pw_dir}


if __name__ == "__main__":
    print(programs())
