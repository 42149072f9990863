"""Ready-made commands: what their readers make of what the real programs printed, and how they are called.

The lines are what aider 0.86.2, pi 0.74.2 and mini-swe-agent 2.4.6 printed to the scripted model server.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from cancelling import cancelled_in
from hypothesis import given
from hypothesis import strategies as st

from parallelai.engines.commands.command import CommandEngine
from parallelai.engines.commands.parts import Reader, Said, Wanted
from parallelai.engines.commands.ready import TEMPLATES
from parallelai.engines.conformance import CollectingPort
from parallelai.engines.context import EngineContext
from parallelai.engines.protocol import FilePart, FinalEvent, Request, UsageEvent, Workspace
from parallelai.errors import (
    ConfigError,
    EngineError,
    Invalid,
    RateLimited,
    Refused,
    Rejected,
    Transient,
    Unavailable,
)
from parallelai.plan.model import EngineEntry
from parallelai.records import Reply, Usage

AIDER = """Analytics have been permanently disabled.

Aider v0.86.2
Model: openai/m1 with whole edit format
Git repo: .git with 0 files
Repo-map: disabled

a.txt

```
hi
```


Tokens: 1.2k sent, 40 received. Cost: $0.0031 message, $0.0031 session.
Applied edit to a.txt
"""
AIDER_KEY = """Aider v0.86.2
Repo-map: disabled

litellm.AuthenticationError: AuthenticationError: OpenAIException - invalid
x-api-key
The API provider is not able to authenticate you. Check your API key.
"""
AIDER_LIMIT = """Repo-map: disabled

litellm.RateLimitError: RateLimitError: OpenAIException - Rate limit reached for
requests
The API provider has rate limited you. Try again later or check your quotas.
Retrying in 0.2 seconds...
"""
AIDER_FULL = """Repo-map: disabled
{answer}


Model openai/m1 has hit a token limit!
Token counts below are approximate.

Input tokens: ~453 of 0 -- possibly exhausted context window!
Output tokens: ~3 of 0 -- possibly exceeded output limit!
Total tokens: ~456 of 0 -- possibly exhausted context window!

To reduce output tokens:
- Ask for smaller changes in each request.
"""


def pi_message(stop: str, text: str = "", error: str | None = None, usd: float = 0) -> str:
    usage = {"input": 900, "output": 40, "cacheRead": 100, "cacheWrite": 0, "cost": {"total": usd}}
    message = {
        "role": "assistant",
        "content": [{"type": "text", "text": text}],
        "usage": usage,
        "stopReason": stop,
    }
    if error is not None:
        message["errorMessage"] = error
    return json.dumps({"type": "message_end", "message": message})


PI = "\n".join(
    [
        '{"type":"session","id":"x"}',
        '{"type":"agent_start"}',
        '{"type":"message_update","assistantMessageEvent":{"type":"text_delta","contentIndex":0,"delta":"I write"}}',
        pi_message("toolUse", "I write"),
        pi_message("stop", "done", usd=0.5),
        '{"type":"agent_end","messages":[]}',
    ]
)


def read(use: str, text: str, folder: Path) -> tuple[Said, str]:
    reader: Reader = TEMPLATES[use].reader()
    shown = "".join(reader.take(line) for line in text.splitlines())
    return reader.finish(text, folder), shown


def test_aider_s_answer_and_tokens(tmp_path: Path) -> None:
    said, _ = read("aider", AIDER, tmp_path)
    assert said.text == "a.txt\n\n```\nhi\n```\n\n\nApplied edit to a.txt\n"
    assert said.usage == Usage(1200, None, 40, None, 0.0031, "client")


@pytest.mark.parametrize(
    ("use", "text", "kind", "words"),
    [
        ("aider", AIDER_KEY, Rejected, "invalid x-api-key"),
        ("aider", AIDER_LIMIT, RateLimited, "Rate limit reached"),
        ("aider", "Aider v0.86.2\n", EngineError, "Aider v0.86.2"),
        ("aider", AIDER_FULL.format(answer="\nhalf of an"), Invalid, "limit of tokens"),
        ("aider", AIDER_FULL.format(answer=""), Rejected, "token limit"),
        ("pi", "", EngineError, "last word"),
        ("pi", pi_message("stop", "cut"), EngineError, "last word"),
        ("pi", pi_message("error", error="401 invalid x-api-key"), Rejected, "401 invalid"),
        ("pi", pi_message("error", error="500 Internal server error"), Transient, "500"),
        (
            "pi",
            pi_message("error", error="Provider finish_reason: content_filter"),
            Refused,
            "content_filter",
        ),
        ("pi", pi_message("error", error="Stream ended without finish_reason"), Transient, "Stream ended"),
        ("pi", pi_message("length", "x") + '\n{"type":"agent_end"}', Invalid, "limit of tokens"),
        ("pi", '{"type":"auto_retry_start","attempt":1,"errorMessage":"429 Rate limit"}', RateLimited, "429"),
        ("mini-swe-agent", "Traceback: no such config", EngineError, "no such config"),
    ],
)
def test_what_failed_is_no_success_whatever_the_exit_code(
    tmp_path: Path, use: str, text: str, kind: type[EngineError], words: str
) -> None:
    with pytest.raises(kind) as caught:
        read(use, text, tmp_path)
    assert words in caught.value.said


def test_a_later_success_of_aider_counts(tmp_path: Path) -> None:
    said, _ = read("aider", AIDER_KEY + AIDER.split("Repo-map: disabled")[1], tmp_path)
    assert "Applied edit" in said.text


def test_pi_s_last_message_and_the_sum_of_its_calls(tmp_path: Path) -> None:
    said, shown = read("pi", PI, tmp_path)
    assert (said.text, shown) == ("done", "I write")
    assert said.usage == Usage(2000, 200, 80, None, None, "unknown")


@pytest.mark.parametrize("cost", ["1.2.3", ".", "9" * 400])
def test_a_cost_of_aider_that_is_no_price_is_unknown(tmp_path: Path, cost: str) -> None:
    said, _ = read("aider", AIDER.replace("$0.0031", f"${cost}"), tmp_path)
    assert said.usage == Usage(1200, None, 40)


@pytest.mark.parametrize("usd", [1e999, -1, True, "much"])
def test_a_cost_of_pi_that_is_no_price_is_unknown(tmp_path: Path, usd: Any) -> None:
    said, _ = read("pi", pi_message("stop", "x", usd=usd) + '\n{"type":"agent_end"}', tmp_path)
    assert said.usage == Usage(1000, 100, 40)


def trajectory(status: str, content: str = "", submission: str = "") -> str:
    calls = [
        {"role": "assistant", "extra": {"response": {"usage": {"prompt_tokens": 9, "completion_tokens": 4}}}}
    ] * 2
    last = {"role": "exit", "content": content, "extra": {"exit_status": status, "submission": submission}}
    return json.dumps({"info": {"model_stats": {"instance_cost": 0.0}}, "messages": [*calls, last]})


def test_mini_s_trajectory(tmp_path: Path) -> None:
    (tmp_path / "traj.json").write_text(trajectory("Submitted", submission="all good\n"))
    said, _ = read("mini-swe-agent", "", tmp_path)
    assert (said.text, said.usage) == ("all good\n", Usage(18, None, 8))
    words = "litellm.AuthenticationError: invalid x-api-key"
    (tmp_path / "traj.json").write_text(trajectory("AuthenticationError", words))
    with pytest.raises(Rejected, match="invalid x-api-key"):
        read("mini-swe-agent", "", tmp_path)
    (tmp_path / "traj.json").write_text(trajectory("LimitsExceeded"))
    with pytest.raises(Invalid, match="LimitsExceeded"):
        read("mini-swe-agent", "", tmp_path)
    (tmp_path / "traj.json").write_text('{"messages": [')
    with pytest.raises(EngineError):
        read("mini-swe-agent", "", tmp_path)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (
            "Tool call error:\n\n<error>\nNo tool calls found\nin the response.\n</error>\n\nHere",
            "No tool calls found in",
        ),
        ("Your previous response reached the output token limit (finish_reason=length)", "token limit"),
    ],
)
def test_a_model_that_calls_no_tool_gives_mini_nothing_to_go_by(
    tmp_path: Path, told: str, words: str
) -> None:
    data = json.loads(trajectory("RepeatedFormatError", "RepeatedFormatError"))
    data["messages"].insert(-1, {"role": "user", "content": told, "extra": {"interrupt_type": "FormatError"}})
    (tmp_path / "traj.json").write_text(json.dumps(data))
    with pytest.raises(Invalid, match=words) as caught:
        read("mini-swe-agent", "", tmp_path)
    assert "model" in (caught.value.next or "")


@given(st.integers(0, len(PI) - 1), st.text(max_size=20))
def test_a_cut_or_garbled_stream_of_pi_is_no_success(position: int, dirt: str) -> None:
    if "\n" in dirt:
        return
    try:
        said, _ = read("pi", PI[:position] + dirt, Path())
    except EngineError:
        return
    assert said.text == "done"  # only what stands after its last word was lost


@given(st.integers(0, len(AIDER) - 1), st.text(max_size=20))
def test_a_cut_or_garbled_answer_of_aider_is_no_success(position: int, dirt: str) -> None:
    try:
        said, _ = read("aider", AIDER[:position] + dirt, Path())
    except EngineError:
        return
    assert "```\nhi\n```" in said.text  # only what stands after the count of its tokens was lost


TRAJECTORY = trajectory("Submitted", submission="all good\n")


@given(st.integers(0, len(TRAJECTORY) - 1), st.text(max_size=20))
def test_a_cut_or_garbled_trajectory_of_mini_is_no_success(position: int, dirt: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "traj.json").write_text(TRAJECTORY[:position] + dirt)
        try:
            said, _ = read("mini-swe-agent", "", Path(folder))
        except EngineError:
            return
    assert said.text == "all good\n"


# --- How they are called

PROGRAM = """#!{python}
import json, os, sys
from pathlib import Path
files = {{a: Path(a).read_text() for a in sys.argv if a.startswith("/") and os.path.isfile(a) and a != sys.argv[0]}}
folder = os.environ.get("PI_CODING_AGENT_DIR")
models = json.loads(Path(folder, "models.json").read_text()) if folder else None
settings = json.loads(Path(folder, "settings.json").read_text()) if folder else None
Path("called.json").write_text(json.dumps(dict(argv=sys.argv[1:], files=list(files.values()), env=dict(os.environ),
    models=models, settings=settings, stdin=sys.stdin.read())))
print({output!r})
"""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bin").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("K", "sk-1")
    monkeypatch.setenv("OTHER_SECRET", "s")
    return tmp_path


async def call(
    bench: Path, use: str, output: str, port: CollectingPort, *, trusted: bool = False, **keys: Any
) -> tuple[Reply, dict[str, Any]]:
    program = bench / "bin" / TEMPLATES[use].command[0]
    program.write_text(PROGRAM.format(python=sys.executable, output=output))
    program.chmod(0o755)
    workspace = Workspace(edits=keys.pop("edits", True), temporary=str(bench), sandbox="none")
    request = Request(
        run="r",
        task="t",
        attempt=1,
        root=str(bench / "work"),
        prompt="@do é 'x'\n",
        files=(FilePart("src/a.py"),),
        output="change",
        workspace=workspace,
    )
    entry = EngineEntry(
        use=use, **{"model": "m1", "base_url": "http://models.example/v1", "api_key_env": "K", **keys}
    )
    engine = CommandEngine(use, entry, EngineContext(bench, trusted=trusted))
    assert (await engine.detect()).is_available
    reply = await engine.perform(replace(request), port)
    return reply, json.loads((bench / "work" / "called.json").read_text())


async def test_aider_gets_its_prompt_in_a_file_and_names_the_files(bench: Path) -> None:
    port = CollectingPort()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        reply, called = await call(bench, "aider", AIDER, port, base_url=address)
    prompt, settings = called["files"]
    assert prompt == "@do é 'x'\n"
    assert yaml.safe_load(settings) == [{"name": "aider/extra_params", "extra_params": {"max_retries": 0}}]
    assert called["stdin"] == ""
    assert called["argv"][-4:] == ["--model", "m1", "--file", "./src/a.py"]
    assert (called["env"]["OPENAI_API_KEY"], called["env"]["OPENAI_API_BASE"]) == ("sk-1", address)
    assert "OTHER_SECRET" not in called["env"]
    assert port.events[-2:] == [UsageEvent(reply.usage), FinalEvent(ok=True)]
    assert reply.usage == Usage(1200, None, 40, None, 0.0, "free"), "a server of this machine costs nothing"
    _, called = await call(bench, "aider", AIDER, port, edits=False)
    assert called["argv"][-4:] == ["--chat-mode", "ask", "--read", "./src/a.py"]


@pytest.mark.parametrize(
    ("use", "output", "usage"),
    [
        ("aider", f"{AIDER}\n{AIDER_KEY}", Usage(1200, None, 40, None, 0.0031, "client")),
        (
            "pi",
            "\n".join(
                [
                    '{"type":"agent_start"}',
                    pi_message("toolUse", usd=0.25),
                    pi_message("error", error="401 no"),
                ]
            ),
            Usage(1000, 100, 40, None, 0.25, "client"),
        ),
    ],
)
async def test_what_a_turn_took_that_failed_is_counted(
    bench: Path, use: str, output: str, usage: Usage
) -> None:
    port = CollectingPort()
    with pytest.raises(Rejected):
        await call(bench, use, output, port)
    assert [event.usage for event in port.events if isinstance(event, UsageEvent)] == [usage]


def test_what_a_run_of_mini_took_that_failed_is_known(tmp_path: Path) -> None:
    reader = TEMPLATES["mini-swe-agent"].reader()
    assert reader.usage(tmp_path) is None
    (tmp_path / "traj.json").write_text(trajectory("LimitsExceeded"))
    assert reader.usage(tmp_path) == Usage(18, None, 8)
    (tmp_path / "traj.json").write_text('{"messages": [')
    assert reader.usage(tmp_path) is None


async def test_a_server_that_is_not_there_is_said_before_anything_runs(bench: Path) -> None:
    """Some of these programs would ask it again for ever."""
    with pytest.raises(Unavailable, match="nothing listens at") as caught:
        await call(bench, "aider", AIDER, CollectingPort(), base_url="http://127.0.0.1:1/v1")
    assert "base_url" in (caught.value.next or "")
    assert not (bench / "work" / "called.json").exists()


async def test_a_turn_that_is_cancelled_as_it_begins_leaves_no_folder(
    bench: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = call(bench, "pi", PI, CollectingPort())
    await cancelled_in("parallelai.engines.commands.command.refuse_closed", turn, monkeypatch)
    assert list(temporary.iterdir()) == []


async def test_aider_leaves_git_alone(bench: Path) -> None:
    """It writes a name into the repository where git knows none, and fails where it cannot."""
    _, called = await call(bench, "aider", AIDER, CollectingPort())
    asked = ["git", "config", "--get", "user.name"]
    env = {**called["env"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    assert subprocess.run(asked, env=env, cwd=bench, capture_output=True).stdout == b"aider\n"
    assert {"--no-auto-commits", "--no-dirty-commits"} <= set(called["argv"])


async def test_aider_s_own_login_keeps_the_user_s_settings_of_models(bench: Path) -> None:
    _, called = await call(bench, "aider", AIDER, CollectingPort(), base_url=None)
    assert "--model-settings-file" not in called["argv"]


async def test_pi_gets_its_prompt_on_stdin_and_a_server_of_one_s_own_in_its_own_folder(bench: Path) -> None:
    reply, called = await call(bench, "pi", PI, CollectingPort(), edits=False)
    assert reply.text == "done"
    assert called["stdin"] == "@do é 'x'\n"
    assert called["models"]["providers"]["given"]["baseUrl"] == "http://models.example/v1"
    assert called["settings"]["retry"]["provider"] == {"maxRetries": 0}
    assert called["env"]["PARALLELAI_GIVEN_KEY"] == "sk-1"
    assert called["argv"][-2:] == ["--tools", "read,grep,find,ls"]
    assert not Path(called["env"]["PI_CODING_AGENT_DIR"]).exists()


async def test_mini_gets_a_long_prompt_in_a_config(bench: Path) -> None:
    with pytest.raises(EngineError):  # this one leaves no trajectory
        await call(bench, "mini-swe-agent", "nothing", CollectingPort(), max_turns=7)
    called = json.loads((bench / "work" / "called.json").read_text())
    config = json.loads(called["files"][0])
    assert config["run"] == {"task": "@do é 'x'\n"}
    assert "mini.yaml" not in called["argv"], "a file of the project would be its config"
    assert config["agent"]["step_limit"] == 7
    assert config["model"]["model_kwargs"] == {"max_retries": 0}


@given(st.text())
def test_any_prompt_reaches_mini_as_it_is_by_yaml(prompt: str) -> None:
    written = TEMPLATES["mini-swe-agent"].message(Wanted(prompt, edits=True))
    assert yaml.safe_load(written)["run"]["task"] == prompt


@pytest.mark.parametrize(
    ("use", "path"), [("aider", ".aider.conf.yml"), ("aider", ".env"), ("pi", ".pi/settings.json")]
)
async def test_what_a_project_would_have_it_run_takes_trust(bench: Path, use: str, path: str) -> None:
    (bench / "work" / path).parent.mkdir(exist_ok=True)
    (bench / "work" / path).write_text("x")
    with pytest.raises(Unavailable, match="not trusted") as caught:
        await call(bench, use, {"aider": AIDER, "pi": PI}[use], CollectingPort())
    assert "parallelai trust" in (caught.value.next or "")
    assert not (bench / "work" / "called.json").exists()
    await call(bench, use, {"aider": AIDER, "pi": PI}[use], CollectingPort(), trusted=True)


async def test_a_missing_key_or_program_is_said(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("K")
    with pytest.raises(Unavailable, match="`K` is not set"):
        await call(bench, "pi", PI, CollectingPort())
    monkeypatch.setenv("PATH", "/nowhere")
    for use, template in TEMPLATES.items():
        found = await CommandEngine(use, EngineEntry(use=use), EngineContext(bench)).detect()
        assert (found.is_available, found.how) == (False, template.how)
    with pytest.raises(ConfigError, match="max_turns"):
        CommandEngine("pi", EngineEntry(use="pi", max_turns=2), EngineContext(bench))
