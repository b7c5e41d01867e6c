# SPDX-License-Identifier: Apache-2.0
"""HTTPS on 8081: metrics for Prometheus, health, who may read them, and what a hostile client gets."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import struct
import unittest
import warnings

import fixture
from fixture import batch, now_us

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden" / "metrics.ok"
LINE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)(?: (-?\d+))?$')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')


def tls_context(hub, identity=None, **options) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(hub.admin / "ca-cert.pem"))
    for name, value in options.items():
        setattr(context, name, value)
    if identity:
        context.load_cert_chain(identity / "client-cert.pem", identity / "client-key.pem")
    return context


def connect(hub, identity=None, **options) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", hub.https_port), timeout=fixture.PATIENCE)
    return tls_context(hub, identity, **options).wrap_socket(raw, server_hostname="localhost")


def ask(hub, path, identity=None, method="GET", headers=None, body=None):
    """One request on a connection of its own: (status, headers, text)."""
    connection = http.client.HTTPSConnection("127.0.0.1", hub.https_port, context=tls_context(hub, identity), timeout=fixture.PATIENCE)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read().decode()
    finally:
        connection.close()


def exchange(tls, request: bytes) -> bytes:
    """Sends, and reads until the hub closes."""
    tls.sendall(request)
    answer = b""
    while True:
        some = tls.recv(65536)
        if not some:
            return answer
        answer += some


def parse(text: str) -> dict:
    """The page by Prometheus' rules: {name: {"type", "help", "samples": {labels: (value, time)}}}; fails on what breaks them."""
    families, current, finished = {}, None, set()
    assert text.endswith("\n"), text[-100:]
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, help_text = line[7:].split(" ", 1)
            assert name not in families, f"{name} comes twice"
            finished.add(current)
            current, families[name] = name, {"help": help_text, "samples": {}}
        elif line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            assert name == current
            families[name]["type"] = kind
        else:
            found = LINE.match(line)
            assert found, line
            assert found[1] == current, f"{line} stands outside of its family"
            labels = tuple(LABEL.findall(found[2] or ""))
            assert len({key for key, _ in labels}) == len(labels), line
            assert labels not in families[current]["samples"], f"{line} comes twice"
            families[current]["samples"][labels] = (float(found[3]), int(found[4]) if found[4] else None)
    return families


def value_of(hub, identity, name: str) -> float:
    return parse(ask(hub, "/metrics", identity)[2])[name]["samples"][()][0]


class Story(unittest.TestCase):
    def connect(self, hub, identity=None, **options) -> ssl.SSLSocket:
        tls = connect(hub, identity, **options)
        self.addCleanup(tls.close)
        return tls

    def refused(self, hub, path, identity):
        status, headers, text = ask(hub, path, identity)
        self.assertEqual(headers["content-type"], "application/json")
        error = json.loads(text)
        self.assertEqual(error["code"], status)
        self.assertTrue(error["message"])
        return status, error["reason"]

    def stream(self, hub, name, series, values, times=None):
        stream = fixture.Stream(hub, hub.issue("agent", name)).hello(os.urandom(16))
        stream.welcome()
        ids = [s.id for s in series]
        stream.send(batch=batch(1, series, [(1, ids)], [(t, 1, v) for t, v in zip(times or [now_us()], values)]))
        stream.ack(1)
        stream.close()

    def series(self, number, name, unit="1", counter=False, **attributes):
        t = fixture.stubs().telemetry
        return t.Series(id=number, name=name, unit=unit, kind=t.KIND_COUNTER if counter else t.KIND_GAUGE,
                        attributes=[t.Attribute(key=k.replace("__", "."), value=v) for k, v in attributes.items()])


class Web(Story):
    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub(flags=("--web-request-timeout", "1s", "--web-idle-timeout", "2s")).start()
        cls.viewer = cls.hub.issue("operator", "vera", "--role", "viewer")

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    # ---- who may ----

    def test_metrics_need_a_known_certificate_with_the_role(self):
        agent = self.hub.issue("agent", "curious")
        for path in ("/metrics", "/metrics/agents", "/metrics?agent=curious"):
            self.assertEqual(self.refused(self.hub, path, None), (401, "CERTIFICATE_MISSING"))
            self.assertEqual(self.refused(self.hub, path, agent), (403, "ROLE_MISSING"))
            self.assertIn(ask(self.hub, path, self.viewer)[0], (200, 404))
            self.assertIn(ask(self.hub, path, self.hub.admin)[0], (200, 404))
        self.assertIn("event=authentication_failed", self.hub.log)

    def test_a_certificate_that_the_registry_does_not_know_is_refused(self):
        twin = fixture.Hub(state=self.hub.home / "twin-of-nothing")
        for name in os.listdir(twin.state / "certs"):
            shutil.copy(self.hub.state / "certs" / name, twin.state / "certs" / name)
        self.assertEqual(self.refused(self.hub, "/metrics", twin.issue("operator", "unregistered")), (401, "CERTIFICATE_UNKNOWN"))

    def test_a_certificate_of_another_ca_fails_in_the_handshake_and_is_counted(self):
        before = value_of(self.hub, self.viewer, "sentinel_hub_https_handshakes_failed_total")
        told = int(self.hub.ask("sentinel.admin.v1.AdminService/GetStatus").get("handshakesFailed", 0))
        stranger = fixture.Hub(state=self.hub.home / "stranger").issue("operator", "stranger")
        with self.assertRaises((ssl.SSLError, ConnectionError)):  # TLS 1.3 tells it with the first read
            exchange(self.connect(self.hub, stranger), b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        fixture.wait_until(lambda: "event=handshake_failed" in self.hub.log, "the log to say so")
        self.assertEqual(value_of(self.hub, self.viewer, "sentinel_hub_https_handshakes_failed_total"), before + 1)
        self.assertEqual(int(self.hub.ask("sentinel.admin.v1.AdminService/GetStatus").get("handshakesFailed", 0)), told + 1)

    def test_health_is_for_anyone(self):
        for path, state in (("/healthz", "ALIVE"), ("/readyz", "SERVING")):
            status, _, text = ask(self.hub, path)
            self.assertEqual((status, json.loads(text)["state"]), (200, state))

    # ---- pages ----

    def test_the_hubs_own_figures_are_as_the_golden_page_says(self):
        status, headers, text = ask(self.hub, "/metrics", self.viewer)
        self.assertEqual((status, headers["content-type"]), (200, "text/plain; version=0.0.4; charset=utf-8"))
        families = parse(text)
        self.assertEqual(families["sentinel_hub_serving"]["samples"][()][0], 1)
        self.assertGreater(families["sentinel_hub_resident_memory_bytes"]["samples"][()][0], 1 << 20)
        self.assertGreater(families["sentinel_hub_certificate_expiry_time_seconds"]["samples"][()][0], now_us() / 1e6)
        told = "".join(line + "\n" for line in text.splitlines() if line.startswith("#"))
        if os.environ.get("SENTINEL_UPDATE_GOLDEN"):
            GOLDEN.write_text(told)
        self.assertEqual(told, GOLDEN.read_text(), "run again with SENTINEL_UPDATE_GOLDEN=1 when this is meant")

    def test_agents_newest_values_come_with_their_labels_times_and_bits(self):
        now = now_us()
        series = [self.series(1, "test.cpu.time", "s", True, cpu__mode="user"), self.series(2, "test.memory", "By"),
                  self.series(3, "test.odd", "", agent="liar", text='a"b\\c\nd')]
        self.stream(self.hub, "alpha", series, [[1, 2, 3], [0.1, float("inf"), -0.0]], [now - 10_000_000, now])
        self.stream(self.hub, "beta", series[:2], [[7, 8]], [now - 600_000_000])  # older than five minutes
        for path in ("/metrics/agents", "/metrics?agent=alpha", "/metrics/agents?agent=alpha"):
            families = parse(ask(self.hub, path, self.viewer)[2])
            ms = now // 1000
            self.assertEqual(families["test_cpu_time_seconds_total"]["type"], "counter")
            self.assertEqual(families["test_cpu_time_seconds_total"]["samples"],
                             {(("agent", "alpha"), ("cpu_mode", "user")): (0.1, ms)})
            self.assertEqual(families["test_memory_bytes"]["samples"], {(("agent", "alpha"),): (float("inf"), ms)})
            odd = families["test_odd"]["samples"]
            self.assertEqual(odd, {(("agent", "alpha"), ("attribute_agent", "liar"), ("text", 'a\\"b\\\\c\\nd')): (-0.0, ms)})
            self.assertEqual(struct.pack("d", next(iter(odd.values()))[0]), struct.pack("d", -0.0))
        status, _, text = ask(self.hub, "/metrics?agent=beta", self.viewer)
        self.assertEqual((status, text), (200, ""))

    def test_two_metrics_that_become_one_are_told_once_and_the_newest(self):
        now = now_us()
        self.stream(self.hub, "merged", [self.series(1, "test.twin.one", ""), self.series(2, "test_twin_one", "", False)], [[1, 2]], [now])
        self.stream(self.hub, "merged-too", [self.series(1, "test.twin.two", ""), self.series(2, "test.twin.two.total", "", True),
                                   self.series(3, "test.twin.two.total", "")], [[1, 2, 3]], [now])
        families = parse(ask(self.hub, "/metrics/agents", self.viewer)[2])
        self.assertEqual(len(families["test_twin_one"]["samples"]), 1)
        self.assertEqual(families["test_twin_two"]["type"], "gauge")
        self.assertEqual(families["test_twin_two_total"]["type"], "untyped")

    def test_a_long_page_comes_in_chunks_and_whole(self):
        long_text = "x" * 900
        self.stream(self.hub, "long", [self.series(i, "test.long", "", n=str(i), filler=long_text) for i in range(1, 1001)], [list(range(1000))])
        for headers, framing in (({}, "chunked"), ({"Connection": "close"}, "chunked")):
            status, got, text = ask(self.hub, "/metrics?agent=long", self.viewer, headers=headers)
            self.assertEqual((status, got["transfer-encoding"]), (200, framing))
            self.assertEqual(len(parse(text)["test_long"]["samples"]), 1000)
        raw = exchange(self.connect(self.hub, self.viewer), b"GET /metrics?agent=long HTTP/1.0\r\n\r\n")
        head, body = raw.split(b"\r\n\r\n", 1)
        self.assertNotIn(b"chunked", head)
        self.assertEqual(len(parse(body.decode())["test_long"]["samples"]), 1000)
        status, got, text = ask(self.hub, "/metrics?agent=long", self.viewer, method="HEAD")
        self.assertEqual((status, text), (200, ""))

    def test_what_is_not_there_is_said(self):
        self.assertEqual(self.refused(self.hub, "/nothing", None), (404, "NOT_FOUND"))
        self.assertEqual(self.refused(self.hub, "/metrics?agent=nobody", self.viewer), (404, "NOT_FOUND"))
        self.assertEqual(self.refused(self.hub, "/metrics?agent=%zz", self.viewer), (400, "BAD_AGENT"))
        self.assertEqual(self.refused(self.hub, "/metrics?agent=UPPER", self.viewer), (400, "BAD_AGENT"))
        status, headers, text = ask(self.hub, "/metrics", self.viewer, method="POST", body="x=1")
        self.assertEqual((status, headers["allow"], json.loads(text)["reason"]), (405, "GET, HEAD", "METHOD_NOT_ALLOWED"))

    # ---- HTTP ----

    def test_security_headers_are_on_every_answer(self):
        for path in ("/metrics", "/nothing", "/healthz"):
            headers = ask(self.hub, path)[1]
            self.assertEqual(headers["strict-transport-security"], "max-age=31536000")
            self.assertEqual(headers["x-content-type-options"], "nosniff")
            self.assertEqual(headers["x-frame-options"], "DENY")
            self.assertIn("default-src 'none'", headers["content-security-policy"])
            self.assertEqual(headers["cache-control"], "no-store")

    def test_head_has_the_headers_of_get_and_no_body(self):
        got, head = ask(self.hub, "/healthz"), ask(self.hub, "/healthz", method="HEAD")
        self.assertEqual(got[1]["content-length"], head[1]["content-length"])
        self.assertEqual((head[0], head[2]), (200, ""))

    def test_a_connection_serves_many_requests_also_pipelined(self):
        connection = http.client.HTTPSConnection("127.0.0.1", self.hub.https_port, context=tls_context(self.hub, self.viewer))
        for path in ("/healthz", "/metrics", "/nothing", "/metrics/agents?agent=nobody") * 25:
            connection.request("GET", path)
            connection.getresponse().read()
            sock = connection.sock
            self.assertIsNotNone(sock, "the connection is kept")
        connection.close()
        one = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
        answer = exchange(self.connect(self.hub), one * 200 + b"GET /readyz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        self.assertEqual(answer.count(b"HTTP/1.1 200 OK"), 201)

    def test_bad_requests_are_answered_and_cut(self):
        for request, status in ((b"GET / HTTP/1.1\r\n\r\n", 400), (b"nonsense\r\n\r\n", 400), (b"GET / HTTP/3.0\r\nHost: h\r\n\r\n", 505),
                                (b"GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", 400),
                                (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
                                (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 999999999\r\n\r\n", 413),
                                (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
                                (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 20000 + b"\r\n\r\n", 431)):
            answer = exchange(self.connect(self.hub), request)
            self.assertTrue(answer.startswith(b"HTTP/1.1 %d " % status), (request[:60], answer[:200]))
            self.assertIn(b"connection: close", answer)
        self.assertTrue(self.hub.is_running())

    def test_a_request_that_dribbles_is_cut_with_408(self):
        tls = self.connect(self.hub)
        answer = exchange(tls, b"GET /healthz HTTP/1.1\r\nHost: h\r\nX-Slow: ")
        self.assertTrue(answer.startswith(b"HTTP/1.1 408 "), answer[:100])

    def test_one_that_does_not_shake_hands_is_cut(self):
        with socket.create_connection(("127.0.0.1", self.hub.https_port), timeout=fixture.PATIENCE) as raw:
            self.assertEqual(raw.recv(100), b"")
        with socket.create_connection(("127.0.0.1", self.hub.https_port), timeout=fixture.PATIENCE) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\n\r\n")  # plaintext to a TLS port
            with contextlib.suppress(ConnectionError):
                while raw.recv(100):
                    pass

    def test_an_idle_connection_is_closed(self):
        tls = self.connect(self.hub)
        tls.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
        answer = b""
        while some := tls.recv(65536):
            answer += some
        self.assertIn(b"200 OK", answer)

    def test_tls_is_1_2_at_least_1_3_where_it_can_be_and_resumes(self):
        self.assertEqual(self.connect(self.hub).version(), "TLSv1.3")
        self.assertEqual(self.connect(self.hub, maximum_version=ssl.TLSVersion.TLSv1_2).version(), "TLSv1.2")
        with warnings.catch_warnings(), self.assertRaises((ssl.SSLError, ConnectionError)):
            warnings.simplefilter("ignore", DeprecationWarning)
            self.connect(self.hub, minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)
        context = tls_context(self.hub, self.viewer)
        session = None
        for is_resumed in (False, True):
            raw = socket.create_connection(("127.0.0.1", self.hub.https_port))
            with context.wrap_socket(raw, server_hostname="localhost", session=session) as tls:
                answer = exchange(tls, b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                self.assertIn(b"200 OK", answer)  # who it is is known in a session that goes on, too
                self.assertEqual(tls.session_reused, is_resumed)
                session = tls.session


class Life(Story):
    def test_a_page_over_the_limit_is_refused_with_the_remedy(self):
        hub = fixture.Hub(flags=("--metrics-max-series", "5000")).start()
        names = [self.series(i, f"test.many.{i}") for i in range(1, 2001)]
        for name in ("many-1", "many-2", "many-3"):
            self.stream(hub, name, names, [list(range(2000))])
        status, reason = self.refused(hub, "/metrics/agents", hub.admin)
        self.assertEqual((status, reason), (422, "TOO_MANY_SERIES"))
        status, headers, text = ask(hub, "/metrics?agent=many-2", hub.admin)
        self.assertEqual((status, len(parse(text))), (200, 2000))
        hub.stop(expect=0)

    def test_sighup_shows_a_new_certificate_and_takes_new_settings(self):
        hub = fixture.Hub()
        config = hub.home / "config.yaml"
        config.write_text("metrics:\n  public: false\n")
        hub.flags = ["--config", str(config)]
        hub.start()
        before = self.connect(hub).getpeercert()["serialNumber"]
        self.assertEqual(ask(hub, "/metrics")[0], 401)
        work = fixture.scratch()
        fixture.sign(hub, "hubs", work, "renewed", days=30, usage="serverAuth,clientAuth")
        for name in ("key", "cert"):
            (hub.state / "certs" / f"server-{name}.pem").write_bytes((work / f"client-{name}.pem").read_bytes())
        config.write_text("metrics:\n  public: true\n")
        hub.process.send_signal(signal.SIGHUP)
        fixture.wait_until(lambda: "event=reloaded" in hub.log, "the reload")
        fixture.wait_until(lambda: self.connect(hub).getpeercert()["serialNumber"] != before, "the new certificate")
        self.assertEqual(ask(hub, "/metrics")[0], 200)
        self.assertEqual(ask(hub, "/metrics/agents")[0], 200)
        hub.stop(expect=0)

    def test_at_the_limit_idle_connections_make_room_and_busy_ones_do_not(self):
        hub = fixture.Hub(flags=("--web-max-connections", "2"))
        hub.start()
        idle = [self.connect(hub) for _ in range(2)]
        for tls in idle:
            tls.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
            tls.recv(65536)
        self.assertEqual(ask(hub, "/healthz")[0], 200)
        self.assertEqual(idle[0].recv(100), b"", "the one that was idle longest is closed")
        busy = [self.connect(hub) for _ in range(2)]
        for tls in busy:
            tls.sendall(b"GET /healthz HTTP/1.1\r\n")  # never ends
        fixture.wait_until(lambda: self.is_refused(hub), "a refusal")
        self.assertIn("web.max_connections", hub.log)
        hub.stop(expect=0)

    def is_refused(self, hub) -> bool:
        try:
            ask(hub, "/healthz")
            return False
        except (OSError, http.client.HTTPException):
            return "event=connection_refused" in hub.log

    def test_sigterm_ends_idle_connections_and_answers_not_ready(self):
        hub = fixture.Hub(flags=("--drain-timeout", "2s")).start()
        half = self.connect(hub)
        half.sendall(b"GET /readyz HTTP/1.1\r\nHost: h\r\n")
        idle = self.connect(hub)
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
        idle.recv(65536)
        hub.process.send_signal(signal.SIGTERM)
        self.assertEqual(idle.recv(100), b"")
        answer = exchange(half, b"\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 503 "), answer)
        self.assertIn(b"DRAINING", answer)
        self.assertIn(b"connection: close", answer)
        hub.wait_exit(expect=0)

    def test_a_peer_that_takes_nothing_does_not_hold_the_stop(self):
        hub = fixture.Hub(flags=("--drain-timeout", "1s")).start()
        half = self.connect(hub)
        half.sendall(b"GET /readyz HTTP/1.1\r\n")
        hub.process.send_signal(signal.SIGTERM)
        hub.wait_exit(expect=0)
        half.close()

    def test_a_slow_reader_is_cut_and_holds_nobody_up(self):
        hub = fixture.Hub(flags=("--web-write-timeout", "1s")).start()
        fill = {f"fill_{i}": "x" * 1000 for i in range(3)}
        for agent in range(6):  # a page of 18 MB: more than any socket takes
            self.stream(hub, f"wide-{agent}", [self.series(i, "test.wide", "", n=str(i), **fill) for i in range(1, 1001)], [list(range(1000))])
        slow = socket.socket()
        self.addCleanup(slow.close)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", hub.https_port))
        tls = tls_context(hub, hub.admin).wrap_socket(slow, server_hostname="localhost")
        self.addCleanup(tls.close)
        tls.sendall(b"GET /metrics/agents HTTP/1.1\r\nHost: h\r\n\r\n")
        tls.recv(100)
        page = parse(ask(hub, "/metrics/agents", hub.admin)[2])
        self.assertEqual(len(page["test_wide"]["samples"]), 6000)
        fixture.wait_until(lambda: value_of(hub, hub.admin, "sentinel_hub_https_timeouts_total") == 1, "the slow one to be cut")
        self.assertIn("an answer is taken", hub.log)
        if not fixture.is_sanitized():
            self.assertLess(value_of(hub, hub.admin, "sentinel_hub_resident_memory_bytes"), 100 << 20)
        hub.stop(expect=0)

    def test_off_serves_nothing_and_says_so(self):
        hub = fixture.Hub(flags=("--listen-https", "off")).start()
        self.assertIsNone(hub.https)
        self.assertEqual(hub.ask("sentinel.admin.v1.AdminService/GetStatus")["state"], "SERVING")
        hub.stop(expect=0)

    def test_insecure_is_plaintext_on_loopback_for_anyone(self):
        hub = fixture.Hub(flags=("--insecure",)).start()
        connection = http.client.HTTPConnection("127.0.0.1", hub.https_port, timeout=fixture.PATIENCE)
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        self.assertIsNone(response.headers["strict-transport-security"])
        self.assertEqual(parse(response.read().decode())["sentinel_hub_info"]["samples"],
                         {(("security", "insecure"), ("version", "0.1.0")): (1.0, None)})
        connection.close()
        hub.stop(expect=0)
        done = fixture.run(fixture.program("sentinel-hub"), "run", "--state-dir", hub.state, "--insecure", "--listen-grpc", "127.0.0.1:0",
                           "--listen-https", "0.0.0.0:0", check=2)
        self.assertIn("--listen-https 127.0.0.1", done.stderr)

    def test_a_port_that_is_taken_is_said_with_the_remedy(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            hub = fixture.Hub()
            done = fixture.run(fixture.program("sentinel-hub"), "run", "--state-dir", hub.state, "--listen-grpc", "127.0.0.1:0",
                               "--listen-https", f"127.0.0.1:{taken.getsockname()[1]}", check=1)
            self.assertIn("--listen-https", done.stderr)


if __name__ == "__main__":
    fixture.main()
