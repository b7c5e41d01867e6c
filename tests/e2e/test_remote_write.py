# SPDX-License-Identifier: Apache-2.0
"""remote_write: every sample reaches the receiver with its bits, whatever the receiver and the hub go through meanwhile."""

import os
import signal
import ssl
import struct
import unittest

import fixture
from fixture import batch, now_us
from receiver import Receiver
from test_web import ask, parse


def bits_of(value: float) -> int:
    return struct.unpack("<Q", struct.pack("<d", value))[0]


def float_of(bits: int) -> float:
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


class Source:
    """An agent with `n` series that remembers what was acknowledged: {labels: {ms: bits}}."""

    def __init__(self, hub, name: str, n: int):
        self.hub, self.name, self.n = hub, name, n
        self.identity = hub.issue("agent", name)
        self.sequence = 0
        self.clock_us = now_us() - 3600_000_000
        self.sent: dict = {}
        self.stream = None

    def connect(self):
        self.sequence = 0  # a run of its own: all before is acknowledged
        self.stream = fixture.Stream(self.hub, self.identity).hello(os.urandom(16))
        self.stream.welcome()
        return self

    def labels(self, number: int):
        return (("__name__", "load_value_ratio"), ("agent", self.name), ("place", str(number)))

    def send(self, n_batches: int, n_scrapes: int = 5):
        """Sends and waits for the acknowledgement of all."""
        declared = self.stream.__dict__.setdefault("declared", False)
        for _ in range(n_batches):
            self.sequence += 1
            scrapes = []
            for _ in range(n_scrapes):
                self.clock_us += 1_000_000
                values = [self.clock_us / 1e6 * (i + 1) for i in range(self.n)]
                scrapes.append((self.clock_us, 1, values))
                for i, value in enumerate(values):
                    self.sent.setdefault(self.labels(i), {})[self.clock_us // 1000] = bits_of(value)
            series = [] if declared else [fixture.gauge(i + 1, "load.value", place=str(i)) for i in range(self.n)]
            layouts = [] if declared else [(1, list(range(1, self.n + 1)))]
            self.stream.send(batch=batch(self.sequence, series, layouts, scrapes))
            declared = self.stream.declared = True
        self.stream.ack(self.sequence)

    def close(self):
        self.stream.close()


class RemoteWrite(unittest.TestCase):
    def setUp(self):
        self.receiver = Receiver().start()
        self.addCleanup(self.receiver.stop)

    def hub(self, *flags, url: str | None = None):
        hub = fixture.Hub(flags=("--remote-write-url", url or self.receiver.url(), *flags)).start()
        self.addCleanup(lambda: hub.is_running() and hub.stop())
        self.viewer = hub.admin
        return hub

    def figure(self, hub, name: str) -> float:
        return parse(ask(hub, "/metrics", hub.admin)[2])[f"sentinel_hub_remote_write_{name}"]["samples"][()][0]

    def wait_for_all(self, *sources):
        n = sum(len(row) for source in sources for row in source.sent.values())
        fixture.wait_until(lambda: self.receiver.distinct() >= n, f"{n} samples at the receiver")
        self.assertEqual(self.receiver.problems, [])
        want = {labels: row for source in sources for labels, row in source.sent.items()}
        with self.receiver.lock:
            self.assertEqual(set(self.receiver.got), set(want))
            for labels, row in want.items():
                got = self.receiver.got[labels]
                self.assertEqual(set(got), set(row))
                for ms, bits in row.items():
                    self.assertEqual(set(got[ms]), {bits}, (labels, ms))

    def test_bits_and_times_arrive(self):
        hub = self.hub("--remote-write-labels", "hub=eu-1,zone=b,Above=x")
        t = fixture.stubs().telemetry
        stream = fixture.Stream(hub, hub.issue("agent", "exact")).hello(os.urandom(16))
        stream.welcome()
        odd = [0x0, 0x8000000000000000, 0x7FF0000000000000, 0xFFF0000000000000, 0x7FF8000000000000, 0x7FF8DEADBEEF0001,
               0x7FF0000000000002, 0x7FF0000000000003, 0x1, 0x3FF0000000000001]
        series = [t.Series(id=i + 1, name="odd.bits", unit="By", kind=t.KIND_COUNTER,
                           attributes=[t.Attribute(key="a.b", value=f"{i}"), t.Attribute(key="agent", value="me"),
                                       t.Attribute(key="zone", value="own"), t.Attribute(key="ü", value="ß")])
                  for i in range(len(odd))]
        at = now_us() // 1000 * 1000 + 999
        stream.send(batch=batch(1, series, [(1, list(range(1, len(odd) + 1)))],
                                [(at, 1, [float_of(b) for b in odd]), (at + 1, 1, [float_of(b) for b in odd], [1, 4])]))
        stream.ack(1)
        stream.close()
        fixture.wait_until(lambda: self.receiver.distinct() >= 2 * len(odd) - 2, "the samples")
        self.assertEqual(self.receiver.problems, [])
        want = {}
        for i, bits in enumerate(odd):
            bits = 0x7FF8000000000001 if bits == 0x7FF0000000000002 else bits  # not by accident a stale marker
            labels = (("Above", "x"), ("__name__", "odd_bits_bytes_total"), ("a_b", f"{i}"), ("agent", "exact"),
                      ("attribute_agent", "me"), ("hub", "eu-1"), ("key__", "ß"), ("zone", "own"))
            want[labels] = {at // 1000: [bits]} | ({} if i in (1, 4) else {at // 1000 + 1: [bits]})
        self.assertEqual(self.receiver.got, want)
        self.assertEqual(hub.stop(), 0)

    def test_a_receiver_that_is_away_and_a_hub_that_is_killed_lose_nothing(self):
        hub = self.hub("--remote-write-batch-samples", "1000")
        sources = [Source(hub, f"web-{i}", 40).connect() for i in range(3)]
        for source in sources:
            source.send(3)
        self.wait_for_all(*sources)
        self.receiver.stop()
        for source in sources:
            source.send(5)
        fixture.wait_until(lambda: "event=remote_write_away" in hub.log, "the log to say that the receiver is away")
        self.assertEqual(self.figure(hub, "up"), 0)
        self.assertGreater(self.figure(hub, "lag_chunks"), 0)
        for source in sources:
            source.close()
        hub.kill()
        hub.start()
        for source in sources:
            source.connect().send(5)
        self.receiver.start()
        self.wait_for_all(*sources)
        fixture.wait_until(lambda: "event=remote_write_back" in hub.log, "the log to say that it is back")
        fixture.wait_until(lambda: self.figure(hub, "lag_chunks") == 0, "the queue to be empty")
        self.assertEqual(self.figure(hub, "lost_chunks_total"), 0)
        # A kill in the middle of a request: its samples come again, and nothing is lost or told wrong.
        doubles, waiting = self.receiver.doubles(), self.receiver.n_waiting
        self.receiver.gate.clear()
        for source in sources:
            source.send(5)
        fixture.wait_until(lambda: self.receiver.n_waiting > waiting, "a request to be under way")
        for source in sources:
            source.close()
        hub.kill()
        self.receiver.gate.set()
        hub.start()
        for source in sources:
            source.connect().send(1)
        self.wait_for_all(*sources)
        print(f"doubles: {doubles} after the first kill, {self.receiver.doubles()} in all")
        self.assertGreater(self.receiver.doubles(), doubles)
        for source in sources:
            source.close()
        hub.stop(expect=0)

    def test_a_hub_that_stops_in_order_sends_nothing_twice(self):
        hub = self.hub()
        source = Source(hub, "web-1", 20).connect()
        for _ in range(3):
            source.send(4)
            self.wait_for_all(source)
            source.close()
            hub.stop(expect=0)
            hub.start()
            source.connect()
        source.send(1)
        self.wait_for_all(source)
        source.close()
        self.assertEqual(self.receiver.doubles(), 0)

    def test_429_is_waited_for_as_long_as_it_says(self):
        hub = self.hub()
        self.receiver.script = [(429, {"Retry-After": "2"}, "slow down")]
        source = Source(hub, "web-1", 20).connect()
        source.send(2)
        self.wait_for_all(source)
        source.close()
        first, second = self.receiver.requests[:2]
        self.assertEqual(first["status"], 429)
        self.assertEqual(first["body"], second["body"])
        self.assertGreaterEqual(second["time"] - first["time"], 2.0)
        self.assertEqual(first["peer"], second["peer"], "the connection was not kept")
        self.assertEqual(self.figure(hub, "failed_throttled_total"), 1)
        self.assertEqual(self.receiver.doubles(), 0)

    def test_what_the_receiver_does_not_take_is_dropped_with_a_count(self):
        hub = self.hub()
        source = Source(hub, "web-1", 20).connect()
        for status, name in ((400, "bad"), (413, "large"), (422, "other")):
            self.receiver.script = [(status, {}, "out of order sample\nsecond line")]
            before = len(self.receiver.requests)
            source.send(1)
            fixture.wait_until(lambda: len(self.receiver.requests) > before, "the request")
            fixture.wait_until(lambda: self.figure(hub, f"dropped_{name}_samples_total") == 100, f"{status} to be counted")
            source.sent.clear()  # given up
        self.assertIn("event=remote_write_dropped", hub.log)
        self.assertIn('status=400 samples=100 reason="out of order sample"', hub.log)
        source.send(1)
        self.wait_for_all(source)
        source.close()
        self.assertEqual(self.figure(hub, "up"), 1)
        self.assertEqual(self.figure(hub, "samples_total"), 100)

    def test_who_we_are_not_allowed_to_be_drops_nothing_and_a_new_token_is_taken(self):
        token = fixture.scratch() / "token"
        token.write_text("first\n")
        hub = self.hub("--remote-write-bearer-token-file", str(token))
        self.receiver.script = [(401, {}, ""), (404, {}, ""), (500, {}, ""), (503, {}, ""), (302, {"Location": "/"}, "")]
        source = Source(hub, "web-1", 20).connect()
        source.send(1)
        fixture.wait_until(lambda: self.receiver.requests, "a request")
        token.write_text("second")
        self.wait_for_all(source)
        source.close()
        self.assertEqual(self.receiver.requests[0]["headers"]["authorization"], "Bearer first")
        self.assertEqual(self.receiver.requests[-1]["headers"]["authorization"], "Bearer second")
        self.assertEqual(self.figure(hub, "failed_denied_total"), 3)
        self.assertEqual(self.figure(hub, "failed_server_total"), 2)
        self.assertNotIn("first", hub.log)

    def test_a_receiver_that_does_not_answer_slows_nobody(self):
        hub = self.hub("--remote-write-batch-samples", "500")
        self.receiver.gate.clear()
        source = Source(hub, "web-1", 50).connect()
        source.send(40)  # each is acknowledged while the receiver holds the first request
        self.assertEqual(self.receiver.distinct(), 0)
        self.assertGreater(self.figure(hub, "lag_chunks"), 0)
        self.receiver.gate.set()
        self.wait_for_all(source)
        source.close()
        self.assertEqual(self.receiver.doubles(), 0)

    def test_a_request_that_is_never_answered_is_sent_again(self):
        hub = self.hub("--remote-write-timeout", "500ms")
        self.receiver.gate.clear()
        source = Source(hub, "web-1", 5).connect()
        source.send(1)
        fixture.wait_until(lambda: self.figure(hub, "failed_network_total") >= 2, "two tries")
        self.assertIn("remote_write.timeout", hub.log)
        self.receiver.gate.set()
        self.wait_for_all(source)
        source.close()

    def test_https_with_a_client_certificate(self):
        issuer = fixture.Hub()
        certs = issuer.state / "certs"
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(issuer.admin / "ca-cert.pem"))
        context.load_cert_chain(certs / "server-cert.pem", certs / "server-key.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        self.receiver.context = context
        config = fixture.scratch() / "config.yaml"
        config.write_text(f"remote_write:\n  url: {self.receiver.url('https', 'localhost')}\n")
        hub = fixture.Hub(flags=("--config", str(config))).start()  # the system's roots do not know it
        self.addCleanup(lambda: hub.is_running() and hub.stop())
        source = Source(hub, "web-1", 20).connect()
        source.send(1)
        fixture.wait_until(lambda: "event=remote_write_away" in hub.log, "the handshake to fail")
        self.assertIn("certificate", hub.log.split("event=remote_write_away")[1].splitlines()[0])
        self.assertEqual(self.receiver.requests, [])
        config.write_text(config.read_text() + f"  identity: {issuer.admin}\n  timeout: 20s\n")
        hub.process.send_signal(signal.SIGHUP)
        self.wait_for_all(source)
        self.assertIn("event=reloaded", hub.log)
        config.write_text("remote_write:\n  url: http://127.0.0.1:9/other\n")
        hub.process.send_signal(signal.SIGHUP)
        fixture.wait_until(lambda: "needs_restart=remote_write.url" in hub.log, "the reload")
        config.write_text(f"remote_write:\n  url: {self.receiver.url('https', 'localhost')}\n  identity: /nowhere\n")
        hub.process.send_signal(signal.SIGHUP)
        fixture.wait_until(lambda: "event=reload_failed" in hub.log, "the reload to fail")
        self.assertIn("remote_write.identity: ", hub.log.split("event=reload_failed")[1])
        source.close()

    def test_a_real_agent_reaches_the_receiver(self):
        hub = self.hub()
        with fixture.Agent(hub, "host-1"):
            fixture.wait_until(lambda: any(dict(labels)["__name__"] == "system_cpu_time_seconds_total" for labels in list(self.receiver.got)),
                               "its samples")
        self.assertEqual({dict(labels)["agent"] for labels in self.receiver.got}, {"host-1"})
        self.assertEqual(self.receiver.problems, [])


if __name__ == "__main__":
    fixture.main()
