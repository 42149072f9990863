"""Where Codex's own program lies. npm installs a launcher beside it, which is written for Node.

The launcher takes a fifth of a second of a core to start, and on Node before 24 stays for as long as Codex does, with
its memory. What it does (`bin/codex.js` of version 0.169) is done here.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from pathlib import Path

from parallelai.processes.environment import is_executable

_LAUNCHER = ("@openai", "codex", "bin", "codex.js")
_MACHINES = {"x86_64": ("x64", "x86_64"), "amd64": ("x64", "x86_64")} | dict.fromkeys(
    ("aarch64", "arm64"), ("arm64", "aarch64")
)
_SYSTEMS = {"linux": ("linux", "unknown-linux-musl"), "darwin": ("darwin", "apple-darwin")}


def own_program(launcher: Path) -> tuple[Path, Mapping[str, str]] | None:
    """Find what the launcher would start, with the variables that it would set.

    None where `launcher` is not the one that npm installs, or what it starts lies elsewhere than it is known to.
    """
    real = launcher.resolve()
    machine, system = _MACHINES.get(platform.machine().lower()), _SYSTEMS.get(sys.platform)
    if real.parts[-len(_LAUNCHER) :] != _LAUNCHER or machine is None or system is None:
        return None
    package, modules = real.parent.parent, real.parents[3]
    name = f"codex-{system[0]}-{machine[0]}"
    # Node takes the package that lies nearest, which may be another version than one farther off.
    beside = (package / "node_modules" / "@openai" / name, modules / "@openai" / name)
    folder = next((place for place in beside if (place / "package.json").is_file()), package)
    program = folder / "vendor" / f"{machine[1]}-{system[1]}" / "bin" / "codex"
    # A link may lead out of what the sandbox shows of the installation.
    if not is_executable(program) or program.resolve() != program:
        return None
    return program, {"CODEX_MANAGED_PACKAGE_ROOT": str(package), "CODEX_MANAGED_BY_NPM": "1"}
