# SPDX-License-Identifier: Apache-2.0
"""SIGTERM drains, SIGHUP reloads: live streams lose nothing and double nothing."""

import os
import signal
import ssl
import socket
import time
import unittest

import fixture
from fixture import batch, gauge, now_us


def serial_of(hub) -> str:
    """The serial number of the certificate that a new connection is shown."""
    context = ssl.create_default_context(cafile=str(hub.admin / "ca-cert.pem"))
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", hub.port)) as raw, context.wrap_socket(raw, server_hostname="localhost") as tls:
        return tls.getpeercert()["serialNumber"]


def unfinished_call(hub, identity) -> ssl.SSLSocket:
    """A call that cannot end: an HTTP/2 client that gives its answer no room to come (a window of 0)."""
    def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    def header(name: str, value: str) -> bytes:  # HPACK, literal, never indexed
        return b"\x10" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()

    context = ssl.create_default_context(cafile=str(hub.admin / "ca-cert.pem"))
    context.load_cert_chain(identity / "client-cert.pem", identity / "client-key.pem")
    context.set_alpn_protocols(["h2"])
    tls = context.wrap_socket(socket.create_connection(("127.0.0.1", hub.port)), server_hostname="localhost")
    headers = b"".join(header(*pair) for pair in (
        (":method", "POST"), (":scheme", "https"), (":path", "/sentinel.admin.v1.AdminService/GetStatus"), (":authority", "localhost"),
        ("te", "trailers"), ("content-type", "application/grpc")))
    tls.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"\x00\x04\x00\x00\x00\x00") + frame(4, 1, 0)
                + frame(1, 4, 1, headers) + frame(0, 1, 1, b"\x00\x00\x00\x00\x00"))
    buffered = b""
    while True:  # until the headers of the answer are here: the call is under way
        buffered += tls.recv(65536)
        at = 0
        while len(buffered) >= at + 9:
            if buffered[at + 3] == 1:
                return tls
            at += 9 + int.from_bytes(buffered[at:at + 3], "big")


class DrainReload(unittest.TestCase):
    def test_a_second_sigterm_cuts_a_call_that_does_not_end(self):
        hub = fixture.Hub().start()
        tls = unfinished_call(hub, hub.admin)
        hub.process.send_signal(signal.SIGTERM)
        fixture.wait_until(lambda: "event=draining" in hub.log, "the drain to begin")
        time.sleep(1)  # time enough for a hub that would not wait
        self.assertTrue(hub.is_running(), hub.log)
        hub.process.send_signal(signal.SIGTERM)
        hub.wait_exit(expect=0)
        self.assertIn("event=drain_cut", hub.log)
        tls.close()

    def test_the_drain_ends_at_its_timeout(self):
        hub = fixture.Hub(flags=("--drain-timeout", "1s"))
        hub.start()
        tls = unfinished_call(hub, hub.admin)
        hub.process.send_signal(signal.SIGTERM)
        hub.wait_exit(expect=0)
        self.assertIn("event=drain_cut", hub.log)
        tls.close()
        hub.start()
        hub.stop(expect=0)

    def test_sighup_with_broken_certificates_keeps_the_old_ones(self):
        hub = fixture.Hub().start()
        before, cert, key = serial_of(hub), hub.state / "certs" / "server-cert.pem", hub.state / "certs" / "server-key.pem"
        whole = cert.read_bytes()

        def reload_fails(n: int, word: str):
            hub.process.send_signal(signal.SIGHUP)
            fixture.wait_until(lambda: hub.log.count("event=reload_failed") == n, "the refusal")
            self.assertIn(word, hub.log.rsplit("event=reload_failed", 1)[1].splitlines()[0])
            self.assertEqual(serial_of(hub), before)
            self.assertEqual(hub.ask("sentinel.admin.v1.AdminService/GetStatus")["state"], "SERVING")
        cert.write_bytes(whole[:200])
        reload_fails(1, "server-cert.pem")
        cert.unlink()
        reload_fails(2, "server-cert.pem")
        cert.write_bytes((hub.admin / "client-cert.pem").read_bytes())  # of another key, and no server's
        reload_fails(3, "server-key.pem")
        cert.write_bytes(whole)
        key.chmod(0o644)
        reload_fails(4, "chmod 600")
        key.chmod(0o600)
        hub.process.send_signal(signal.SIGHUP)
        fixture.wait_until(lambda: "event=reloaded" in hub.log, "the reload")
        self.assertEqual(serial_of(hub), before)
        hub.stop(expect=0)

    def test_sigterm_acknowledges_what_it_took_and_says_so(self):
        hub = fixture.Hub().start()
        identity, spool = hub.issue("agent", "drained"), os.urandom(16)
        stream = fixture.Stream(hub, identity).hello(spool)
        stream.welcome()
        start = now_us() - 3600_000_000
        n = 300
        for i in range(1, n + 1):
            stream.send(batch=batch(i, [gauge(1, "test.drain")] if i == 1 else [], [(1, [1])] if i == 1 else [],
                                    [(start + i * 1_000_000, 1, [float(i)])]))
            if i == 100:
                acked = stream.ack(1)  # or more: acknowledgements are cumulative
                hub.process.send_signal(signal.SIGTERM)
        import grpc
        try:
            while True:
                response = stream.receive()
                if response.WhichOneof("message") == "ack":
                    acked = response.ack.sequence
        except grpc.RpcError as failure:
            error = fixture.rich(failure)
        self.assertEqual((error["code"], error["reason"]), ("UNAVAILABLE", "HUB_STOPPING"))
        self.assertIsNotNone(error["retry_s"])
        hub.wait_exit(expect=0)
        stream.close()
        hub.start()
        runs = hub.ask("sentinel.query.v1.QueryService/GetAgent", {"agent_id": "drained"})["runs"]
        self.assertEqual(int(runs[0]["lastSequence"]), acked, "what was acknowledged is what is stored")
        stream = fixture.Stream(hub, identity).hello(spool, first=1, last=n)
        resume = stream.welcome().resume_after_sequence
        self.assertEqual(resume, acked)
        for i in range(resume + 1, n + 1):
            first = i == resume + 1
            stream.send(batch=batch(i, [gauge(1, "test.drain")] if first else [], [(1, [1])] if first else [],
                                    [(start + i * 1_000_000, 1, [float(i)])]))
        if resume < n:
            stream.ack(n)
        self.assertEqual(fixture.count_of(hub, "test.drain", "drained"), n)
        stream.close()
        hub.stop(expect=0)

    def test_health_says_not_serving_while_it_drains(self):
        hub = fixture.Hub().start()
        s = fixture.stubs()
        channel = hub.channel()
        watch = s.health_grpc.HealthStub(channel).Watch(s.health.HealthCheckRequest(), timeout=60)
        self.assertEqual(next(watch).status, s.health.HealthCheckResponse.SERVING)
        hub.process.send_signal(signal.SIGTERM)
        self.assertEqual(next(watch).status, s.health.HealthCheckResponse.NOT_SERVING)
        channel.close()
        hub.wait_exit(expect=0)

    def test_sighup_takes_a_new_certificate_and_new_settings_with_live_streams_unharmed(self):
        hub = fixture.Hub()
        config = hub.home / "config.yaml"
        config.write_text("limits:\n  batch_samples: 10\n")
        hub.flags = ["--config", str(config)]
        hub.start()
        stream = fixture.Stream(hub, hub.issue("agent", "steady")).hello(os.urandom(16))
        stream.welcome()
        stream.send(batch=batch(1, [gauge(1, "test.steady")], [(1, [1])], [(now_us(), 1, [1.0])]))
        stream.ack(1)
        before = serial_of(hub)

        certs = hub.state / "certs"
        self.reissue(hub, certs)
        config.write_text("limits:\n  batch_samples: 2\n")
        hub.process.send_signal(signal.SIGHUP)
        fixture.wait_until(lambda: serial_of(hub) != before, "the new certificate")
        fixture.wait_until(lambda: "event=reloaded" in hub.log, "the log to say so")

        stream.send(batch=batch(2, scrapes=[(now_us(), 1, [2.0])]))
        stream.ack(2)
        stream.send(batch=batch(3, scrapes=[(now_us() + i, 1, [3.0]) for i in range(3)]))
        error = stream.error()
        self.assertEqual((error["code"], error["quota"]), ("RESOURCE_EXHAUSTED", "batch_samples"))
        stream.close()

        config.write_text("limits:\n  batch_samplez: 2\n")
        hub.process.send_signal(signal.SIGHUP)
        fixture.wait_until(lambda: "event=reload_failed" in hub.log, "the refusal of the bad file")
        self.assertIn("batch_samples", hub.log.rsplit("event=reload_failed", 1)[1].splitlines()[0])
        self.assertTrue(hub.is_running())
        hub.stop(expect=0)

    def reissue(self, hub, certs):
        """Puts another certificate of the hub's own CA in place, as an operator with openssl would."""
        work = fixture.scratch()
        fixture.sign(hub, "hubs", work, "renewed", days=30, usage="serverAuth,clientAuth")
        for name in ("key", "cert"):
            (certs / f"server-{name}.pem").write_bytes((work / f"client-{name}.pem").read_bytes())


if __name__ == "__main__":
    fixture.main()
