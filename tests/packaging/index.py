"""A package index on loopback (PEP 503), which remembers what it was asked for."""

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Index:
    """Serves the wheels of a folder. `pages` and `files`: what was asked for, found or not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pages: set[str] = set()
        self.files: set[str] = set()
        self.url = ""

    @classmethod
    @contextlib.contextmanager
    def serving(cls, folder: Path) -> Iterator["Index"]:
        """One on a free port, until the context ends."""
        index = cls(folder)

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = index._answer(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/zip")
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        index.url = f"http://127.0.0.1:{server.server_address[1]}/simple"
        try:
            yield index
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def _answer(self, path: str) -> bytes | None:
        if path.startswith("/files/"):
            name = path.removeprefix("/files/")
            self.files.add(name)
            wheel = self.folder / name
            return wheel.read_bytes() if wheel.is_file() else None
        name = path.removeprefix("/simple/").strip("/")
        self.pages.add(name)
        wheels = sorted(self.folder.glob(f"{name.replace('-', '_')}-*.whl"))
        links = [f'<a href="/files/{wheel.name}#sha256={digest(wheel)}">{wheel.name}</a>' for wheel in wheels]
        return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode() if links else None


def digest(wheel: Path) -> str:
    """The hash that a lock names a wheel by."""
    return hashlib.sha256(wheel.read_bytes()).hexdigest()
