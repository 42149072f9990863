"""The one HTTP client of the engines that call model APIs: thin, because fan-out is what it is for.

One session for each event loop and engine, whose pool is as large as what is under way (SCHEDULING, Limits 7) and
kept alive. Whatever the network does becomes an `EngineError`; what a server says is for `engines.wire`.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec import Struct

from parallelai.engines.loopback import is_loopback
from parallelai.errors import EngineError, Internal, Invalid, Rejected, TimedOut, Transient, Unavailable

if TYPE_CHECKING:
    import aiohttp

MAX_BYTES = 32 * 1024 * 1024
"""Longer answers are refused: no model writes that much, and it has to fit into memory a hundred times."""
MAX_ERROR_BYTES = 64 * 1024
"""What is read of an answer that is an error."""
CONNECT_SECONDS = 30.0
KEEP_SECONDS = 60.0
_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

Take = Callable[[bytes], Awaitable[None]]


class Answer(Struct, frozen=True):
    """What a server said. `headers` are read without regard to case; `body` is empty where it was streamed."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_ok(self) -> bool:
        return 200 <= self.status < 300


def shown_url(url: str) -> str:
    """Give an address as it may be shown: without a user, a password or a query; whatever somebody wrote as one."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(what is no address)"
    path = parts.path if parts.netloc else parts.path.rpartition("@")[2]
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"


def proxy_of(url: str) -> str | None:
    """Give the proxy that the environment names for an address (`https_proxy`, `all_proxy`, `no_proxy`)."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def ssl_context() -> ssl.SSLContext:
    """Trust what the environment says, else the system's certificates. Raises `Unavailable`."""
    for name in _CA_VARIABLES:
        bundle = os.environ.get(name)
        if bundle:
            try:
                is_folder = os.path.isdir(bundle)  # noqa: PTH112  # a string of the environment, as it is
                return ssl.create_default_context(
                    cafile=None if is_folder else bundle, capath=bundle if is_folder else None
                )
            except (OSError, ValueError) as error:
                said = f"`{name}` names a bundle of certificates that cannot be read: {error}"
                raise Unavailable(said, next=f"correct or unset `{name}`") from None
    return ssl.create_default_context()


class _Held(Struct, frozen=True):
    """A session, the generator that keeps it open, and the proxy that the environment named at its start."""

    keeper: AsyncGenerator[aiohttp.ClientSession]
    session: aiohttp.ClientSession
    proxy: str | None


class HttpClient:
    """Calls one server. `uses_proxies` is false where nothing may leave this machine."""

    def __init__(self, base_url: str, *, uses_proxies: bool = True) -> None:
        self._base_url = base_url
        self._uses_proxies = uses_proxies
        self._held: dict[asyncio.AbstractEventLoop, _Held] = {}
        # Nobody need close a client: what it holds goes when it goes, in the loop that it belongs to.
        weakref.finalize(self, self._held.clear).atexit = False

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        timeout_seconds: float,
        take: Take | None = None,
    ) -> Answer:
        """Send `body` and read the whole answer; with `take`, a good one that is a stream is given to it in pieces.

        Raises `EngineError`: `TimedOut` after `timeout_seconds`, `Transient` where the network failed,
        `Unavailable` where nothing listens on this machine, `Rejected` for what will not work again either.
        """
        return await self._call("POST", url, body, headers, timeout_seconds, take)

    async def get(self, url: str, headers: Mapping[str, str], *, timeout_seconds: float) -> Answer:
        """Read a page. Raises as `post` does."""
        return await self._call("GET", url, None, headers, timeout_seconds, None)

    async def aclose(self) -> None:
        """Close the connections of this event loop; another loop's are closed when that one ends."""
        held = self._held.pop(asyncio.get_running_loop(), None)
        if held is not None:
            await held.keeper.aclose()

    async def _call(
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout_seconds: float,
        take: Take | None,
    ) -> Answer:
        held = await self._hold()
        try:
            async with asyncio.timeout(timeout_seconds) as clock:
                return await _exchange(held, method, url, body, headers, take)
        except EngineError:
            raise
        except TimeoutError as error:
            if clock.expired():
                said = f"{shown_url(url)} was not done after {timeout_seconds:g} s"
                raise TimedOut(said, next="raise `timeout`, or make the task smaller") from None
            raise translated(error, url) from None
        except Exception as error:  # what a client library may raise is open-ended; all of it is mapped
            raise translated(error, url) from None

    async def _hold(self) -> _Held:
        """Give the session of this event loop."""
        loop = asyncio.get_running_loop()
        held = self._held.get(loop)
        if held is None:
            for other in [one for one in self._held if one.is_closed()]:
                del self._held[other]  # it closed its session itself, see `_session`
            proxy = proxy_of(self._base_url) if self._uses_proxies else None
            keeper = _session(self._base_url.startswith("https:") or bool(proxy))
            held = self._held[loop] = _Held(keeper, await anext(keeper), proxy)
        return held


async def _session(is_secure: bool) -> AsyncGenerator[aiohttp.ClientSession]:
    """Keep a session open, until it is closed or the event loop ends.

    A loop closes the generators that it ran when it ends (`loop.shutdown_asyncgens`, which `asyncio.run` calls),
    so that an engine that nobody closes leaves nothing behind.
    """
    import aiohttp

    connector = aiohttp.TCPConnector(
        limit=0, keepalive_timeout=KEEP_SECONDS, ssl=ssl_context() if is_secure else True
    )
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        skip_auto_headers=("User-Agent", "Content-Type"),
    )
    try:
        yield session
    finally:
        await session.close()


async def _exchange(
    held: _Held, method: str, url: str, body: bytes | None, headers: Mapping[str, str], take: Take | None
) -> Answer:
    async with held.session.request(
        method, url, data=body, headers=headers, allow_redirects=False, proxy=held.proxy
    ) as response:
        is_good = 200 <= response.status < 300
        if take is not None and is_good and "json" not in response.content_type:
            await _stream(response, take)
            return Answer(response.status, response.headers, b"")
        read = await _read(response, MAX_BYTES if is_good else MAX_ERROR_BYTES, is_good)
        return Answer(response.status, response.headers, read)


async def _read(response: aiohttp.ClientResponse, limit: int, is_good: bool) -> bytes:
    """Read at most `limit` bytes; more is an error where it matters, and cut where it does not."""
    chunks: list[bytes] = []
    size = 0
    content = response.content
    while True:
        chunk = await content.readany()
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            response.close()
            if is_good:
                raise Invalid(f"the answer is longer than {limit // 1024 // 1024} MiB")
            return b"".join(chunks)[:limit]


async def _stream(response: aiohttp.ClientResponse, take: Take) -> None:
    size = 0
    content = response.content
    while chunk := await content.readany():
        size += len(chunk)
        if size > MAX_BYTES:
            response.close()
            raise Invalid(f"the answer is longer than {MAX_BYTES // 1024 // 1024} MiB")
        await take(chunk)


def nothing_listens(url: str) -> Unavailable:
    """Make the error of a server of this machine that does not run."""
    said = f"nothing listens at {shown_url(url)}"
    return Unavailable(said, next="start the server, or correct `base_url`")


def translated(error: Exception, url: str) -> EngineError:
    """Give the engine's error that a failure of the network stands for."""
    import aiohttp

    where = shown_url(url)
    said = " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return Rejected(
            f"the certificate of {where} is not accepted: {said}",
            next="name the authority's bundle in `SSL_CERT_FILE`",
        )
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return Rejected(f"the proxy refused: {error.status} {error.message}", next="look at `https_proxy`")
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return Transient(f"the proxy cannot be reached: {said}", next="look at `https_proxy`")
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, ConnectionRefusedError) and is_loopback(url):
            return nothing_listens(url)
        return Transient(f"{where} cannot be reached: {said}")
    if isinstance(error, aiohttp.InvalidURL | aiohttp.InvalidUrlClientError):
        return Rejected(f"{where} is not an address", next="correct `base_url`")
    if isinstance(error, aiohttp.ClientResponseError):
        return Transient(f"{where} did not answer in HTTP: {error.message}"[:300])
    if isinstance(error, aiohttp.ClientError | OSError | EOFError):  # a time-out is an `OSError` too
        return Transient(f"the connection to {where} broke: {said}")
    return Internal(f"the call of {where} failed: {type(error).__name__}: {said}")
