"""Where programs that are assistants lie, keep their login, and take their key from."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parallelai.engines.protocol import Request
from parallelai.errors import Unavailable
from parallelai.processes import Confinement, find

if TYPE_CHECKING:
    from parallelai.plan.model import EngineEntry

_MAX_KEY_BYTES = 64 * 1024
_PINNED = re.compile(r"@(\d[\w.+-]*)")


def read_key(name: str, entry: EngineEntry) -> str | None:
    """Read the key that the entry of engine `name` names; None where it names none.

    Raises `Unavailable` where it is not there.
    """
    if entry.api_key_env is not None:
        if key := os.environ.get(entry.api_key_env):
            return key
        said = f"engine `{name}`: `{entry.api_key_env}` is not set"
        raise Unavailable(said, next=f"set {entry.api_key_env}")
    if entry.api_key_file is None:
        return None
    path = Path(entry.api_key_file).expanduser()
    try:
        with path.open("rb") as file:
            key = file.read(_MAX_KEY_BYTES).decode("utf-8").strip()
    except (OSError, ValueError) as error:
        said = f"engine `{name}`: the key's file `{path}` cannot be read: {error}"
        raise Unavailable(said, next="correct `api_key_file`") from None
    if not key:
        raise Unavailable(f"engine `{name}`: the key's file `{path}` is empty", next="write the key into it")
    return key


def login_folders(names: tuple[str, ...], env: Mapping[str, str]) -> tuple[str, ...]:
    """Give the folders of the agent's login and sessions, made where they are missing, as it would itself."""
    folders = [below(env, name) for name in names]
    for folder in folders:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(
                f"`{folder}`, the agent's own folder, cannot be made: {error.strerror}"
            ) from None
    return tuple(str(folder) for folder in folders)


def refuse_unread(name: str, root: Path, obeyed: Iterable[str]) -> None:
    """Raise `Unavailable` where a project that nobody trusts holds what would make this assistant run something."""
    for path in obeyed:
        if os.path.lexists(root / path):
            raise Unavailable(
                f"`{name}` would obey `{path}` of this project, which is not trusted",
                next="read it, then `parallelai trust` (`--trust` for this once)",
            )


_NOBODYS = frozenset(
    ("config", "local", "cache", "ssh", "gnupg", "pki", "aws", "azure", "kube", "docker", "npm", "git", "gh")
)
"""Names of programs, or of what is none, whose folders hold what is not an agent's alone."""


def likely_folders(program: str, env: Mapping[str, str]) -> tuple[str, ...]:
    """Give the folders that an agent that nobody knows is likely to keep its login in: those of its name."""
    name = Path(program).name
    if name in _NOBODYS or not name.replace("-", "").replace("_", "").isalnum():
        return ()
    places = (f".{name}", *(f"{folder}{name}" for folder in _XDG))
    return tuple(str(path) for path in (below(env, place) for place in places) if path.is_dir())


_XDG = {
    ".config/": "XDG_CONFIG_HOME",
    ".local/share/": "XDG_DATA_HOME",
    ".local/state/": "XDG_STATE_HOME",
    ".cache/": "XDG_CACHE_HOME",
}


def below(env: Mapping[str, str], name: str) -> Path:
    """Find a folder below HOME, or where the XDG variables that the agent sees put it."""
    for prefix, variable in _XDG.items():
        if name.startswith(prefix) and env.get(variable, "").startswith("/"):
            return Path(env[variable]) / name.removeprefix(prefix)
    return Path(env.get("HOME") or Path.home()) / name


def check_network(name: str, request: Request, entry: EngineEntry, confined: Confinement | None) -> None:
    """Refuse to run a program with a network that was to be cut off. Raises `Unavailable`."""
    asked = None if request.workspace is None else request.workspace.network
    network = asked or entry.network or "on"
    if confined is None and network != "on":
        raise Unavailable(
            f"engine `{name}` is to have its network {network}, and no sandbox confines it",
            next="install bubblewrap, or take `network` out",
        )


def installation(program: str, path: str | None = None) -> list[str]:
    """Give the folders that a program lies in, which a sandbox may else not show (below a temporary folder)."""
    found = find(program, path)
    if found is None:
        return []
    real = Path(found).resolve()
    modules = [folder for folder in real.parents if folder.name == "node_modules"]
    folder = modules[-1] if modules else real.parent
    if (folder.parent / "pyvenv.cfg").exists():
        folder = folder.parent
    own = Path(found).parent  # of a virtual environment's interpreter, whose link leads elsewhere
    if (own.parent / "pyvenv.cfg").exists():
        own = own.parent
    return [str(own), str(folder)]


def pinned_version(how: str) -> str | None:
    """Read the version that an advice to install something by npm names; None for any other.

    It is what `package_version` is compared with.
    """
    found = _PINNED.search(how)
    return None if found is None else found[1]


def package_version(program: Path) -> str | None:
    """Read the version of a program that npm installed, from its `package.json`; None for any other."""
    for folder in list(program.resolve().parents)[:4]:
        try:
            with (folder / "package.json").open("rb") as file:
                data: Any = json.loads(file.read(1024 * 1024))
        except (OSError, ValueError):
            continue
        version = data.get("version") if isinstance(data, dict) else None
        return version[:50] if isinstance(version, str) else None
    return None
