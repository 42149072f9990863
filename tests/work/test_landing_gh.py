"""Pull requests by the real `gh`, against a scripted GitHub on this machine."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from landing_support import Field
from repositories import Repository as Checkout

from parallelai.work.landing.records import Plan

pytestmark = pytest.mark.skipif(shutil.which("gh") is None, reason="needs gh")
REPOSITORY = {
    "id": "R1",
    "name": "shop",
    "owner": {"login": "uma", "id": "U1"},
    "viewerPermission": "WRITE",
    "defaultBranchRef": {"name": "main"},
    "parent": None,
}
PR = Plan("main", via="pr")
TOKEN = "gho_" + "s3cr3t" * 6


class GitHub(ThreadingHTTPServer):
    """Answers what `gh` asks; `opened` are the pull requests, as they were asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.opened: list[dict[str, Any]] = []
        self.refusal: tuple[int, dict[str, Any]] | None = None

    def reply(self, query: str, variables: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if "createPullRequest" in query:
            if self.refusal is not None:
                return self.refusal
            self.opened.append(variables["input"])
            return 200, {"data": {"createPullRequest": {"pullRequest": {"id": "P7", "url": address(7)}}}}
        if "pullRequests(" in query:
            pulls = map(pull, self.opened)
            nodes = [one for one in pulls if one["headRefName"] == head_of(variables)]
            listed = {"nodes": nodes, "totalCount": len(nodes), "pageInfo": {"hasNextPage": False}}
            return 200, {"data": {"repository": {**REPOSITORY, "pullRequests": listed}}}
        owner = {"login": variables.get("owner", "uma"), "id": "U1"}
        return 200, {"data": {"repository": {**REPOSITORY, "owner": owner}, "viewer": {"login": "uma"}}}


class Request(BaseHTTPRequestHandler):
    """`gh` speaks plain HTTP to the host `github.localhost`, here through a proxy: this one."""

    server: GitHub

    def log_message(self, *words: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status, told = self.server.reply(body["query"], body.get("variables") or {})
        data = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def address(number: int) -> str:
    return f"http://github.localhost/uma/shop/pull/{number}"


def head_of(variables: dict[str, Any]) -> str | None:
    return variables.get("headRefName") or variables.get("headBranch")


def pull(asked: dict[str, Any]) -> dict[str, Any]:
    names = {key: asked[key] for key in ("headRefName", "baseRefName")}
    about = {"url": address(7), "state": "OPEN", "number": 7, "id": "P7", "isCrossRepository": False}
    owner, _, branch = asked["headRefName"].rpartition(":")
    names["headRefName"], about["isCrossRepository"] = branch, bool(owner)
    return {**names, **about, "headRepositoryOwner": {"login": owner or "uma", "id": "U1"}}


@pytest.fixture
def github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    with GitHub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        for name in (
            "GITHUB_TOKEN",
            "GH_ENTERPRISE_TOKEN",
            "GITHUB_ENTERPRISE_TOKEN",
            "no_proxy",
            "NO_PROXY",
            "http_proxy",
        ):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("GH_HOST", "github.localhost")
        monkeypatch.setenv("GH_TOKEN", TOKEN)
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("GH_CONFIG_DIR", str(tmp_path / "gh"))
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def field(tmp_path: Path) -> Field:
    made = Field(tmp_path / "repo", {"a.txt": "1\n"})
    made.checkout.git("clone", "-q", "--bare", str(made.root), str(tmp_path / "remote.git"))
    made.checkout.git("remote", "add", "origin", "http://github.localhost/uma/shop.git")
    made.checkout.git("config", "remote.origin.pushurl", str(tmp_path / "remote.git"))
    return made


def test_a_fork_proposes_to_what_it_was_forked_from(field: Field, github: GitHub) -> None:
    field.checkout.git("remote", "add", "upstream", "http://github.localhost/shops/shop.git")
    one = field.branch("one", {"x": "1"})
    assert field.land([one], plan=PR)["one"].pull_request == address(7)
    (asked,) = github.opened
    assert (asked["baseRefName"], asked["headRefName"]) == ("main", "uma:one")
    assert field.land([one], plan=PR)["one"].pull_request == address(7)
    assert len(github.opened) == 1


def test_gh_opens_a_pull_request_once_and_says_why_it_cannot(field: Field, github: GitHub) -> None:
    remote = Checkout(field.root.parent / "remote.git")
    # A branch whose name is a number is not the pull request of that number.
    seven = field.branch("7", {"x": "1"}, intent='Does "seven"\n\n`In` detail', trailers={"Run": "r-1"})

    assert field.land([seven], plan=PR)["7"].pull_request == address(7)
    (asked,) = github.opened
    assert (asked["baseRefName"], asked["headRefName"], asked["title"]) == ("main", "7", 'Does "seven"')
    assert asked["body"].startswith("`In` detail\n\nRun: r-1\n")
    assert remote.git("rev-parse", "refs/heads/7").strip() == seven.commit
    assert field.tip() == remote.git("rev-parse", "refs/heads/main").strip() == field.base

    assert field.land([seven], plan=PR)["7"].pull_request == address(7)
    assert len(github.opened) == 1

    said = f"No commits between main and eight, {TOKEN}"
    github.refusal = 200, {"data": {"createPullRequest": None}, "errors": [{"message": said}]}
    eight = field.branch("eight", {"y": "1"})
    error = field.land([eight], plan=PR)["eight"].error
    assert error is not None
    assert "`eight`, which is pushed: " in error.said
    assert "No commits between main and eight, ••••" in error.said
    assert remote.git("rev-parse", "refs/heads/eight").strip() == eight.commit

    github.refusal = 401, {"message": "Bad credentials"}
    error = field.land([eight], plan=PR)["eight"].error
    assert error is not None
    assert "HTTP 401: Bad credentials" in error.said
    assert error.next == "`gh auth status` tells whether you are logged in; then land it again"

    field.checkout.git("branch", "-f", "7", field.base)
    remote.git("update-ref", "refs/heads/7", eight.commit)  # somebody else's work: never pushed over
    error = field.land([seven], plan=PR)["7"].error
    assert error is not None
    assert "`7` was not pushed: " in error.said
    assert remote.git("rev-parse", "refs/heads/7").strip() == eight.commit
