# SPDX-License-Identifier: Apache-2.0
"""Every way in which a handshake fails, by foreign clients (openssl s_client, Python's ssl, grpcurl): each is counted by its name and
has a log line with the peer and that name. And a crowd of half-open handshakes keeps nobody out."""

import datetime
import hashlib
import pathlib
import re
import resource
import socket
import ssl
import struct
import unittest

import fixture
from fixture import run, scratch, wait_until

STATUS = "sentinel.admin.v1.AdminService/GetStatus"
HALF_A_HELLO = bytes([0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]) + b"half"
PROXY = b"\r\n\r\n\0\r\nQUIT\n"
# GETs nothing: an HTTP/2 preface with empty SETTINGS, then a call without a body, its headers as literals (RFC 7541, 6.2.2).
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


def csr(work: pathlib.Path, name: str):
    run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", work / "raw.pem")
    run("openssl", "pkcs8", "-topk8", "-nocrypt", "-in", work / "raw.pem", "-out", work / "client-key.pem")
    run("openssl", "req", "-new", "-key", work / "client-key.pem", "-subj", f"/CN={name}", "-out", work / "csr.pem")


def sign_between(ca_cert: pathlib.Path, ca_key: pathlib.Path, name: str, begin_days: int, end_days: int, usage: str = "clientAuth",
                 is_ca: bool = False, chain: bool = True) -> pathlib.Path:
    """A key and certificate with the dates that are asked for: client-*.pem in the directory that is returned."""
    work = scratch()
    csr(work, name)
    for file in ("index", "serial"):
        (work / file).write_text("" if file == "index" else "1000\n")
    extensions = ("basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n" if is_ca else
                  f"basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage={usage}\n")
    (work / "ca.cnf").write_text(
        f"[ca]\ndefault_ca=d\n[d]\ndatabase={work}/index\nserial={work}/serial\nnew_certs_dir={work}\ndefault_md=sha256\n"
        f"policy=p\nunique_subject=no\n[p]\ncommonName=supplied\n[e]\n{extensions}")
    now = datetime.datetime.now(datetime.timezone.utc)
    begin, end = ((now + datetime.timedelta(days=days)).strftime("%Y%m%d%H%M%SZ") for days in (begin_days, end_days))
    run("openssl", "ca", "-batch", "-notext", "-config", work / "ca.cnf", "-extensions", "e", "-in", work / "csr.pem", "-cert", ca_cert,
        "-keyfile", ca_key, "-startdate", begin, "-enddate", end, "-out", work / "cert.pem")
    text = (work / "cert.pem").read_text()
    (work / "client-cert.pem").write_text(text + (ca_cert.read_text() if chain else ""))
    return work


def own_authority(name: str) -> pathlib.Path:
    work = scratch()
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", work / "client-key.pem",
        "-out", work / "client-cert.pem", "-subj", f"/CN={name}", "-days", "2")
    return work


class HandshakeFailures(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub().start(env={"SENTINEL_HUB_LISTEN_HANDSHAKE_TIMEOUT": "2s"})
        cls.agents = cls.hub.state / "certs" / "agents-ca-cert.pem"
        cls.agents_key = cls.hub.state / "certs" / "agents-ca-key.pem"

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    def count(self, result: str, hub=None) -> int:
        rows = (hub or self.hub).ask(STATUS).get("handshakes", [])
        return sum(int(row["count"]) for row in rows if row["result"] == result)

    def fails_as(self, result: str, act, hub=None, listener="grpc"):
        """What `act` does is counted as `result`, once or more, and logged with its peer."""
        hub = hub or self.hub
        before, log = self.count(result, hub), len(hub.log)
        act()
        wait_until(lambda: self.count(result, hub) > before, f"a handshake to be counted as {result}")
        line = "event=tls_handshake_failed peer=127.0.0.1:"
        wait_until(lambda: any(line in text and f"reason={result}" in text for text in hub.log[log:].splitlines()),
                   f"the log line of a handshake that ended as {result}")

    def s_client(self, *flags, identity=None, hub=None, alpn="h2", stdin="") -> str:
        hub = hub or self.hub
        argv = ["openssl", "s_client", "-connect", f"127.0.0.1:{hub.port}", "-CAfile", hub.admin / "ca-cert.pem"]
        if alpn:
            argv += ["-alpn", alpn]
        if identity:
            argv += ["-cert", identity / "client-cert.pem", "-key", identity / "client-key.pem", "-cert_chain", identity / "client-cert.pem"]
        done = run(*argv, *flags, check=None, stdin=stdin)
        return done.stdout + done.stderr

    def python_ssl(self, identity):
        """Python's ssl as the client, until the hub says what it thinks: TLS 1.3 lets the client finish first."""
        context = ssl.create_default_context(cafile=str(self.hub.admin / "ca-cert.pem"))
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(identity / "client-cert.pem", identity / "client-key.pem")
        with socket.create_connection(("127.0.0.1", self.hub.port), timeout=20) as raw:
            try:
                with context.wrap_socket(raw, server_hostname="127.0.0.1") as tls:
                    tls.sendall(PREFACE)
                    while tls.recv(4096):
                        pass
            except OSError:
                pass

    def grpcurl(self, identity, roots=None):
        """One connection: grpcurl tries again until this time is over."""
        failed = run(fixture.GRPCURL, "-cacert", roots or self.hub.admin / "ca-cert.pem", "-cert", identity / "client-cert.pem", "-key",
                     identity / "client-key.pem", "-connect-timeout", "0.5", f"127.0.0.1:{self.hub.port}", "list", check=None)
        self.assertNotEqual(failed.returncode, 0)

    def refused_by_all(self, result: str, identity):
        """The three foreign clients, each with this certificate."""
        self.fails_as(result, lambda: self.s_client("-quiet", "-no_ign_eof", identity=identity))
        self.fails_as(result, lambda: self.python_ssl(identity))
        self.fails_as(result, lambda: self.grpcurl(identity))

    # ---- certificates ----

    def test_a_certificate_of_another_ca(self):
        self.refused_by_all("unknown_ca", fixture.Hub().issue("operator", "stranger"))

    def test_an_expired_certificate(self):
        self.refused_by_all("expired", sign_between(self.agents, self.agents_key, "late", -10, -1))

    def test_a_certificate_that_has_not_begun(self):
        self.refused_by_all("not_yet_valid", sign_between(self.agents, self.agents_key, "early", 2, 9))

    def test_a_certificate_for_servers_only(self):
        self.refused_by_all("wrong_usage", sign_between(self.agents, self.agents_key, "server", -1, 9, usage="serverAuth"))

    def test_a_self_signed_certificate(self):
        self.refused_by_all("self_signed", own_authority("own"))

    def test_a_chain_with_an_unknown_intermediate(self):
        root = own_authority("other root")
        between = sign_between(root / "client-cert.pem", root / "client-key.pem", "unknown intermediate", -1, 9, is_ca=True, chain=False)
        leaf = sign_between(between / "client-cert.pem", between / "client-key.pem", "leaf", -1, 9)
        self.refused_by_all("unknown_ca", leaf)
        # Nor where the intermediate is left out.
        text = (leaf / "client-cert.pem").read_text()
        (leaf / "client-cert.pem").write_text(text[:text.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n")
        self.fails_as("unknown_ca", lambda: self.python_ssl(leaf))

    def test_a_client_that_does_not_trust_the_hub(self):
        context = ssl.create_default_context(cafile=str(own_authority("elsewhere") / "client-cert.pem"))

        def distrust():
            with socket.create_connection(("127.0.0.1", self.hub.port), timeout=20) as raw:
                with self.assertRaises(ssl.SSLError):
                    context.wrap_socket(raw, server_hostname="127.0.0.1")
        self.fails_as("refused_by_client", distrust)
        elsewhere = own_authority("elsewhere") / "client-cert.pem"
        self.fails_as("refused_by_client", lambda: self.grpcurl(self.hub.admin, roots=elsewhere))

    # ---- revoked ----

    def raw_call(self, identity, session=None):
        """One call of ListAgents by hand in HTTP/2 over Python's ssl. Returns what came, the session, and whether it was resumed."""
        context = self.contexts.setdefault(identity, ssl.create_default_context(cafile=str(self.hub.admin / "ca-cert.pem")))
        if session is None:
            context.set_alpn_protocols(["h2"])
            context.load_cert_chain(identity / "client-cert.pem", identity / "client-key.pem")
        headers = b"".join(b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in (
            (b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/sentinel.query.v1.QueryService/ListAgents"),
            (b":authority", b"localhost"), (b"content-type", b"application/grpc"), (b"te", b"trailers")))
        frames = (PREFACE + struct.pack("!I", len(headers))[1:] + b"\1\4\0\0\0\1" + headers +
                  b"\0\0\5\0\1\0\0\0\1" + b"\0\0\0\0\0")
        came = b""
        with socket.create_connection(("127.0.0.1", self.hub.port), timeout=20) as raw:
            with context.wrap_socket(raw, server_hostname="127.0.0.1", session=session) as tls:
                tls.sendall(frames)
                while b"grpc-status" not in came:
                    piece = tls.recv(4096)
                    self.assertTrue(piece, came)
                    came += piece
                return came, tls.session, tls.session_reused

    def test_a_resumed_session_does_not_outlive_the_revocation(self):
        identity = self.hub.issue("operator", "revoked", "--role", "viewer")
        self.contexts = {}
        came, session, is_resumed = self.raw_call(identity)
        self.assertIn(b"grpc-status\x010", came)
        self.assertFalse(is_resumed)
        came, session, is_resumed = self.raw_call(identity, session)
        self.assertTrue(is_resumed)
        self.assertIn(b"grpc-status\x010", came)
        leaf = ssl.PEM_cert_to_DER_cert((identity / "client-cert.pem").read_text().split("-----END CERTIFICATE-----")[0] +
                                        "-----END CERTIFICATE-----\n")
        self.hub.ctl("certs", "revoke", hashlib.sha256(leaf).hexdigest())
        came, session, is_resumed = self.raw_call(identity, session)
        self.assertTrue(is_resumed)
        self.assertIn(b"grpc-status\x0216", came)
        self.assertIn(b"revoked", came)

    # ---- versions, ciphers, protocols ----

    def test_tls_1_1_is_refused(self):
        self.fails_as("protocol_version", lambda: self.s_client("-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"))

    def test_tls_1_2_is_refused_in_production_and_taken_in_development(self):
        self.assertIn("TLSv1.2", self.s_client("-tls1_2"))
        hub = fixture.Hub().start(env={"SENTINEL_HUB_SECURITY": "production"})
        self.addCleanup(hub.stop)
        self.fails_as("protocol_version", lambda: self.s_client("-tls1_2", hub=hub), hub=hub)
        self.assertIn("TLSv1.3", self.s_client("-tls1_3", hub=hub))

    def test_no_cipher_in_common(self):
        self.fails_as("no_shared_cipher", lambda: self.s_client("-tls1_2", "-cipher", "AES128-SHA"))

    def test_a_client_without_http_2(self):
        self.fails_as("no_http2", lambda: self.s_client("-quiet", "-no_ign_eof", alpn=""))

    def test_plaintext(self):
        self.fails_as("not_tls", lambda: run(fixture.GRPCURL, "-plaintext", "-connect-timeout", "0.5", f"127.0.0.1:{self.hub.port}", "list", check=None))

    # ---- time and numbers ----

    def connect(self, first: bytes = b"", hub=None, source: str = "127.0.0.1") -> socket.socket:
        raw = socket.create_connection(("127.0.0.1", (hub or self.hub).port), timeout=20, source_address=(source, 0))
        self.addCleanup(raw.close)
        if first:
            raw.sendall(first)
        return raw

    def until_closed(self, raw: socket.socket):
        """By a reset too: what was sent is not read before the socket is closed."""
        try:
            self.assertEqual(raw.recv(1), b"")
        except ConnectionResetError:
            pass

    def test_silence_and_half_a_hello_time_out(self):
        raws = []
        self.fails_as("timed_out", lambda: raws.extend((self.connect(), self.connect(HALF_A_HELLO))))
        for raw in raws:
            self.until_closed(raw)

    def test_a_client_that_goes_away(self):
        self.fails_as("closed", lambda: self.connect(HALF_A_HELLO).close())

    def test_a_crowd_of_half_open_handshakes_keeps_nobody_out(self):
        free = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200
        hub = fixture.Hub().start(env={"SENTINEL_HUB_LISTEN_MAX_HANDSHAKES": "64"})
        self.addCleanup(hub.stop)
        crowd = [self.connect(HALF_A_HELLO if i % 2 else b"", hub) for i in range(min(3000, free))]
        status = hub.ask(STATUS)
        self.assertLessEqual(int(status.get("handshakesUnderWay", 0)), 64)
        self.assertGreaterEqual(self.count("crowded_out", hub), len(crowd) - 64)
        for raw in crowd:
            raw.close()

    # ---- PROXY protocol ----

    def proxied(self, source: str, command: int = 0x21) -> bytes:
        addresses = socket.inet_aton(source) + socket.inet_aton("10.0.0.1") + struct.pack("!HH", 41234, 8082)
        return PROXY + bytes([command, 0x11]) + struct.pack("!H", len(addresses)) + addresses

    def test_a_proxy_header_counts_only_from_a_trusted_proxy(self):
        self.fails_as("proxy_header_forbidden", lambda: self.until_closed(self.connect(self.proxied("192.0.2.7"))))

    def proxied_in_text(self, source: str) -> bytes:
        return f"PROXY TCP{6 if ':' in source else 4} {source} {'::1' if ':' in source else '10.0.0.1'} 41234 8082\r\n".encode()

    def test_a_header_of_version_1_counts_only_from_a_trusted_proxy(self):
        self.fails_as("proxy_header_forbidden", lambda: self.until_closed(self.connect(self.proxied_in_text("192.0.2.7"))))

    def test_a_trusted_proxy_names_its_client_on_both_listeners(self):
        self.check_trusted_proxy(self.proxied)

    def test_a_trusted_proxy_may_speak_version_1(self):
        """As nginx does."""
        hub = self.check_trusted_proxy(self.proxied_in_text)
        self.until_closed(self.connect(self.proxied_in_text("2001:db8::7") + b"GET / HTTP/1.1\r\n", hub))
        wait_until(lambda: 'peer=[2001:db8::7]:41234 reason=not_tls' in hub.log, "the client's address in the log")
        before = hub.log.count("reason=proxy_header_missing")
        for bad in (b"PROXY TCP4 192.0.2.7 10.0.0.1 041234 8082\r\n", b"PROXY UNKNOWN " + 100 * b"x", b"PROXY TCP4 192.0.2.7\n"):
            self.until_closed(self.connect(bad, hub))
        wait_until(lambda: hub.log.count("reason=proxy_header_missing") == before + 3, "the bad lines in the log")
        self.until_closed(self.connect(b"PROXY UNKNOWN\r\nno TLS", hub))  # the proxy is the peer
        wait_until(lambda: re.search(r"peer=127\.0\.0\.1:\d+ reason=not_tls", hub.log), "the proxy's own address in the log")

    def check_trusted_proxy(self, proxied) -> fixture.Hub:
        hub = fixture.Hub().start(env={"SENTINEL_HUB_LISTEN_TRUSTED_PROXIES": "127.0.0.1/32"})
        self.addCleanup(hub.stop)
        context = ssl.create_default_context(cafile=str(hub.admin / "ca-cert.pem"))
        context.set_alpn_protocols(["h2"])
        raw = self.connect(proxied("192.0.2.7"), hub)
        with context.wrap_socket(raw, server_hostname="127.0.0.1") as tls:
            tls.sendall(PREFACE)
            self.assertTrue(tls.recv(9))
        self.until_closed(self.connect(proxied("192.0.2.8") + b"GET / HTTP/1.1\r\n", hub))
        wait_until(lambda: "peer=192.0.2.8:41234 reason=not_tls" in hub.log, "the client's address in the log")
        self.until_closed(self.connect(HALF_A_HELLO, hub))
        wait_until(lambda: "reason=proxy_header_missing" in hub.log, "the proxy without a header in the log")
        with socket.create_connection(("127.0.0.1", hub.https_port), timeout=20) as raw:
            raw.sendall(proxied("192.0.2.9")[:20])
            raw.sendall(proxied("192.0.2.9")[20:])
            web = ssl.create_default_context(cafile=str(hub.admin / "ca-cert.pem"))
            with web.wrap_socket(raw, server_hostname="127.0.0.1") as tls:
                tls.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                self.assertIn(b"401", tls.recv(4096))
        wait_until(lambda: "192.0.2.9:41234" in hub.log, "the client's address in the web's log")
        return hub

    def test_an_address_that_shows_no_identity_is_slowed_down_and_refused(self):
        hub = fixture.Hub().start(env={"SENTINEL_HUB_LISTEN_TRUSTED_PROXIES": "127.0.0.2"})
        self.addCleanup(hub.stop)

        def come(client: str):
            self.connect(self.proxied(client) + b"no TLS", hub, source="127.0.0.2").close()

        def is_refused() -> bool:
            for _ in range(200):
                come("198.51.100.1")
            return int(hub.ask(STATUS).get("connectionsRefused", 0)) > 0
        wait_until(is_refused, "the address to be refused")
        status = hub.ask(STATUS)
        self.assertGreater(int(status["connectionsDelayed"]), 0)
        self.assertIn('reason="too many connections of this address"', hub.log)
        before = self.count("not_tls", hub)
        come("198.51.100.2")  # another address is not
        wait_until(lambda: self.count("not_tls", hub) > before, "the other address to be looked at")


if __name__ == "__main__":
    fixture.main()
