"""Lock files are made anew by their own tool, from the manifests as they were merged.

The tools that are known are a table. One runs in a scratch folder that holds the merged tree, confined as
assistants are, with ours as the lock to start from; the network is what the plan gives. Where a tool is not
installed, or fails, that is told.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Protocol

from msgspec import Struct

from parallelai.engines.protocol import Workspace
from parallelai.errors import EngineError
from parallelai.git.plumbing import Git
from parallelai.processes import environment, find
from parallelai.processes.removing import remove
from parallelai.work.checkout import placing
from parallelai.work.resolvers.generating import told
from parallelai.work.scratch.confined import Command, run_in

SECONDS = 600.0
_CACHES = (
    *("npm_config_cache", "YARN_CACHE_FOLDER", "YARN_GLOBAL_FOLDER", "GOMODCACHE", "GOCACHE", "CARGO_HOME"),
    *("UV_CACHE_DIR", "POETRY_CACHE_DIR", "COMPOSER_HOME", "BUNDLE_USER_HOME", "XDG_CACHE_HOME"),
    *("XDG_DATA_HOME", "XDG_STATE_HOME"),
)
"""Where the tools keep what they fetch: HOME is read-only to them, so each gets a folder of its own."""
MAX_BYTES = 64 * 1024 * 1024
_HEAD = 500


class Regenerate(Protocol):
    """Makes a generated file anew."""

    async def __call__(self, path: str, tree: str) -> bytes | str:
        """Give the content of a file as its tool writes it for a tree (a hash); in words why that cannot be had."""


Argv = tuple[str, ...]
Otherwise = Callable[[bytes, bytes | None], Argv]
"""Gives a tool's second command, from the manifest and from the lock to start from."""


class Tool(Struct, frozen=True):
    """Who writes a lock file: its command, and the manifest that lies beside it."""

    argv: Argv
    manifest: str
    unless: bytes = b""
    """What a lock of another tool with the same name has in its head."""
    otherwise: Otherwise | None = None
    """What is tried where the command fails."""

    def is_others(self, lock: bytes) -> bool:
        """Whether a lock was written by another tool of that name."""
        return bool(self.unless) and self.unless in lock[:_HEAD]


_COMPOSER = ("composer", "update", "--no-install", "--no-scripts", "--no-plugins", "--no-interaction")
_PACKAGE = re.compile(r"[a-z0-9]([_.-]?[a-z0-9]+)*/[a-z0-9](([_.]|-{1,2})?[a-z0-9]+)*", re.IGNORECASE)


def composer_by_name(manifest: bytes, lock: bytes | None) -> Argv:
    """Composer's command for the packages that a lock lacks: before 2.7 it knows no `--minimal-changes`."""
    wanted = _names(manifest, "require", "require-dev", read=dict)
    locked = {name.lower() for name in _names(lock or b"{}", "packages", "packages-dev", read=_named)}
    missing = [name for name in wanted if _PACKAGE.fullmatch(name) and name.lower() not in locked]
    return (*_COMPOSER, "--with-dependencies", "--", *missing) if missing else (*_COMPOSER, "--lock")


def _names(text: bytes, *keys: str, read: Callable[[Any], Iterable[Any]]) -> list[str]:
    """The names that some keys of a JSON document hold; none where it is of another form."""
    try:
        document = json.loads(text)
        return [name for key in keys for name in read(document.get(key) or {}) if isinstance(name, str)]
    except (ValueError, TypeError, AttributeError, RecursionError):
        return []


def _named(packages: Iterable[Any]) -> list[Any]:
    return [package.get("name") for package in packages]


def bundle_here(manifest: bytes, lock: bytes | None) -> Argv:
    """Bundler's command where no gem server answers: the gems that are installed here are enough for many locks."""
    return ("bundle", "lock", "--local")


_NPM = Tool(
    ("npm", "install", "--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund"), "package.json"
)
TOOLS: Mapping[str, Tool] = {
    "package-lock.json": _NPM,
    "npm-shrinkwrap.json": _NPM,
    "yarn.lock": Tool(
        ("yarn", "install", "--mode", "update-lockfile"), "package.json", b"# yarn lockfile v1"
    ),
    "pnpm-lock.yaml": Tool(("pnpm", "install", "--lockfile-only", "--ignore-scripts"), "package.json"),
    "poetry.lock": Tool(("poetry", "lock", "--no-interaction"), "pyproject.toml"),
    "uv.lock": Tool(("uv", "lock"), "pyproject.toml"),
    "pdm.lock": Tool(("pdm", "lock", "--update-reuse"), "pyproject.toml"),
    "Pipfile.lock": Tool(("pipenv", "lock"), "Pipfile"),
    "Cargo.lock": Tool(("cargo", "update", "--workspace"), "Cargo.toml"),
    "go.sum": Tool(("go", "mod", "tidy"), "go.mod"),
    "composer.lock": Tool((*_COMPOSER, "--minimal-changes"), "composer.json", otherwise=composer_by_name),
    "Gemfile.lock": Tool(("bundle", "lock"), "Gemfile", otherwise=bundle_here),
}


def is_lock(path: str) -> bool:
    """Whether a file is a lock that a known tool writes."""
    return PurePosixPath(path).name in TOOLS


def manifest_of(path: str) -> str | None:
    """The path of the manifest that a lock is made from; None for what is no lock."""
    tool = TOOLS.get(PurePosixPath(path).name)
    return str(PurePosixPath(path).with_name(tool.manifest)) if tool else None


@dataclass(frozen=True, slots=True)
class Regeneration:
    """Runs the tools.

    Attributes:
        git: of the repository that has the trees.
        folder: where scratch folders are made, each removed again.
        logs: where the tools' output goes.
        run: the id that the processes are marked with.
        network: the plan's; None is on.
        env: what the tools see beside the environment of programs.
        pass_env: names of the user's variables that they see, such as those of a private registry.
        hidden: paths that are not even seen.
        tools: the table of what is known.
    """

    git: Git
    folder: Path
    logs: Path
    run: str
    network: Literal["on", "loopback", "off"] | None = None
    sandbox: Literal["auto", "required", "none"] = "auto"
    env: Mapping[str, str] = field(default_factory=dict)
    pass_env: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    seconds: float = SECONDS
    tools: Mapping[str, Tool] = field(default_factory=lambda: TOOLS)

    async def __call__(self, path: str, tree: str) -> bytes | str:
        """See `Regenerate`. Raises `GitError` where the tree cannot be laid out."""
        tool = self.tools.get(PurePosixPath(path).name)
        if tool is None:
            return "no tool is known that writes it"
        if find(tool.argv[0]) is None:
            return f"`{tool.argv[0]}` is not installed"
        scratch = self.folder / f"lock-{secrets.token_hex(6)}"
        try:
            return await self._made(tool, path, tree, scratch)
        finally:
            await asyncio.to_thread(remove, scratch)

    async def _made(self, tool: Tool, path: str, tree: str, scratch: Path) -> bytes | str:
        root, temporary = scratch / "tree", scratch / "tmp"
        for made in (root, temporary):
            await asyncio.to_thread(made.mkdir, parents=True, mode=0o700)
        git = Git(self.git.git_dir, work_tree=root, index=scratch / "index")
        await git.run("read-tree", tree)
        await git.run("checkout-index", "--all", "--force", "--quiet")
        before = await asyncio.to_thread(_content, root, path)
        beside = str(PurePosixPath(path).with_name(tool.manifest))
        manifest = await asyncio.to_thread(_content, root, beside)
        if manifest is None:
            return f"there is no `{beside}` to make it from"
        if before is not None and tool.is_others(before):
            return f"it is of another version of `{tool.argv[0]}`"
        folder = (root / path).parent
        failed = await self._run(tool.argv, folder, scratch)
        if failed is not None and tool.otherwise is not None:
            failed = await self._run(tool.otherwise(manifest, before), folder, scratch)
        if failed is not None:
            return told(failed.said, self.env, self.pass_env)
        after = await asyncio.to_thread(_content, root, path)
        if after is None or tool.is_others(after):
            return f"`{shlex.join(tool.argv)}` did not write it"
        return after

    async def _run(self, argv: Argv, folder: Path, scratch: Path) -> EngineError | None:
        """Run a tool in a folder of a scratch tree; gives why it failed."""
        root, temporary = scratch / "tree", scratch / "tmp"
        workspace = Workspace(
            True,
            str(temporary),
            sandbox=self.sandbox,
            network=self.network,
            readable=(str(root),),  # a tool in a folder of several packages reads its neighbours
            hidden=self.hidden,
        )
        log = self.logs / f"{scratch.name}.log"
        command = Command("tool", argv, self.seconds, 5.0, self.run, log)
        caches = {name: str(temporary / name.lower()) for name in _CACHES}
        env = environment(env={**caches, "CI": "1", **self.env}, pass_env=self.pass_env)
        return await run_in(str(folder), workspace, env, command)


def _content(root: Path, path: str) -> bytes | None:
    """What lies at a path, if it is a file, bounded; no link is followed."""
    try:
        found = placing.read(root, path)
    except placing.NotWritten:
        return None
    is_file = found is not None and not found.is_link and len(found.data) <= MAX_BYTES
    return found.data if is_file and found is not None else None
