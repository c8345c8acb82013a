"""A small S3 over HTTP, in a thread, with faults that can be switched on.

It keeps objects in memory, checks the checksums that come with them, and honours
``If-None-Match: *`` unless it is told not to. It checks no signatures.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape
from zlib import crc32

Fault = Literal["403", "404", "409", "500", "501", "503", "507", "cut", "lost"]
"""An answer; ``cut``: none, and nothing was done; ``lost``: none, but it was done."""

_CODES = {
    "403": "AccessDenied",
    "404": "NoSuchBucket",
    "409": "ConditionalRequestConflict",
    "412": "PreconditionFailed",
    "500": "InternalError",
    "501": "NotImplemented",
    "503": "SlowDown",
    "507": "QuotaExceeded",
}


class FakeS3:
    """The buckets, all in one. What is here may be looked at and changed between requests."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        """By key: bytes, and the headers that HEAD returns."""
        self.uploads: dict[str, tuple[str, dict[str, str], dict[int, bytes]]] = {}
        self.asked: list[str] = []
        """Every request: put, head, get, list, create, part, complete, abort."""
        self.headers: list[dict[str, str]] = []
        self.faults: list[tuple[str, Fault]] = []
        """The next request of that kind goes wrong so."""
        self.odds: Callable[[str], Fault | None] = lambda _: None
        """Asked where ``faults`` says nothing: by a seed, say."""
        self.ignores_condition = False
        self.page = 1000
        self.endpoint = ""
        self.lock = Lock()
        self.begun = 0

    def fault_for(self, kind: str) -> Fault | None:
        for at, (which, fault) in enumerate(self.faults):
            if which == kind:
                del self.faults[at]
                return fault
        return self.odds(kind)


@contextmanager
def fake_s3() -> Iterator[FakeS3]:
    """Serve a `FakeS3` on a port of its own."""
    fake = FakeS3()

    class Handler(_Handler):
        store = fake

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    fake.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    store: FakeS3
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_PUT(self) -> None:
        self._serve("part" if "partNumber" in self._query() else "put")

    def do_GET(self) -> None:
        self._serve("list" if "list-type" in self._query() else "get")

    def do_HEAD(self) -> None:
        self._serve("head")

    def do_POST(self) -> None:
        self._serve("complete" if "uploadId" in self._query() else "create")

    def do_DELETE(self) -> None:
        self._serve("abort")

    def _query(self) -> dict[str, str]:
        found = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        return {key: values[0] for key, values in found.items()}

    def _serve(self, kind: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        key = unquote(urlsplit(self.path).path).partition("/")[2].partition("/")[2]
        with self.store.lock:
            self.store.asked.append(kind)
            self.store.headers.append({k.lower(): v for k, v in self.headers.items()})
            fault = self.store.fault_for(kind)
            if fault in _CODES:
                status, headers, answer = _refusal(fault)
            elif fault == "cut":
                self.close_connection = True
                return
            else:
                status, headers, answer = getattr(self, f"_{kind}")(key, body)
        if fault == "lost":
            self.close_connection = True
            return
        self._send(status, headers, answer)

    def _send(self, status: int, headers: dict[str, str], answer: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    def _taken(self, key: str) -> bool:
        condition = self.headers.get("If-None-Match") == "*"
        return condition and not self.store.ignores_condition and key in self.store.objects

    def _put(self, key: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        digest = b64encode(hashlib.sha256(body).digest()).decode()
        md5 = b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        assert self.headers.get("x-amz-checksum-sha256", digest) == digest
        assert self.headers.get("Content-MD5", md5) == md5
        if self._taken(key):
            return _refusal("412")
        kept = self._metadata()
        if "x-amz-checksum-sha256" in self.headers:
            kept["x-amz-checksum-sha256"] = digest
        self.store.objects[key] = (body, kept)
        return 200, {"ETag": '"e"'}, b""

    def _metadata(self) -> dict[str, str]:
        return {k.lower(): v for k, v in self.headers.items() if k.lower().startswith("x-amz-meta")}

    def _head(self, key: str, _: bytes) -> tuple[int, dict[str, str], bytes]:
        if key not in self.store.objects:
            return 404, {}, b""
        body, kept = self.store.objects[key]
        return 200, kept | {"Content-Length": str(len(body))}, b""

    def _get(self, key: str, _: bytes) -> tuple[int, dict[str, str], bytes]:
        if key not in self.store.objects:
            return 404, {}, b"<Error><Code>NoSuchKey</Code></Error>"
        body, kept = self.store.objects[key]
        return 200, kept, body

    def _list(self, _: str, __: bytes) -> tuple[int, dict[str, str], bytes]:
        query = self._query()
        after = query.get("continuation-token", "")
        prefix = query.get("prefix", "")
        names = sorted(k for k in self.store.objects if k.startswith(prefix) and k > after)
        page = names[: self.store.page]
        said = "".join(f"<Contents><Key>{escape(quote(key))}</Key></Contents>" for key in page)
        if more := len(names) > len(page):
            said += f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>"
        said = (
            f"<EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>{said}"
        )
        return 200, {}, f"<ListBucketResult>{said}</ListBucketResult>".encode()

    def _create(self, key: str, _: bytes) -> tuple[int, dict[str, str], bytes]:
        self.store.begun += 1
        upload = f"u{self.store.begun}"
        self.store.uploads[upload] = (key, self._metadata(), {})
        said = f"<UploadId>{upload}</UploadId>"
        return (
            200,
            {},
            f"<InitiateMultipartUploadResult>{said}</InitiateMultipartUploadResult>".encode(),
        )

    def _part(self, _: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        query = self._query()
        crc = b64encode(crc32(body).to_bytes(4)).decode()
        assert self.headers.get("x-amz-checksum-crc32", crc) == crc
        self.store.uploads[query["uploadId"]][2][int(query["partNumber"])] = body
        return 200, {"ETag": f'"{query["partNumber"]}"'}, b""

    def _complete(self, key: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upload = self._query()["uploadId"]
        if upload not in self.store.uploads:
            return 404, {}, b"<Error><Code>NoSuchUpload</Code></Error>"
        if self._taken(key):
            return _refusal("412")
        _, kept, parts = self.store.uploads.pop(upload)
        listed = [int(n) for n in re.findall(rb"<PartNumber>(\d+)</PartNumber>", body)]
        whole = b"".join(parts[n] for n in listed)
        crc = b64encode(crc32(whole).to_bytes(4)).decode()
        assert self.headers.get("x-amz-checksum-crc32", crc) == crc
        self.store.objects[key] = (whole, kept | {"x-amz-checksum-crc32": crc})
        return 200, {}, b"<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"

    def _abort(self, _: str, __: bytes) -> tuple[int, dict[str, str], bytes]:
        if self.store.uploads.pop(self._query()["uploadId"], None) is None:
            return 404, {}, b"<Error><Code>NoSuchUpload</Code></Error>"
        return 204, {}, b""


def _refusal(status: str | None) -> tuple[int, dict[str, str], bytes]:
    assert status is not None
    said = f"<Error><Code>{_CODES[status]}</Code><Message>so it goes</Message></Error>"
    return int(status), {}, said.encode()
