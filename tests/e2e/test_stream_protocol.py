# SPDX-License-Identifier: Apache-2.0
"""The corners of the stream protocol (proto/sentinel/telemetry/v1/telemetry.proto), with a foreign client."""

import os
import shutil
import struct
import unittest

import fixture
from fixture import batch, crc_of, gauge, now_us

DAY_US = 86_400_000_000


class StreamProtocol(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub().start()

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    def agent(self, name: str):
        return self.hub.issue("agent", name)

    def open(self, identity, spool, **hello):
        stream = fixture.Stream(self.hub, identity).hello(spool, **hello)
        self.addCleanup(stream.close)
        return stream

    def one(self, sequence: int, value: float, declare: bool, time_us: int | None = None):
        """A batch of one sample of one series."""
        return batch(sequence, [gauge(1, "test.value")] if declare else [], [(1, [1])] if declare else [],
                     [(time_us or now_us(), 1, [value])])

    def test_batches_are_acknowledged_and_come_back_bit_exact(self):
        identity, spool = self.agent("exact"), os.urandom(16)
        stream = self.open(identity, spool)
        self.assertEqual(stream.welcome().resume_after_sequence, 0)
        start = now_us() - 20_000_000
        values = [0.1, -0.0, 1e308, 5e-324, 12345.678]
        for i, value in enumerate(values):
            stream.send(batch=self.one(i + 1, value, i == 0, start + i * 2_000_000))
        self.assertEqual(stream.ack(5), 5)
        got = [v for _, v in fixture.points(self.hub, "test.value", "exact")]
        self.assertEqual([struct.pack("<d", v) for v in got], [struct.pack("<d", v) for v in values])
        stream.end()

    def test_a_batch_before_hello_is_refused(self):
        stream = fixture.Stream(self.hub, self.agent("early"))
        self.addCleanup(stream.close)
        stream.send(batch=self.one(1, 1.0, True))
        error = stream.error()
        self.assertEqual((error["code"], error["reason"]), ("INVALID_ARGUMENT", "HELLO_EXPECTED"))

    def test_a_second_hello_is_refused(self):
        spool = os.urandom(16)
        stream = self.open(self.agent("twice"), spool)
        stream.welcome()
        stream.hello(spool)
        error = stream.error()
        self.assertEqual((error["code"], error["reason"]), ("INVALID_ARGUMENT", "HELLO_TWICE"))

    def test_a_spool_id_of_another_length_is_refused(self):
        stream = self.open(self.agent("short"), b"short")
        error = stream.error()
        self.assertEqual((error["code"], error["field"]), ("INVALID_ARGUMENT", "hello.spool_id"))

    def test_a_newer_stream_of_a_spool_takes_over(self):
        identity, spool = self.agent("twin"), os.urandom(16)
        older = self.open(identity, spool)
        older.welcome()
        first = self.one(1, 1.0, True)
        older.send(batch=first)
        older.ack(1)
        newer = self.open(identity, spool, first=2, crc=crc_of(first))
        self.assertEqual(newer.welcome().resume_after_sequence, 1)
        error = older.error()
        self.assertEqual((error["code"], error["reason"]), ("ABORTED", "SPOOL_TAKEN_OVER"))
        newer.send(batch=self.one(2, 2.0, True))
        newer.ack(2)
        self.assertEqual(fixture.count_of(self.hub, "test.value", "twin"), 2)

    def test_a_duplicate_is_acknowledged_again_and_not_stored(self):
        identity, spool = self.agent("again"), os.urandom(16)
        stream = self.open(identity, spool)
        stream.welcome()
        first = self.one(1, 1.0, True)
        stream.send(batch=first)
        stream.ack(1)
        stream.end()
        stream = self.open(identity, spool, first=1, last=1)
        self.assertEqual(stream.welcome().resume_after_sequence, 1)
        stream.send(batch=first)
        stream.ack(1)
        stream.send(batch=self.one(2, 2.0, False))
        stream.ack(2)
        self.assertEqual(fixture.count_of(self.hub, "test.value", "again"), 2)

    def test_a_gap_is_refused_and_nothing_of_it_stored(self):
        stream = self.open(self.agent("gap"), os.urandom(16))
        stream.welcome()
        stream.send(batch=self.one(1, 1.0, True))
        stream.ack(1)
        stream.send(batch=self.one(3, 3.0, False))
        error = stream.error()
        self.assertEqual((error["code"], error["reason"], error["field"]), ("INVALID_ARGUMENT", "SEQUENCE_GAP", "batch.sequence"))
        self.assertEqual(fixture.count_of(self.hub, "test.value", "gap"), 1)

    def test_a_skip_is_the_legal_way_past_a_gap(self):
        t = fixture.stubs().telemetry
        stream = self.open(self.agent("skip"), os.urandom(16))
        stream.welcome()
        stream.send(batch=self.one(1, 1.0, True))
        stream.send(skip=t.Skip(through_sequence=9, reason=t.SKIP_REASON_QUEUE_FULL, records=77))
        stream.send(batch=self.one(10, 10.0, False))
        self.assertEqual(stream.ack(10), 10)
        self.assertEqual(fixture.count_of(self.hub, "test.value", "skip"), 2)
        agent = self.hub.ask("sentinel.query.v1.QueryService/GetAgent", {"agent_id": "skip"})["agent"]
        self.assertEqual(int(agent["samplesSkipped"]), 77)

    def test_an_agent_rolled_back_is_forked(self):
        identity, spool = self.agent("rolled"), os.urandom(16)
        stream = self.open(identity, spool)
        stream.welcome()
        for i in (1, 2, 3):
            stream.send(batch=self.one(i, i, i == 1))
        stream.ack(3)
        stream.end()
        error = self.open(identity, spool, first=2, last=2).error()
        self.assertEqual((error["code"], error["reason"]), ("FAILED_PRECONDITION", "SPOOL_FORKED"))

    def test_another_checksum_of_the_last_batch_is_a_fork(self):
        identity, spool = self.agent("checksum"), os.urandom(16)
        stream = self.open(identity, spool)
        stream.welcome()
        first = self.one(1, 1.0, True)
        stream.send(batch=first)
        stream.ack(1)
        stream.end()
        good = crc_of(first)
        stream = self.open(identity, spool, first=2, crc=good)
        self.assertEqual(stream.welcome().resume_after_sequence, 1)
        stream.end()
        error = self.open(identity, spool, first=2, crc=good ^ 1).error()
        self.assertEqual((error["code"], error["reason"]), ("FAILED_PRECONDITION", "SPOOL_FORKED"))

    def test_backfill_runs_beside_live(self):
        t = fixture.stubs().telemetry
        identity = self.agent("lanes")
        live = self.open(identity, os.urandom(16), lane=t.LANE_LIVE)
        back = self.open(identity, os.urandom(16), lane=t.LANE_BACKFILL)
        live.welcome()
        back.welcome()
        now = now_us()
        for i in range(1, 6):
            live.send(batch=self.one(i, i, i == 1, now - (10 - i) * 1_000_000))
            back.send(batch=self.one(i, 100 + i, i == 1, now - 3600_000_000 + i * 1_000_000))
        live.ack(5)
        back.ack(5)
        values = [v for _, v in fixture.points(self.hub, "test.value", "lanes")]
        self.assertEqual(values, [101, 102, 103, 104, 105, 1, 2, 3, 4, 5])

    def test_a_time_a_day_ahead_is_refused_with_the_hubs_time(self):
        stream = self.open(self.agent("ahead"), os.urandom(16))
        stream.welcome()
        stream.send(batch=self.one(1, 1.0, True, now_us() + DAY_US))
        error = stream.error()
        self.assertEqual((error["code"], error["reason"]), ("INVALID_ARGUMENT", "TIME_OUT_OF_RANGE"))
        self.assertEqual(error["field"], "batch.scrapes[0].time_unix_us")
        self.assertRegex(error["message"] + error["field_description"], r"20\d\d-\d\d-\d\dT")
        self.assertNotIn("test.value", self.hub.grpcurl("sentinel.query.v1.QueryService/ListMetrics", data='{"agents":{"ids":["ahead"]}}').stdout)

    def test_a_hub_restored_to_an_older_copy_goes_on_and_counts_the_loss(self):
        hub = fixture.Hub()
        with hub:
            identity, spool = hub.issue("agent", "restored"), os.urandom(16)
            stream = fixture.Stream(hub, identity).hello(spool)
            stream.welcome()
            first = self.one(1, 1.0, True)
            stream.send(batch=first)
            stream.ack(1)
            stream.end()
        copy = hub.home / "copy"
        shutil.copytree(hub.state, copy)
        with hub:
            stream = fixture.Stream(hub, identity).hello(spool, first=2, last=3, crc=crc_of(first))
            stream.welcome()
            stream.send(batch=self.one(2, 2.0, True))
            last = self.one(3, 3.0, False)
            stream.send(batch=last)
            stream.ack(3)
            stream.end()
        shutil.rmtree(hub.state)
        shutil.copytree(copy, hub.state)
        with hub:
            stream = fixture.Stream(hub, identity).hello(spool, first=4, crc=crc_of(last))
            welcome = stream.welcome()
            self.assertEqual(welcome.resume_after_sequence, 3)
            self.assertEqual((welcome.lost_first_sequence, welcome.lost_last_sequence), (2, 3))
            stream.send(batch=self.one(4, 4.0, True))
            stream.ack(4)
            stream.end()
            agent = hub.ask("sentinel.query.v1.QueryService/GetAgent", {"agent_id": "restored"})["agent"]
            self.assertEqual(int(agent["batchesLost"]), 2)
            self.assertEqual(fixture.count_of(hub, "test.value", "restored"), 2)

    def test_another_machine_with_the_same_identity_is_a_clone(self):
        t = fixture.stubs().telemetry
        identity = self.agent("clone")
        first = self.open(identity, os.urandom(16), fingerprint=t.Fingerprint(machine_id=b"a" * 32, dmi=b"b" * 32))
        first.welcome()
        error = self.open(identity, os.urandom(16), fingerprint=t.Fingerprint(machine_id=b"x" * 32, dmi=b"b" * 32)).error()
        self.assertEqual((error["code"], error["reason"]), ("ABORTED", "AGENT_ID_CLONED"))
        first.send(batch=self.one(1, 1.0, True))
        first.ack(1)


if __name__ == "__main__":
    fixture.main()
