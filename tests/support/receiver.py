# SPDX-License-Identifier: Apache-2.0
"""A receiver of Prometheus' remote_write 1.0 for stories: it decodes by the specifications, not by our code.

    snappy's block format    https://github.com/google/snappy/blob/main/format_description.txt
    WriteRequest             prometheus/prompb/remote.proto
"""

import http.server
import ssl
import struct
import threading
import time


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def unsnap(data: bytes) -> bytes:
    length, at = varint(data, 0)
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        if tag & 3 == 0:  # a literal
            size = tag >> 2
            if size >= 60:
                n = size - 59
                size = int.from_bytes(data[at:at + n], "little")
                at += n
            size += 1
            out += data[at:at + size]
            at += size
            continue
        if tag & 3 == 1:
            size, offset = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | data[at]
            at += 1
        else:
            n = 2 if tag & 3 == 2 else 4
            size, offset = (tag >> 2) + 1, int.from_bytes(data[at:at + n], "little")
            at += n
        assert 0 < offset <= len(out), "a copy from before the begin"
        begin = len(out) - offset
        if offset >= size:
            out += out[begin:begin + size]
        else:
            for i in range(size):
                out.append(out[begin + i])
    assert len(out) == length, "another length than it says"
    return bytes(out)


def fields(data: bytes):
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 1:
            value, at = data[at:at + 8], at + 8
        else:
            assert kind == 2, f"wire type {kind}"
            size, at = varint(data, at)
            value, at = data[at:at + size], at + size
            assert len(value) == size, "cut off"
        yield key >> 3, value


def decode(data: bytes):
    """[(labels as ((name, value), ...), [(ms, bits), ...]), ...]; fails on what breaks the specification."""
    series = []
    for number, body in fields(data):
        assert number == 1, f"field {number} of a WriteRequest"
        labels, samples = [], []
        for field, value in fields(body):
            parts = dict(fields(value))
            if field == 1:
                assert not samples, "labels behind samples"
                labels.append((parts[1].decode(), parts[2].decode()))
            else:
                assert field == 2
                ms = parts.get(2, 0)
                samples.append((ms - (1 << 64) if ms >> 63 else ms, struct.unpack("<Q", parts.get(1, bytes(8)))[0]))
        names = [name for name, _ in labels]
        assert names == sorted(set(names)), f"labels not in order, or twice: {names}"
        assert all(name and value for name, value in labels), f"an empty label: {labels}"
        assert "__name__" in names and samples
        series.append((tuple(labels), samples))
    return series


class Receiver:
    """Listens on a port of 127.0.0.1 that stays the same from start to start.

    `script` has answers for the next requests: (status, headers, body); then everything is accepted. While `gate` is clear
    requests wait for it. `got` is what was accepted: {labels: {ms: [bits, ...]}}.
    """

    def __init__(self, context: ssl.SSLContext | None = None):
        self.context = context
        self.port = 0
        self.server = None
        self.lock = threading.Lock()
        self.script: list[tuple[int, dict, str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.n_waiting = 0  # requests that came to the gate
        self.got: dict = {}
        self.requests: list[dict] = []  # {"time", "status", "headers", "samples", "peer"}
        self.problems: list[str] = []

    def start(self):
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                receiver.handle(self)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self):
                connection, peer = super().get_request()
                receiver.connections.append(connection)
                return connection, peer

            def finish_request(self, request, client_address):
                if receiver.context:
                    request = receiver.context.wrap_socket(request, server_side=True)
                super().finish_request(request, client_address)

            def handle_error(self, *_):
                pass

        self.connections: list = []
        self.server = Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()
        return self

    def stop(self):
        """Away at once: nobody listens, and open connections break."""
        if not self.server:
            return
        self.server.shutdown()
        self.server.server_close()
        for connection in self.connections:
            try:
                connection.shutdown(2)
            except OSError:
                pass
        self.thread.join()
        self.server = None

    def url(self, scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}/api/v1/write"

    def handle(self, request):
        body = request.rfile.read(int(request.headers["content-length"]))
        self.n_waiting += 1
        self.gate.wait()
        try:
            assert request.headers["content-encoding"] == "snappy"
            assert request.headers["content-type"] == "application/x-protobuf"
            assert request.headers["x-prometheus-remote-write-version"] == "0.1.0"
            assert request.headers["user-agent"].startswith("sentinel-hub/")
            assert request.path == "/api/v1/write", request.path
            series = decode(unsnap(body))
        except Exception as problem:  # told to the story: an exception here would only close the connection
            self.problems.append(repr(problem))
            series = []
        with self.lock:
            status, headers, text = self.script.pop(0) if self.script else (204, {}, "")
            self.requests.append({"time": time.monotonic(), "status": status, "headers": dict(request.headers.items()),
                                  "samples": sum(len(samples) for _, samples in series), "body": body,
                                  "peer": request.client_address})
            if status < 300:
                for labels, samples in series:
                    row = self.got.setdefault(labels, {})
                    for ms, bits in samples:
                        row.setdefault(ms, []).append(bits)
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("content-length", str(len(text)))
        request.end_headers()
        request.wfile.write(text.encode())

    def distinct(self) -> int:
        with self.lock:
            return sum(len(row) for row in self.got.values())

    def doubles(self) -> int:
        with self.lock:
            return sum(len(bits) - 1 for row in self.got.values() for bits in row.values())
