"""A server of the files of a folder: python served_files.py FOLDER prints its port.

It is a process of its own: GDAL may ask it while it holds Python's lock.
"""

import functools
import http.server
import re
import sys
import time
from pathlib import Path
from typing import Any


class Handler(http.server.SimpleHTTPRequestHandler):
    """Sends files; those below /ranges/ also in part, those below /hangs/ never."""

    def log_message(self, *_: Any) -> None:
        pass

    def translate_path(self, path: str) -> str:
        return super().translate_path(re.sub("^/(ranges|whole|hangs)", "", path))

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.path.startswith("/hangs/"):
            time.sleep(600)
            return
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        ranges = self.path.startswith("/ranges/")
        first, last = 0, len(content) - 1
        if ranges and asked:
            first, last = int(asked[1]), min(int(asked[2] or last), last)
        self.send_response(206 if ranges and asked else 200)
        if ranges:
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[first : last + 1])


if __name__ == "__main__":
    handler = functools.partial(Handler, directory=sys.argv[1])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        sys.stdout.write(f"{server.server_port}\n")
        sys.stdout.flush()
        server.serve_forever()
