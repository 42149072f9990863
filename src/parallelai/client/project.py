"""An open project: its settings, files, engines, templates and store, each made when it is first used."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shlex
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parallelai import config
from parallelai.engines.context import EngineContext
from parallelai.engines.registry import Registry
from parallelai.errors import NotFoundError, StoreError, UsageError
from parallelai.plan.settings import NEVER_A_PROJECTS, Settings, settings_for

if TYPE_CHECKING:  # each is loaded when it is first used: a list of engines needs no plan and no journal
    from concurrent.futures import Future

    from parallelai.engines.protocol import Engine
    from parallelai.plan.files import Tree
    from parallelai.plan.load import Names
    from parallelai.plan.model import EngineEntry, Role
    from parallelai.plan.templates import Template
    from parallelai.records import LimitKey
    from parallelai.store import Machine, RunRow, Store

NO_CONFIG = "no config"
"""What is kept in the place of a digest where somebody trusts a project without a config."""
TIERS = frozenset({"best", "standard", "fast"})


class OpenProject:
    """What the facade works on. Close it with `close`.

    Args:
        start: the folder that one is in.
        given: the project's folder where the user named it (`--project`).
        overrides: settings from arguments, over everything else.
        engines: engines that a library user made, by their own names.
        is_trusted: what the project's own files name may run (`--trust`).
    """

    def __init__(
        self,
        start: Path,
        given: Path | None = None,
        *,
        overrides: Mapping[str, Any] | None = None,
        engines: Iterable[Engine] = (),
        is_trusted: bool = False,
    ) -> None:
        self.start = start.resolve()
        self.is_named = given is not None
        self.place = config.find_project(self.start, given)
        self.config = config.load(self.place, env=os.environ, overrides=overrides or {})
        self.given = {engine.name: engine for engine in engines}
        self._is_told_to_trust = is_trusted
        self._listing: Future[Tree] | None = None
        self._lister: threading.Thread | None = None
        self._closing = contextlib.ExitStack()

    @property
    def root(self) -> Path:
        """The project's root folder."""
        return self.place.root

    @functools.cached_property
    def machine(self) -> Machine:
        """What belongs to the machine: trust, consent, what limits were learned."""
        from parallelai.store import Machine

        return self._closing.enter_context(Machine.open())

    @functools.cached_property
    def store(self) -> Store:
        """The project's journal, commands and cache; made if it is not there."""
        from parallelai.store import Store

        is_new = not self.has_store
        store = self._closing.enter_context(Store.open(self.state))
        if is_new:
            self._keep_state()
        return store

    def _keep_state(self) -> None:
        with contextlib.suppress(StoreError):  # where nothing can be remembered, nothing is asked for either
            self.machine.keep_state(self.state)

    def refuse_foreign_state(self) -> None:
        """Refuse to carry out what a journal says that came with a checkout or an archive, and not from here.

        Raises `UsageError`. Whoever says `--trust` says that it is their own.
        """
        if self.is_own_state:
            return
        if not self._is_told_to_trust:
            raise UsageError(
                f"the runs in `{self.state}` were not recorded here: it was copied, or came with the project",
                next="if you know what they would do: `--trust`; else start a run with `--new`",
            )
        self._keep_state()

    @property
    def is_own_state(self) -> bool:
        """Whether the journal was made here; taken to be where nothing can be remembered."""
        try:
            return self.machine.knows_state(self.state)
        except StoreError:
            return True

    @property
    def has_store(self) -> bool:
        """Whether anything was ever run here. Raises `StoreError` where this user may not look."""
        from parallelai.store.faults import told

        path = self.state / "journal.db"
        with told(path):
            return path.exists()

    def latest_run(self) -> RunRow:
        """Find the latest run. Raises `NotFoundError` where there is none."""
        latest = self.store.journal.latest() if self.has_store else None
        if latest is None:
            raise NotFoundError("there is no run here yet", next="start one: `parallelai review`")
        return latest

    @property
    def state(self) -> Path:
        """Where the journal is; the setting `state.path` moves it, relative to the root."""
        moved = self.settings.state.path
        return self.root / moved if moved else self.place.state

    @functools.cached_property
    def is_trusted(self) -> bool:
        """Whether what the project's own config names may run (DESIGN §5, "Commands are code")."""
        return self.config.project_digest is None or self.is_checkout_trusted

    @functools.cached_property
    def is_checkout_trusted(self) -> bool:
        """Whether the user trusts the project: then assistants and analysers obey what else lies in it.

        That takes a yes without a config, too: any checkout may bring hooks of an assistant.
        """
        if self._is_told_to_trust:
            return True
        if "machine" not in self.__dict__ and not config.machine_path().exists():
            return False  # nobody was asked anything yet
        try:
            return self.machine.is_trusted(self.root, self.config.project_digest or NO_CONFIG)
        except StoreError:  # where nothing can be remembered, nothing was trusted
            return False

    def has_consent(self, engine: str, address: Callable[[], str]) -> bool:
        """Whether the user said that `auto` may take this engine, in the own config or when asked.

        `address` gives where it would ask, empty for its usual place: a yes when asked was to that place.
        """
        if engine in self.settings.consent:  # never the project's word, see `settings_for`
            return True
        if "machine" not in self.__dict__ and not config.machine_path().exists():
            return False  # nobody was asked anything yet
        try:
            agreed = self.machine.consents(engine)
        except StoreError:
            return False
        return bool(agreed) and address() in agreed

    def last_good_limit(self, key: LimitKey) -> int | None:
        """How many calls at once worked last for a key (`run.job.LimitMemory`)."""
        return self.machine.last_good_limit(key)

    def keep_limit(self, key: LimitKey, limit: int) -> None:
        """Keep how many calls at once worked for a key."""
        self.machine.keep_limit(key, limit)

    def session_memory(self, engine: str) -> int | None:
        """What a session of an engine took at most lately, in bytes."""
        try:
            return self.machine.memory(engine)
        except StoreError:  # it is a guess less
            return None

    def keep_session_memory(self, engine: str, taken: int) -> None:
        """Keep what a session of an engine took, in bytes."""
        with contextlib.suppress(StoreError):
            self.machine.keep_memory(engine, taken)

    @functools.cached_property
    def _judged(self) -> tuple[Settings, tuple[str, ...]]:
        return settings_for(self.config, is_trusted=self.is_trusted)

    @property
    def settings(self) -> Settings:
        """The settings that hold; those of an untrusted project may only tighten."""
        return self._judged[0]

    @property
    def ignored(self) -> tuple[str, ...]:
        """What the project's config set, and which of its roles there are, that does not hold."""
        return (*self._judged[1], *(f"roles.{name}" for name in sorted(self.untrusted_roles)))

    @property
    def untrusted(self) -> tuple[str, ...]:
        """What of that would hold if the user trusted it."""
        return tuple(key for key in self.ignored if key not in NEVER_A_PROJECTS)

    @property
    def untrusted_roles(self) -> frozenset[str]:
        """The roles that files of the project define, and nobody trusted."""
        return frozenset() if self.is_trusted else frozenset(file.name for file in self.config.role_files)

    @functools.cached_property
    def tree(self) -> Tree:
        """The project's files, without those that git ignores."""
        return self._list() if self._listing is None else self._listing.result()

    def list_ahead(self) -> None:
        """Begin to list the files, in a thread: git takes as long for it as much else takes to be loaded.

        Nobody waits for that thread at an end without the files: outside git a listing may take minutes.
        """
        from concurrent.futures import Future

        if self._listing is not None or "tree" in self.__dict__:
            return
        listing: Future[Tree] = Future()
        listing.set_running_or_notify_cancel()  # who no longer waits for it does not end it

        def carry_out() -> None:
            try:
                listing.set_result(self._list())
            except BaseException as failure:  # it is whoever waits for the list that it concerns
                listing.set_exception(failure)

        lister = threading.Thread(target=carry_out, name="listing", daemon=True)
        with contextlib.suppress(RuntimeError):  # no thread is to be had: whoever needs the list makes it
            lister.start()
            self._listing, self._lister = listing, lister

    async def listed(self) -> None:
        """Have the files listed, and wait for that; whoever waits may be interrupted, as with `tree` they cannot be."""
        self.list_ahead()
        if self._listing is not None:
            await asyncio.wrap_future(self._listing)
        if self._lister is not None:
            self._lister.join()  # it has no more to do

    def _list(self) -> Tree:
        from parallelai.git.listing import list_files
        from parallelai.plan.walking import walk

        return list_files(self.root) or walk(self.root)

    @functools.cached_property
    def has_git(self) -> bool:
        """Whether the project is a checkout of a git repository, from which folders to work in can be cut."""
        return (self.root / ".git").exists()

    @property
    def how_to_have_git(self) -> str:
        """What to do where the project is no checkout; in a folder of one it would be wrong to make another."""
        if config.is_bare(self.root):
            return "`git worktree add` makes one of a bare repository: call this in there"
        top = next((folder for folder in self.root.parents if (folder / ".git").exists()), None)
        if top is not None:
            return f"it is a folder of one: name the top (`--project {shlex.quote(str(top))}`)"
        return "`git init` and a first commit make it one"

    @functools.cached_property
    def templates(self) -> Mapping[str, Template]:
        """The task templates: shipped, the user's, the project's."""
        from parallelai.plan.templates import find

        return find(self.root, _own_folder() / "templates")

    @functools.cached_property
    def roles(self) -> Mapping[str, Role]:
        """The roles: shipped, the user's, the project's if it is trusted, and those that settings define."""
        from parallelai.plan import roles

        files = self.config.role_files if self.is_trusted else ()
        return roles.find(_own_folder() / "roles", files, over=self.settings.roles)

    def registry(self, entries: Mapping[str, EngineEntry] | None = None) -> Registry:
        """Make the engines that config and a plan name; close it with `aclose`."""
        settings = self.settings
        context = EngineContext(self.root, settings.analyzers, self.is_checkout_trusted, settings.models)
        return Registry({**settings.engines, **(entries or {})}, context, given=self.given)

    def names(self, variables: Iterable[str] = ()) -> Names:
        """The names that a plan may use beside its own; `variables` are set beside it."""
        from parallelai.engines.models.table import familiar_names
        from parallelai.plan.load import Names
        from parallelai.plan.values import AUTO

        settings = self.settings
        return Names(
            engines=self.registry().names | {AUTO},
            templates=frozenset(self.templates),
            tiers=TIERS,
            strategies=None,  # `strategies.find` knows what is installed
            roles=frozenset(self.roles) | self.untrusted_roles,
            models=familiar_names(settings.models),
            vars=frozenset({*settings.vars, *variables}),
        )

    def close(self) -> None:
        """Let go of the store."""
        self._closing.close()


def _own_folder() -> Path:
    """Where the user's own templates and roles are."""
    import platformdirs

    return Path(platformdirs.user_config_dir("parallelai"))
