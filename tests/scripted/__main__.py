"""Serve until interrupted; the address is the first line of stdout."""

import argparse
import contextlib
import signal
import threading

from scripted.server import serving


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--port", type=int, default=0)
    port = arguments.parse_args().port
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with serving(port=port) as server, contextlib.suppress(KeyboardInterrupt):
        print(server.url, flush=True)
        ended.wait()


if __name__ == "__main__":
    main()
