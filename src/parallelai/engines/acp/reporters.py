"""How agents report their calls: gemini and qwen by their telemetry, into a file, opencode by a plugin. Seen of the
versions that their presets pin."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from parallelai.engines.acp.report import FILE, SETTINGS, Call, Reporter, Spent
from parallelai.records import Usage

_STOPS = {"content_filter": "refusal", "content-filter": "refusal", "length": "max_tokens"}
BROKE_OFF = "the answer of its model broke off"
OWN_WAIT_SECONDS = 2.6
"""What an agent waits at most before its second try where the server named no time; longer waits are the server's."""


def gemini_variables(folder: Path) -> Mapping[str, str]:
    """Have gemini write its telemetry into a file: without prompts and traces, and to nobody else."""
    return {
        "GEMINI_TELEMETRY_ENABLED": "true",
        "GEMINI_TELEMETRY_TARGET": "local",
        "GEMINI_TELEMETRY_TRACES_ENABLED": "false",
        "GEMINI_TELEMETRY_LOG_PROMPTS": "false",
        "GEMINI_TELEMETRY_OUTFILE": str(folder / FILE),
    }


def read_gemini(record: Mapping[str, Any]) -> Call | None:
    """Read how an answer ended. It ends a turn with `end_turn` also where the model refused, or was cut."""
    told = record["attributes"]
    if told.get("event.name") != "gemini_cli.api_response" or told.get("role") != "main":
        return None
    reasons = told.get("finish_reasons")
    return Call(
        told["session.id"], told["event.timestamp"], _stop(reasons if isinstance(reasons, list) else [])
    )


def qwen_variables(folder: Path) -> Mapping[str, str]:
    """Have qwen write its telemetry into a file, without prompts: its spans at once, its events within a second."""
    return {
        "QWEN_TELEMETRY_ENABLED": "true",
        "QWEN_TELEMETRY_TARGET": "local",
        "QWEN_TELEMETRY_LOG_PROMPTS": "false",
        "QWEN_TELEMETRY_OUTFILE": str(folder / FILE),
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }


def read_qwen(record: Mapping[str, Any]) -> Call | None:
    """Read how an answer ended, or why a call is made again: seven times after a 429 or 5xx, whatever is set."""
    told = record["attributes"]
    if record.get("name") == "qwen-code.llm_request":
        return _qwen_span(told, _moment(record["startTime"]))
    event, wait = told["event.name"], None
    if event == "qwen-code.api_retry":
        words, wait = told["error_message"], _asked(told["retry_delay_ms"] / 1000)
    elif event == "qwen-code.api_error":
        return _qwen_error(told)
    elif event == "qwen-code.chat.content_retry" and told["error_type"] == "NO_FINISH_REASON":
        words = BROKE_OFF
    else:
        return None
    return Call(told["session.id"], told["event.timestamp"], trouble=str(words), wait_seconds=wait)


def _qwen_error(told: Mapping[str, Any]) -> Call | None:
    """Read an error of a call. Where it has a status, 0.24 says soon for how long it waits; 0.15 says no more."""
    status = told.get("status_code")
    if told.get("error_type") == "APIUserAbortError" or (status is not None and not _is_made_again(status)):
        return None
    words = str(told["error_message"])
    return Call(told["session.id"], told["event.timestamp"], trouble=words, is_brief=status is not None)


def _is_made_again(status: int) -> bool:
    return status >= 500 or status == 429


def _qwen_span(told: Mapping[str, Any], at: str) -> Call | None:
    """Read what is known first of a call: its status. The words, and for how long it waits, are told by an event."""
    if told.get("success") is True:
        is_own = told.get("llm_request.context") == "interaction"
        return Call(told["session.id"], at, _stop([told.get("finish_reason")])) if is_own else None
    status = told.get("error_status_code", 500)
    if "error_type" not in told or not _is_made_again(status):  # called off, or not made again
        return None
    return Call(told["session.id"], at, trouble=f"{status} {told['error_type']}", is_brief=True)


_PLUGIN = """\
import { appendFileSync } from "node:fs"

const parents = new Map()
const rootOf = (id) => (parents.has(id) ? rootOf(parents.get(id)) : id)
const withTools = new Set()
const words = (error) => `${error?.data?.statusCode ?? ""} ${error?.data?.message ?? error?.name}`

export const Report = async () => ({
  event: async ({ event: { type, properties } }) => {
    const { sessionID, info, part, status, error } = properties ?? {}
    if (type === "session.created" && info?.parentID) parents.set(info.id, info.parentID)
    if (type === "message.part.updated" && part?.type === "tool") withTools.add(part.messageID)
    const now = Date.now()
    const at = new Date(now).toISOString()
    const write = (text) => appendFileSync(process.env.PARALLELAI_REPORT, text + "\\n")
    const tell = (call) => write(JSON.stringify({ at, ...call }, null, 2))
    const isAnswer = type === "message.updated" && info?.role === "assistant" && info.finish
    if (isAnswer) tell({ session: rootOf(info.sessionID), message: info.id, tokens: info.tokens })
    if (type === "session.status" && status?.type === "retry")
      tell({ session: rootOf(sessionID), retry: status.message, wait: (status.next - now) / 1000 })
    else if (isAnswer && !info.summary)
      tell({ session: info.sessionID, finish: info.finish, tools: withTools.has(info.id) })
    else if (type === "session.error" && sessionID) tell({ session: sessionID, failed: words(error) })
  },
})
"""


def opencode_variables(folder: Path) -> Mapping[str, str]:
    """Name the plugin, which opencode's settings name by this variable, and the file that it writes."""
    return {
        "PARALLELAI_PLUGIN": (folder / SETTINGS / "report.js").as_uri(),
        "PARALLELAI_REPORT": str(folder / FILE),
    }


def read_opencode(record: Mapping[str, Any]) -> Call | None:
    """Read how an answer ended, or why a call is made again: five times after an error, else without an end.

    What fails for good ends a turn of 1.17 with `end_turn`; 1.18 answers with the error.
    """
    session, at = record["session"], record["at"]
    if "failed" in record:
        return Call(session, at, failure=str(record["failed"]).strip())
    if "retry" in record:
        return Call(session, at, trouble=str(record["retry"]), wait_seconds=_asked(record["wait"]))
    if record["finish"] in {"unknown", "other"} and not record["tools"]:
        return Call(session, at, trouble=BROKE_OFF)
    return Call(session, at, _stop([record["finish"]]))


def spent_opencode(record: Mapping[str, Any]) -> Spent:
    """Read what one answer took, of its subagents' and of its summaries, too. It is told twice."""
    told, cache = record["tokens"], record["tokens"]["cache"]
    read = cache["read"]
    counts = (told["input"] + read + cache["write"], read, told["output"], told["reasoning"])
    if not all(isinstance(count, int) and 0 <= count < 1 << 50 for count in counts):
        raise ValueError("no tokens")
    return Spent(record["session"], record["at"], str(record["message"]), Usage(*counts))


def _stop(reasons: list[Any]) -> str:
    """The stop reason of the protocol for how a model's answer ended."""
    known = [_STOPS[reason] for reason in reasons if isinstance(reason, str) and reason in _STOPS]
    return "refusal" if "refusal" in known else known[0] if known else "end_turn"


def _asked(seconds: float) -> float | None:
    return seconds if seconds > OWN_WAIT_SECONDS else None


def _moment(time: list[int]) -> str:
    """Seconds and nanoseconds since 1970 as the time that events have."""
    moment = datetime.fromtimestamp(time[0] + time[1] / 1e9, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


GEMINI = Reporter(gemini_variables, read_gemini, ('"gemini_cli.api_response"',), "GEMINI_TELEMETRY_")
QWEN = Reporter(
    qwen_variables,
    read_qwen,
    (
        '"qwen-code.llm_request"',
        '"qwen-code.api_retry"',
        '"qwen-code.api_error"',
        '"qwen-code.chat.content_retry"',
    ),
    "QWEN_TELEMETRY_",
)
OPENCODE = Reporter(
    opencode_variables,
    read_opencode,
    ('"retry"', '"finish"', '"failed"'),
    files={"report.js": _PLUGIN},
    spent=spent_opencode,
)
