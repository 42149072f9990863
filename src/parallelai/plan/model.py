"""What is to be done, as frozen, checked objects: CONTRACTS §1, key by key.

Attribute names are the plan's keys. Times are seconds, sizes bytes, money US dollars; patterns and commands
are tuples. Import aliases (`dependencies`, `allowed_files`, …) are taken wherever the canonical key is, also
by the constructors. A value that cannot be taken raises `pydantic.ValidationError`; `plan.load` turns that
into errors with file, line and column.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PrivateAttr,
    Strict,
    Tag,
    field_validator,
    model_validator,
)

from parallelai.plan import values
from parallelai.plan.base import Model
from parallelai.plan.elsewhere import NO_LIMITS_OF_A_ROLE
from parallelai.plan.fields import (
    AutoCount,
    Bytes,
    Command,
    Commands,
    Count,
    EngineName,
    Environment,
    Identifier,
    Ids,
    Network,
    OnFailure,
    Patterns,
    Priority,
    Reaction,
    RetryOn,
    Rule,
    Sandbox,
    Seconds,
    Sentences,
    SeverityName,
    Tokens,
    Usd,
    Variable,
    Words,
    as_tuple,
    one_or_many,
    shape_of,
)
from parallelai.plan.generators import Generator
from parallelai.plan.positions import Positions
from parallelai.plan.values import Wrong

RULES: tuple[str, ...] = ("fallback", "race", "vote", "spread", "route")

_ENGINE_ALIASES = {"provider": "engine", "tier": "model"}
_FILE_ALIASES = {"allowed_files": "owns", "context_files": "reads", "forbidden_files": "avoids"}
_TASK_ALIASES = {
    **_ENGINE_ALIASES,
    "STREAM": "tags",
    "estimated_hours": "estimate",
    "ESTIMATED TIME": "estimate",
}
_WORK_ALIASES = {
    **_TASK_ALIASES,
    "name": "id",
    "agent_id": "id",
    "AGENT": "id",
    "GOAL": "description",
    "dependencies": "depends_on",
    "after_tasks": "depends_on",
    "DEPENDENCIES": "depends_on",
}


class Budget(Model):
    """Limits of money, tokens and time (seconds); None is no limit. Also written `10usd,5Mtok,4h`."""

    usd: Usd | None = None
    tokens: Tokens | None = None
    time: Seconds | None = None

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, data: Any) -> Any:
        return values.budget(data)


class Price(Model):
    """USD for a million tokens; `cached` is as `input` where it is not given."""

    input: Usd
    output: Usd
    cached: Usd | None = None


class Choice(Model):
    """A rule that picks engines. A plain name is the rule `one`; `{fallback: [a, b]}` names the others.

    A route maps a kind, tag or file pattern to an engine: `routes`, in the order written; it must hold
    `else`. `members` are then its engines, each once.
    """

    rule: Rule = "one"
    members: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = ()
    routes: Mapping[str, str] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"rule": "one", "members": (values.named_engine(data),)}
        if data is None or isinstance(data, Choice):
            return data
        if not isinstance(data, Mapping):
            said = f"an engine is its name or a choice, not {values.kind_of(data)}"
            raise Wrong(said, "write an engine's name, or {fallback: [a, b]}")
        if isinstance(data.get("members"), tuple):  # made in Python: a plan's text has no tuples
            return data
        rules = [key for key in data if key in RULES]
        if len(rules) != 1 or len(data) != 1:
            said = "a choice of engines has exactly one rule"
            raise Wrong(said, f"write a name, or one of {values.joined(RULES)}, such as {{fallback: [a, b]}}")
        return values.choice(rules[0], data[rules[0]])

    @model_validator(mode="after")
    def _check(self) -> Choice:
        if not self.members:
            raise Wrong(f"the choice `{self.rule}` names no engine", f"write {{{self.rule}: [a, b]}}")
        if self.rule == "route" and "else" not in self.routes:
            raise Wrong("the route has no `else`", "add the engine for all others: else: NAME")
        if len(set(self.members)) != len(self.members):
            twice = next(name for name in self.members if self.members.count(name) > 1)
            raise Wrong(f"the choice `{self.rule}` names `{twice}` twice", "name each engine once")
        return self


class Chunk(Model):
    """One instance for each part of a file of about that many tokens."""

    chunk: Annotated[Tokens, Field(ge=1)]


class SchemaOutput(Model):
    """A JSON Schema that the reply must meet. The key is `schema`; so is the constructor's argument."""

    schema_: Mapping[str, Any] = Field(alias="schema")


class EngineEntry(Model):
    """A name for an engine with its settings. `use` names a registered engine."""

    aliases: ClassVar[Mapping[str, str]] = {"tier": "model"}

    use: str
    model: str | None = None
    base_url: str | None = None
    api_key_env: Variable | None = None
    api_key_file: str | None = None
    api_key_keyring: str | None = None
    price: Price | None = None
    account: str | None = None
    concurrency: Count | None = None
    sandbox: Sandbox = "auto"
    network: Network | None = None
    env: Environment = Field(default_factory=dict)
    args: Annotated[tuple[str, ...], BeforeValidator(one_or_many)] = ()
    command: Command | None = None
    timeout: Seconds | None = None
    idle_timeout: Seconds | None = None
    max_turns: Count | None = None
    max_tokens: Tokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None

    @field_validator("base_url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise Wrong("a `base_url` begins with http:// or https://", "write the whole address")
        return value


class Limits(Model):
    """How much at once and in all. `parallel` is None where it is `auto`."""

    parallel: AutoCount = None
    budget: Budget = Field(default_factory=Budget)
    on_budget: Literal["finish", "cancel"] = "finish"
    unpriced: Literal["refuse", "allow"] = "refuse"
    max_wait: Seconds = 3600.0
    grace: Seconds = 5.0


class RoleLimits(Model):
    """How much of a role: `parallel` attempts of all its tasks at once, `budget` for each of its tasks."""

    refused = NO_LIMITS_OF_A_ROLE

    parallel: AutoCount = None
    budget: Budget = Field(default_factory=Budget)


class Role(Model):
    """Expertise, instructions, model, files and limits for who does a task."""

    aliases: ClassVar[Mapping[str, str]] = {**_ENGINE_ALIASES, **_FILE_ALIASES}

    expertise: Words = ()
    model: str | None = None
    engine: Choice | None = None
    instructions: str | None = None
    owns: Patterns = ()
    avoids: Patterns = ()
    reads: Patterns = ()
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: Tokens | None = None
    limits: RoleLimits | None = None


class Needs(Model):
    """What a workspace is given by the ledger. `memory` is in bytes."""

    ports: Annotated[int, Field(ge=0, le=1000)] = 0
    database: bool = False
    heavy: Annotated[int, Field(ge=0)] = 0
    memory: Bytes | None = None


class Workspace(Model):
    """How the folder in which an assistant works is prepared."""

    copy_: Patterns = Field(default=(), alias="copy")
    link: Patterns = ()
    setup: Commands = ()
    env: Environment = Field(default_factory=dict)
    pass_env: Annotated[tuple[Variable, ...], BeforeValidator(one_or_many)] = ()
    network: Network | None = None
    needs: Needs = Field(default_factory=Needs)
    sparse: Patterns = ()


Each = Annotated[
    Annotated[Literal["file"], Tag("plain")] | Annotated[Chunk, Tag("object")], Discriminator(shape_of)
]
Output = Annotated[
    Annotated[Literal["text", "findings", "change"], Tag("plain")] | Annotated[SchemaOutput, Tag("object")],
    Discriminator(shape_of),
]


@functools.lru_cache(maxsize=256)
def _named(name: str) -> Choice:
    return Choice(rule="one", members=(values.named_engine(name),))


class Shared(Model):
    """What tasks, workstreams and defaults have in common."""

    aliases = _TASK_ALIASES

    kind: str | None = None
    tags: Words = ()
    role: str | None = None
    engine: Choice | None = None
    model: str | None = None
    files: Patterns | None = None
    each: Each | None = None
    template: str | None = None
    params: Mapping[str, Any] = Field(default_factory=dict)
    checklist: Words = ()
    output: Output | None = None
    after: Literal["landed", "finished"] | None = None
    when: str | None = None
    on_failure: OnFailure = "skip-dependents"
    edits: bool = False
    checks: Commands = ()
    priority: Priority = 1.0
    estimate: Seconds | None = None
    timeout: Annotated[Seconds, Field(gt=0)] = 1800.0
    idle_timeout: Annotated[Seconds, Field(gt=0)] = 300.0
    retries: Annotated[int, Field(ge=0, le=100)] = 3
    retry_on: Annotated[tuple[RetryOn, ...], BeforeValidator(one_or_many)] = ()
    empty: Literal["refuse", "ok"] = "refuse"
    verify: Annotated[
        Annotated[bool, Tag("flag")] | Annotated[Choice, Tag("choice")],
        Discriminator(lambda value: "flag" if isinstance(value, bool) else "choice"),
    ] = False
    approve: bool = False
    budget: Budget | None = None
    workspace: Workspace | None = None

    @field_validator("engine", mode="before")
    @classmethod
    def _share(cls, value: Any) -> Any:
        # One choice for all that name the same engine: thousands of tasks do.
        return _named(value) if isinstance(value, str) else value


class Defaults(Shared):
    """What holds for every task that says nothing else; only what was set counts (`model_fields_set`)."""


class Task(Shared):
    """The unit of work. It needs an `id`, and a `description` or a `template`."""

    aliases = _WORK_ALIASES

    id: Identifier
    description: str = ""
    depends_on: Ids = ()
    todo: Sentences = ()

    if TYPE_CHECKING:

        def __init__(self, **given: Any) -> None:
            """Take each key as a plan may write it: an engine by its name, a time-out as `30m`."""


class Workstream(Task):
    """A task that owns files and has a worktree and a branch of its own."""

    aliases: ClassVar[dict[str, str]] = {
        **_WORK_ALIASES,
        **_FILE_ALIASES,
        "FILES": "owns",
        "BRANCH": "branch",
    }

    edits: bool = True
    owns: Patterns
    reads: Patterns = ()
    avoids: Patterns = ()
    contracts: Patterns = ()
    branch: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _files_are_owned(cls, data: Any) -> Any:
        # `files` is an import alias of `owns` here; beside it, it is the task's own key.
        if (
            isinstance(data, Mapping)
            and "files" in data
            and not {"owns", "allowed_files", "FILES"} & set(data)
        ):
            return {("owns" if key == "files" else key): value for key, value in data.items()}
        return data


class Phase(Model):
    """Tasks that run together, with a gate after them."""

    name: str
    tasks: Ids
    parallel: Count | None = None
    gate: Commands = ()
    pass_rate: Annotated[float, Field(ge=0, le=1)] | None = None
    barrier: bool = True
    why: str | None = None


class PhaseGate(Task):
    """What has to pass after a phase before the next one starts: made of a phase's `gate`, never written down."""

    commands: Commands = ()
    pass_rate: float | None = None


class ReviewGate(Model):
    """A review that must find nothing as severe as `fail_on` before something lands."""

    review: str
    model: str | None = None
    engine: Choice | None = None
    fail_on: SeverityName = "high"


Gate = Annotated[
    Annotated[Command, Tag("plain")] | Annotated[ReviewGate, Tag("object")], Discriminator(shape_of)
]


class Gates(Model):
    """What must pass before something lands. `timeout` is in seconds."""

    landing: Annotated[tuple[Gate, ...], BeforeValidator(one_or_many)] = ()
    canary: Literal["warn", "require", "off"] = "warn"
    allow_red_base: bool = False
    timeout: Seconds = 1800.0


class Conflicts(Model):
    """What is done about a conflict with another workstream while it forms, by its class."""

    file: Reaction = "go-on"
    function: Reaction = "go-on"
    logic: Reaction = "go-on"


class Landing(Model):
    """How a branch becomes part of the target. `target` None is the branch checked out at the start."""

    target: str | None = None
    method: Literal["merge", "squash", "rebase"] = "merge"
    via: Literal["ref", "pr"] = "ref"
    push: bool = False
    batch: AutoCount = None
    sync: Literal["merge", "rebase", "none"] = "merge"
    resolver: Choice | None = None
    generated: Annotated[tuple[Generator, ...], BeforeValidator(as_tuple)] = ()
    conflicts: Conflicts = Field(default_factory=Conflicts)
    decisions: Literal["state", "commit"] = "state"


class Member(Model):
    """A person of the team: their accounts and workstreams."""

    accounts: Words = ()
    workstreams: Words = ()


class Plan(Model):
    """What is to be done, by whom, within which limits, behind which gates."""

    version: Literal[1] = 1
    name: str | None = None
    description: str | None = None
    engines: Mapping[EngineName, EngineEntry] = Field(default_factory=dict)
    roles: Mapping[str, Role] = Field(default_factory=dict)
    defaults: Defaults = Field(default_factory=Defaults)
    limits: Limits = Field(default_factory=Limits)
    strategy: Annotated[str, BeforeValidator(values.strategy)] = "dag"
    phases: Annotated[tuple[Phase, ...], Strict(False)] = ()
    tasks: Annotated[tuple[Task, ...], Strict(False)] = ()
    workstreams: Annotated[tuple[Workstream, ...], Strict(False)] = ()
    shared: Patterns = ()
    protected: Patterns = ()
    workspace: Workspace = Field(default_factory=Workspace)
    gates: Gates = Field(default_factory=Gates)
    landing: Landing = Field(default_factory=Landing)
    permissions: Literal["auto", "ask", "deny"] = "auto"
    team: Mapping[str, Member] = Field(default_factory=dict)
    vars: Mapping[str, Any] = Field(default_factory=dict)

    _positions: Positions = PrivateAttr(default_factory=Positions)

    @field_validator("workstreams", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """Take `name: {…}` pairs as well as a list."""
        if value is not None and not isinstance(value, (Mapping, list, tuple)):
            said = f"expected workstreams, not {values.kind_of(value)}"
            raise Wrong(said, "write {NAME: {description: …, owns: …}}")
        if not isinstance(value, Mapping):
            return value
        return [_with_id(name, entry) for name, entry in value.items()]

    @property
    def works(self) -> tuple[Task, ...]:
        """The tasks, then the workstreams: all that one name space holds."""
        return (*self.tasks, *self.workstreams)


def _with_id(name: str, entry: Any) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    own = [key for key in ("id", "name", "agent_id", "AGENT") if key in entry]
    return (
        entry
        if own and entry[own[0]] != name
        else {"id": name, **{k: entry[k] for k in entry if k not in own}}
    )


def positions(plan: Plan) -> Positions:
    """Say where a plan's values were written; empty for a plan that was not read from text."""
    return plan._positions
