# SPDX-License-Identifier: Apache-2.0
"""Beside what goes on all the time: days that expire while agents stream, and clients that do not read what they asked for."""

import os
import signal
import socket
import ssl
import threading
import unittest

import fixture
from fixture import batch, gauge, now_us

DAY_US = 86_400_000_000
N_ROWS = 40


class Streaming:
    """An agent that streams live rows until it is told to stop; knows how many were acknowledged."""

    def __init__(self, hub: fixture.Hub, name: str):
        self.hub, self.name, self.acked = hub, name, 0
        self.stream = fixture.Stream(hub, hub.issue("agent", name)).hello(os.urandom(16))
        self.stream.welcome()
        self.is_over = threading.Event()
        self.failure = None
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        try:
            sequence = 0
            while not self.is_over.is_set():
                sequence += 1
                first = sequence == 1
                self.stream.send(batch=batch(sequence, [gauge(1, "live.load"), gauge(2, "live.noise")] if first else [],
                                             [(1, [1, 2])] if first else [], [(now_us(), 1, [float(sequence), os.getpid() * 1.5])]))
                self.acked = self.stream.ack(sequence)
        except Exception as failure:  # to be told where it is looked for
            self.failure = failure

    def stop(self):
        self.is_over.set()
        self.thread.join(fixture.PATIENCE)
        if self.failure:
            raise AssertionError(f"{self.name}: {self.failure}")
        self.stream.close()


def count(hub: fixture.Hub, name: str, begin: str, end: str = "now") -> int:
    answer = hub.ask("sentinel.query.v1.QueryService/QueryMetrics",
                     {"name": name, "range": {"from": begin, "to": end}, "step_text": "365d", "aggregation": "AGGREGATION_COUNT",
                      "group_aggregation": "AGGREGATION_SUM", "group_all": True})
    return int(sum(float(p["value"]) for s in answer.get("series", []) for p in s["points"]))


class Retention(unittest.TestCase):
    def test_days_expire_while_agents_stream(self):
        hub = fixture.Hub()
        config = hub.home / "config.yaml"
        config.write_text("retention: 15d\nstore:\n  seal_age: 1s\n")
        hub.flags = ["--config", str(config)]
        self.addCleanup(hub.stop)
        hub.start()
        # Rows of eight days, one metric on all of them and one on the oldest alone.
        stream = fixture.Stream(hub, hub.issue("agent", "old-1")).hello(os.urandom(16))
        stream.welcome()
        today = now_us() // DAY_US * DAY_US
        series = [gauge(1, "days.all", place="x"), gauge(2, "days.oldest")]
        for age in range(8):
            begin = today - age * DAY_US if age else now_us() - 100_000
            stream.send(batch=batch(age + 1, series if age == 0 else [], [(1, [1]), (2, [1, 2])] if age == 0 else [],
                                    [(begin + i * 1000, 2 if age == 7 else 1, [float(age)] * (2 if age == 7 else 1)) for i in range(N_ROWS)]))
        stream.ack(8)
        days = hub.state / "db" / "default" / "metrics"
        fixture.wait_until(lambda: len(list(days.iterdir())) == 8, "the days to be sealed")
        live = [Streaming(hub, f"live-{i}") for i in range(2)]
        fixture.wait_until(lambda: all(one.acked > 20 for one in live), "the streams to run")
        self.assertEqual(count(hub, "days.all", "-14d"), 8 * N_ROWS)

        config.write_text("retention: 3d\nstore:\n  seal_age: 1s\n")
        hub.process.send_signal(signal.SIGHUP)
        fixture.wait_until(lambda: "event=reloaded" in hub.log, "the settings to be read again")
        # Three days and what is left of a fourth stay: nothing that is newer than the retention goes.
        fixture.wait_until(lambda: len(list(days.iterdir())) == 4, "the days to expire")
        self.assertEqual(hub.log.count("event=day_expired"), 4)
        acked = [one.acked for one in live]
        fixture.wait_until(lambda: all(one.acked > before + 20 for one, before in zip(live, acked)), "the streams to go on")

        # Over the border, at it, and behind it.
        self.assertEqual(count(hub, "days.all", "-14d"), 4 * N_ROWS)
        self.assertEqual(count(hub, "days.all", "-14d", "-5d"), 0)
        points = fixture.points(hub, "days.all", "old-1", range={"from": "-14d", "to": "now"}, step_text="1d")
        self.assertEqual(sorted({value for _, value in points}), [0, 1, 2, 3])
        self.assertEqual(count(hub, "days.oldest", "-14d"), 0)
        # The series that are still used are known to the open stream: it goes on without naming them again.
        stream.send(batch=batch(9, [], [], [(now_us(), 1, [9.0])]))
        stream.ack(9)
        self.assertEqual(count(hub, "days.all", "-14d"), 4 * N_ROWS + 1)
        stream.send(batch=batch(10, [], [], [(now_us() - 4 * DAY_US, 1, [10.0])]))
        told = stream.error()
        self.assertEqual((told["code"], told["reason"]), ("INVALID_ARGUMENT", "TIME_OUT_OF_RANGE"))

        for one in live:
            one.stop()
        for again in range(2):
            for one in live:
                self.assertEqual(fixture.count_of(hub, "live.load", one.name), one.acked)
            self.assertEqual(count(hub, "days.all", "-14d"), 4 * N_ROWS + 1)
            if again == 0:
                hub.kill()
                hub.start()
        hub.stop(expect=0)


class DeafClient(unittest.TestCase):
    def ask_and_not_read(self, hub: fixture.Hub) -> ssl.SSLSocket:
        """QueryMetrics of everything, by an HTTP/2 client that gives the answer no room to come (windows of 0)."""
        def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
            return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

        def header(name: str, value: str) -> bytes:  # HPACK, literal, never indexed
            return b"\x10" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()

        from sentinel.query.v1 import query_pb2
        question = query_pb2.QueryMetricsRequest(name="live.load", range={"from": "-1h"}, step_text="1s").SerializeToString()
        context = ssl.create_default_context(cafile=str(hub.admin / "ca-cert.pem"))
        context.load_cert_chain(hub.admin / "client-cert.pem", hub.admin / "client-key.pem")
        context.set_alpn_protocols(["h2"])
        tls = context.wrap_socket(socket.create_connection(("127.0.0.1", hub.port)), server_hostname="localhost")
        headers = b"".join(header(*pair) for pair in (
            (":method", "POST"), (":scheme", "https"), (":path", "/sentinel.query.v1.QueryService/QueryMetrics"),
            (":authority", "localhost"), ("te", "trailers"), ("content-type", "application/grpc")))
        tls.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"\x00\x04\x00\x00\x00\x00") + frame(4, 1, 0)
                    + frame(1, 4, 1, headers) + frame(0, 1, 1, b"\x00" + len(question).to_bytes(4, "big") + question))
        return tls

    def test_who_does_not_read_answers_holds_nothing_back(self):
        hub = fixture.Hub()
        (hub.home / "config.yaml").write_text("journal:\n  segment_size: 1MiB\n  size: 4MiB\nstore:\n  seal_age: 1s\n")
        hub.flags = ["--config", str(hub.home / "config.yaml")]
        self.addCleanup(hub.stop)
        hub.start()
        fixture.stubs()
        live = Streaming(hub, "live-1")
        fixture.wait_until(lambda: live.acked > 50, "the stream to run")
        deaf = [self.ask_and_not_read(hub) for _ in range(16)]
        identities = hub.home / "identities"
        fixture.run(fixture.program("sentinel-bench"), "identities", "--state-dir", hub.state, "--out", identities, "--agents", 8)
        fixture.run(fixture.program("sentinel-bench"), "metrics", "--hub", f"127.0.0.1:{hub.port}", "--identities", identities,
                    "--operator", hub.admin, "--agents", 8, "--series", 100, "--duration", "6s", "--warmup", "0s", "--rate", 400000,
                    "--verify")
        journal = hub.state / "db" / "default" / "journal"
        # The journal has room for 4 MiB that are not sealed, and one to write to: what is sealed goes.
        fixture.wait_until(lambda: len(list(journal.iterdir())) <= 2, "the journal to shrink")
        self.assertEqual(hub.ask("sentinel.admin.v1.AdminService/GetStatus")["state"], "SERVING")
        live.stop()
        self.assertEqual(fixture.count_of(hub, "live.load", "live-1"), live.acked)
        for tls in deaf:
            tls.close()
        hub.stop(expect=0)


if __name__ == "__main__":
    fixture.main()
