# SPDX-License-Identifier: Apache-2.0
"""Hostile and broken input on StreamMetrics: a clear refusal, nothing of the batch stored, memory bounded."""

import os
import pathlib
import unittest

import fixture
from fixture import batch, gauge, now_us


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(n: int) -> bytes:
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


class BadInput(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub().start()
        cls.identity = cls.hub.issue("agent", "hostile")

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    def stream(self):
        stream = fixture.Stream(self.hub, self.identity).hello(os.urandom(16))
        self.addCleanup(stream.close)
        stream.welcome()
        return stream

    def refusal(self, message) -> dict:
        """Sends one good sample and then `message`, which must be refused; the good one must be there alone."""
        before = self.stored()
        stream = self.stream()
        stream.send(batch=batch(1, [gauge(1, "test.good")], [(1, [1])], [(now_us(), 1, [1.0])]))
        stream.ack(1)
        stream.send(batch=message)
        error = stream.error()
        self.assertEqual(self.stored(), before + 1, "something of a refused batch was stored")
        return error

    def stored(self) -> int:
        return int(self.hub.ask("sentinel.admin.v1.AdminService/GetStatus").get("samplesStored", 0))

    def raw(self, payload: bytes) -> dict:
        """Bytes in place of a request, after a hello."""
        import queue
        s = fixture.stubs()
        channel = self.hub.channel(self.identity)
        self.addCleanup(channel.close)
        outgoing = queue.Queue()
        call = channel.stream_stream(
            "/sentinel.telemetry.v1.TelemetryService/StreamMetrics",
            request_serializer=lambda x: x if isinstance(x, bytes) else x.SerializeToString(),
            response_deserializer=s.telemetry.StreamMetricsResponse.FromString)(iter(outgoing.get, None), timeout=60)
        outgoing.put(s.telemetry.StreamMetricsRequest(hello=s.telemetry.StreamHello(
            spool_id=os.urandom(16), first_sequence=1, instance=os.urandom(16), time_unix_us=now_us())))
        next(call)
        outgoing.put(payload)
        import grpc
        try:
            next(call)
            self.fail("it was taken")
        except grpc.RpcError as failure:
            return fixture.rich(failure)
        finally:
            outgoing.put(None)

    def assert_invalid(self, error, where: str):
        self.assertEqual(error["code"], "INVALID_ARGUMENT", error)
        self.assertEqual(error["field"], where, error)
        self.assertTrue(error["field_description"])

    def test_a_wrong_number_of_values(self):
        self.assert_invalid(self.refusal(batch(2, [gauge(2, "test.bad")], [(2, [1, 2])], [(now_us(), 2, [1.0])])),
                            "batch.scrapes[0].values")

    def test_an_unknown_layout(self):
        self.assert_invalid(self.refusal(batch(2, scrapes=[(now_us(), 99, [1.0])])), "batch.scrapes[0].layout_id")

    def test_an_unknown_series_in_a_layout(self):
        self.assert_invalid(self.refusal(batch(2, [], [(2, [1, 42])])), "batch.layouts[0].series_ids[1]")

    def test_a_good_scrape_beside_a_bad_one_is_not_stored(self):
        self.assert_invalid(self.refusal(batch(2, scrapes=[(now_us(), 1, [1.0]), (now_us(), 1, [1.0, 2.0])])),
                            "batch.scrapes[1].values")

    def test_an_absent_place_out_of_the_layout(self):
        self.assert_invalid(self.refusal(batch(2, scrapes=[(now_us(), 1, [1.0], [7])])), "batch.scrapes[0].absent")

    def test_a_metric_name_of_10_kb(self):
        error = self.refusal(batch(2, [gauge(2, "x" * 10_240)]))
        self.assert_invalid(error, "batch.series[0].name")
        self.assertIn("255", error["field_description"])

    def test_an_attribute_given_twice(self):
        t = fixture.stubs().telemetry
        series = gauge(2, "test.bad")
        series.attributes.extend([t.Attribute(key="k", value="1"), t.Attribute(key="k", value="2")])
        self.assert_invalid(self.refusal(batch(2, [series])), "batch.series[0].attributes")

    def test_a_series_declared_twice(self):
        self.assert_invalid(self.refusal(batch(2, [gauge(1, "test.other")])), "batch.series[0].id")

    def test_invalid_utf8_is_named_by_its_path(self):
        series = varint(1 << 3) + varint(5) + field(2, b"bad\xff\xfename")
        error = self.raw(field(2, varint(1 << 3) + varint(1) + field(2, series)))
        self.assert_invalid(error, "batch.series[0].name")

    def test_a_nul_in_a_name(self):
        series = varint(1 << 3) + varint(5) + field(2, b"bad\0name")
        self.assert_invalid(self.raw(field(2, field(2, series))), "batch.series[0].name")

    def test_nesting_10000_deep(self):
        payload = b""
        for _ in range(10_000):
            payload = field(2, payload)
        error = self.raw(payload)
        self.assertIn(error["code"], ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"))
        self.assertTrue(self.hub.is_running())

    def test_4_mib_of_tiny_messages_leaves_memory_bounded(self):
        def resident() -> int:
            status = pathlib.Path(f"/proc/{self.hub.process.pid}/status").read_text()
            return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
        before = resident()
        for _ in range(3):
            error = self.raw(field(2, field(2, b"") * (2 * 1024 * 1024 - 8)))
            self.assertIn(error["code"], ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"), error)
        if not fixture.is_sanitized():
            self.assertLess(resident() - before, 256 * 1024 * 1024)

    def test_a_message_of_5_mib_names_the_limit(self):
        error = self.raw(b"\x00" * (5 * 1024 * 1024))
        self.assertEqual(error["code"], "RESOURCE_EXHAUSTED")
        self.assertIn("4194304", error["message"] + (error["quota"] or ""))

    def test_bytes_that_are_no_message(self):
        self.assertEqual(self.raw(b"\xff\xff\xff\xff\xff")["code"], "INVALID_ARGUMENT")

    def test_too_many_samples_in_a_batch_name_the_limit(self):
        now = now_us()
        error = self.refusal(batch(2, [gauge(2, "test.wide")], [(2, [2])], [(now - i, 2, [1.0]) for i in range(65_537)]))
        self.assertEqual((error["code"], error["quota"]), ("RESOURCE_EXHAUSTED", "batch_samples"))
        self.assertIn("65536", error["message"].replace(",", ""))

    def test_too_many_new_series_name_the_limit(self):
        error = self.refusal(batch(2, [gauge(i + 2, f"test.many.{i}") for i in range(4_097)]))
        self.assertEqual((error["code"], error["quota"]), ("RESOURCE_EXHAUSTED", "batch_new_series"))


if __name__ == "__main__":
    fixture.main()
