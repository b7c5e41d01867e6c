# SPDX-License-Identifier: Apache-2.0
"""Logs from a foreign agent to who searches and who follows them."""

import json
import os
import subprocess
import unittest

import fixture
from fixture import crc_of_logs, now_us

SEARCH = "sentinel.query.v1.QueryService/SearchLogs"
MB = 1_000_000


def record(body, time_us=None, severity=9, **fields):
    t = fixture.stubs().telemetry
    kind = {"raw": body} if isinstance(body, bytes) else {"text": body}
    return t.LogRecord(time_unix_us=now_us() if time_us is None else time_us, severity_number=severity, **kind, **fields)


def batch(sequence: int, records, name: str = "/var/log/app.log", kind: str = "file", **source):
    t = fixture.stubs().telemetry
    return t.LogBatch(sequence=sequence, source=t.LogSource(type=kind, name=name, **source), records=records)


class Story(unittest.TestCase):
    env: dict = {}

    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub().start(env=cls.env)
        cls.identities = {}

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    def open(self, agent: str, spool: bytes, **hello):
        if agent not in self.identities:
            self.identities[agent] = self.hub.issue("agent", agent)
        stream = fixture.Stream(self.hub, self.identities[agent], "StreamLogs").hello(spool, **hello)
        self.addCleanup(stream.close)
        return stream

    def give(self, agent: str, *batches):
        """All of it, in a run of its own, acknowledged."""
        stream = self.open(agent, os.urandom(16))
        stream.welcome()
        for sent in batches:
            stream.send(batch=sent)
        stream.ack(batches[-1].sequence)
        stream.end()

    def call(self, method: str, request, **options):
        s = fixture.stubs()
        channel = self.hub.channel(self.hub.admin)
        self.addCleanup(channel.close)
        return getattr(s.query_grpc.QueryServiceStub(channel), method)(request, timeout=fixture.PATIENCE, **options)

    def pages(self, agents=(), **question):
        """The messages of one search."""
        q = fixture.stubs().query
        request = q.SearchLogsRequest(agents=q.AgentSelector(ids=list(agents)), **question)
        if not request.HasField("range"):
            request.range.CopyFrom(q.TimeRange(**{"from": "-1d", "to": "2100-01-01"}))
        return list(self.call("SearchLogs", request))

    def search(self, agents=(), **question):
        """The entries of one search."""
        return [entry for page in self.pages(agents, **question) for entry in page.entries]

    def texts(self, agents=(), **question):
        return [entry.text for entry in self.search(agents, **question)]


class Logs(Story):
    def test_what_was_acknowledged_is_there_once_after_kill_9(self):
        spool, n = os.urandom(16), 60
        sent = [batch(i, [record(f"line {i}.{j} of the survivor") for j in range(5)]) for i in range(1, n + 1)]
        stream = self.open("survivor", spool)
        stream.welcome()
        for one in sent[:40]:
            stream.send(batch=one)
        acknowledged = stream.ack(20)
        self.hub.kill()
        stream.close()
        self.hub.start()
        stream = self.open("survivor", spool, first=acknowledged + 1, last=n, crc=crc_of_logs(sent[acknowledged - 1]))
        resume = stream.welcome().resume_after_sequence
        self.assertGreaterEqual(resume, acknowledged)
        for one in sent[acknowledged:]:  # some of them again
            stream.send(batch=one)
        stream.ack(n)
        stream.end()
        got = self.texts(["survivor"], oldest_first=True, page_size=1000)
        self.assertEqual(sorted(got), sorted(f"line {i}.{j} of the survivor" for i in range(1, n + 1) for j in range(5)))

    def test_another_checksum_says_that_the_run_was_forked(self):
        spool = os.urandom(16)
        stream = self.open("forked", spool)
        stream.welcome()
        stream.send(batch=batch(1, [record("one")]))
        stream.ack(1)
        stream.end()
        error = self.open("forked", spool, first=2, crc=7).error()
        self.assertEqual((error["code"], error["reason"]), ("FAILED_PRECONDITION", "SPOOL_FORKED"))

    def test_each_filter_finds_what_it_says(self):
        start = now_us() - 60 * MB
        self.give("filters", batch(1, [
            record("GET /index.html 200", start + 1 * MB, 9),
            record("GET /missing 404", start + 2 * MB, 13),
            record("Disk sda1 is FULL", start + 3 * MB, 17),
        ]), batch(2, [record("session opened for user root", start + 4 * MB, 9)], "ssh.service", "journald"))
        found = lambda **question: self.texts(["filters"], oldest_first=True, **question)
        lines = ["GET /index.html 200", "GET /missing 404", "Disk sda1 is FULL", "session opened for user root"]
        self.assertEqual(found(), lines)
        self.assertEqual(self.texts(["filters"]), lines[::-1])
        self.assertEqual(found(words=["get"]), lines[:2])
        self.assertEqual(found(words=["GE"]), [])
        self.assertEqual(found(words=["is full"]), lines[2:3])
        self.assertEqual(found(contains=["ession"]), lines[3:])
        self.assertEqual(found(words=["get"], contains=["40"]), lines[1:2])
        self.assertEqual(found(regex=r"/[a-z]+(\.html)? [24]0"), lines[:2])
        self.assertEqual(found(regex=r"(?i)full$"), lines[2:3])
        self.assertEqual(found(min_severity_number=13), lines[1:3])
        self.assertEqual(found(source_pattern="*.service"), lines[3:])
        self.assertEqual(found(source_pattern="/var/log/*"), lines[:3])
        q = fixture.stubs().query
        between = q.TimeRange()
        between.from_time.FromMicroseconds(start + 2 * MB)
        between.to_time.FromMicroseconds(start + 4 * MB)
        self.assertEqual(found(range=between), lines[1:3])  # from inclusive, to exclusive
        entry = self.search(["filters"], words=["disk"])[0]
        self.assertEqual((entry.agent_id, entry.severity, entry.severity_number, entry.source, entry.source_type),
                         ("filters", "ERROR", 17, "/var/log/app.log", "file"))
        self.assertEqual(entry.time.ToMicroseconds(), start + 3 * MB)

    def test_pages_hold_still_while_more_comes(self):
        start = now_us() - 100 * MB
        self.give("pages", batch(1, [record(f"page line {i}", start + i * 1000) for i in range(500)]))
        got, token = [], ""
        for round_ in range(100):
            page = self.pages(["pages"], page_size=50, page_token=token)
            got += [entry.text for message in page for entry in message.entries]
            token = page[-1].next_page_token
            if not token:
                break
            self.give("pages", batch(1, [record(f"newer line {round_}")]))
        self.assertEqual(got, [f"page line {i}" for i in reversed(range(500))])

    def test_a_foreign_or_stale_page_token_is_refused(self):
        import grpc
        self.give("token", batch(1, [record(f"line {i}") for i in range(10)]))
        token = self.pages(["token"], page_size=3)[-1].next_page_token
        self.assertTrue(token)
        for question in ({"page_token": token[:-2] + "00"}, {"page_token": token, "words": ["line"]}, {"page_token": "nonsense"}):
            with self.assertRaises(grpc.RpcError) as caught:
                self.pages(["token"], page_size=3, **question)
            error = fixture.rich(caught.exception)
            self.assertEqual((error["code"], error["field"]), ("INVALID_ARGUMENT", "page_token"))

    def test_bad_questions_name_their_field(self):
        import grpc
        for question, field in (({"regex": "(unclosed"}, "regex"), ({"words": [""]}, "words"), ({"contains": ["x" * 1025]}, "contains"),
                                ({"page_size": 10001}, "page_size"), ({"min_severity_number": 25}, "min_severity_number"),
                                ({"words": ["w"] * 17}, "words")):
            with self.assertRaises(grpc.RpcError) as caught:
                self.pages(**question)
            error = fixture.rich(caught.exception)
            self.assertEqual((error["code"], error["field"]), ("INVALID_ARGUMENT", field), question)

    def test_an_agent_says_what_logs_it_has_sent(self):
        sent = [record("five!"), record(b"1234567")]
        self.give("counted", batch(1, sent))
        agent = self.hub.ask("sentinel.query.v1.QueryService/GetAgent", {"agent_id": "counted"})["agent"]
        self.assertEqual((agent["logRecordsStored"], agent["logBytesStored"]), ("2", "12"))
        told = json.loads(self.hub.ctl("agents", "show", "counted", "--json").stdout)
        self.assertEqual((told["log_records_stored"], told["last_log_record_us"]), (2, sent[1].time_unix_us))

    def test_grpcurl_reads_logs(self):
        self.give("curl", batch(1, [record("read by a person", severity=17, attributes=[
            fixture.stubs().telemetry.Attribute(key="k", value="v")], trace_id=b"t" * 16)]))
        told = json.loads(self.hub.grpcurl(SEARCH, data=json.dumps(
            {"agents": {"ids": ["curl"]}, "words": ["person"], "range": {"from": "-1h", "to": "now"}})).stdout)
        entry = told["entries"][0]
        self.assertEqual((entry["text"], entry["severity"], entry["agent_id" if "agent_id" in entry else "agentId"]),
                         ("read by a person", "ERROR", "curl"))
        self.assertEqual(entry["attributes"], {"k": "v"})
        listed = self.hub.grpcurl("list", "sentinel.query.v1.QueryService").stdout
        self.assertIn("SearchLogs", listed)
        self.assertIn("TailLogs", listed)

    def test_a_tail_shows_what_comes(self):
        q = fixture.stubs().query
        self.give("tailed", batch(1, [record("before")]))
        tail = self.call("TailLogs", q.TailLogsRequest(agents=q.AgentSelector(pattern="tail*"), words=["wanted"]))
        self.assertEqual(len(next(tail).entries), 0)
        self.give("tailed", batch(1, [record("unwanted"), record("this is wanted")]))
        entries = next(tail).entries
        self.assertEqual([(e.agent_id, e.text) for e in entries], [("tailed", "this is wanted")])
        # An agent that enrols later counts too.
        self.give("tailed-2", batch(1, [record("also wanted")]))
        self.assertEqual([e.agent_id for e in next(tail).entries], ["tailed-2"])
        tail.cancel()

    def test_sentinelctl_tails(self):
        self.give("live", batch(1, [record("the agent must be known")]))
        tail = fixture.start([fixture.program("sentinelctl"), "--hub", f"127.0.0.1:{self.hub.port}", "--identity", str(self.hub.admin),
                              "logs", "tail", "--agent", "live", "--json"], stdout=subprocess.PIPE)
        self.addCleanup(tail.stdout.close)
        # Nobody says when it is open: lines come until one is seen.
        import threading
        seen = threading.Event()
        def feed():
            while not seen.is_set():
                self.give("live", batch(1, [record("a line for those who look")]))
        feeder = threading.Thread(target=feed)
        feeder.start()
        line = tail.stdout.readline()
        seen.set()
        feeder.join()
        line = json.loads(line)
        tail.kill()
        tail.wait()
        self.assertEqual((line["agent"], line["source"]), ("live", "/var/log/app.log"))

    def test_what_a_slow_reader_missed_is_counted(self):
        q = fixture.stubs().query
        tail = self.call("TailLogs", q.TailLogsRequest(agents=q.AgentSelector(pattern="flood*")))
        next(tail)
        n, size = 40 * 15, 250_000  # 150 MB, more than twice of what the hub keeps for a reader
        stream = self.open("flood", os.urandom(16))
        stream.welcome()
        for i in range(40):
            stream.send(batch=batch(i + 1, [record(f"{i * 15 + j:06d}" + "x" * size) for j in range(15)]))
        stream.ack(40)
        stream.end()
        got, missed, is_last_sent = [], 0, False
        for message in tail:
            missed += message.missed
            got += [entry.text[:6] for entry in message.entries]
            if missed and not is_last_sent:  # it has caught up: what comes now is not missed
                is_last_sent = True
                self.give("flood", batch(1, [record("the last one")]))
            if got and got[-1] == "the la":
                break
        tail.cancel()
        self.assertGreater(missed, 0)
        self.assertEqual(len(got) + missed, n + 1)
        self.assertEqual(got, sorted(got[:-1]) + got[-1:])  # in order, each once
        self.assertEqual(len(set(got)), len(got))

    def test_the_drain_ends_a_tail_and_takes_what_is_under_way(self):
        import grpc
        q = fixture.stubs().query
        with fixture.Hub() as hub:
            identity = hub.issue("agent", "web-1")
            channel = hub.channel(hub.admin)
            tail = fixture.stubs().query_grpc.QueryServiceStub(channel).TailLogs(q.TailLogsRequest(), timeout=fixture.PATIENCE)
            next(tail)
            stream = fixture.Stream(hub, identity, "StreamLogs").hello(os.urandom(16))
            stream.welcome()
            stream.send(batch=batch(1, [record("one")]))
            stream.ack(1)
            hub.stop(expect=0)
            with self.assertRaises(grpc.RpcError) as caught:
                for _ in tail:
                    pass
            self.assertEqual(fixture.rich(caught.exception)["reason"], "HUB_STOPPING")
            self.assertEqual(stream.error()["reason"], "HUB_STOPPING")
            stream.close()
            channel.close()


class Hostile(Story):
    env = {"SENTINEL_HUB_LIMITS_LOG_BODY_BYTES": "2MiB"}
    bodies = [
        "",
        "\0",
        "a\0b\0",
        "\x1b[2J\x1b]0;owned\x07 red \x1b[31m",
        "two\nlines\r\nand a tab\t.",
        "c1 \u009b31m and a turn \u202e of direction",
        "\u2028 separators \u2029",
        "x" * 1_048_576,
        "t\u00e9l\u00e9 \U0001f355",
        b"\xff\xfe\xfd",
        b"\x80" * 1000,
        b"raw but plain",
        bytes(range(256)),
        b"",
    ]

    def test_bodies_come_back_as_they_went_in(self):
        start = now_us() - 60 * MB
        t = fixture.stubs().telemetry
        self.give("hostile", batch(1, [record(body, start + i * 1000, source_offset=i, attributes=[t.Attribute(key="k", value="v\0w")])
                                       for i, body in enumerate(self.bodies)]))
        entries = self.search(["hostile"], oldest_first=True)
        got = [entry.raw if entry.WhichOneof("body") == "raw" else entry.text for entry in entries]
        self.assertEqual(got, self.bodies)
        self.assertTrue(all(entry.attributes == {"k": "v\0w"} for entry in entries))
        self.assertEqual([entry.source_offset for entry in entries], list(range(len(self.bodies))))

        # What a terminal gets of it.
        shown = subprocess.run([fixture.program("sentinelctl"), "--hub", f"127.0.0.1:{self.hub.port}", "--identity",
                                str(self.hub.admin), "logs", "search", "--agent", "hostile", "--oldest-first"],
                               capture_output=True, check=True).stdout
        text = shown.decode()
        self.assertFalse([c for c in text if (ord(c) < 32 and c != "\n") or 0x7f <= ord(c) <= 0x9f])
        self.assertFalse(set(text) & {"\u202e", "\u2028", "\u2029"})
        self.assertIn(r"\x1b[2J", text)
        self.assertIn("\n    | lines", text)

        # And what a program gets.
        lines = self.hub.ctl("logs", "search", "--agent", "hostile", "--oldest-first", "--json").stdout.splitlines()
        self.assertEqual(len(lines), len(self.bodies))
        import base64
        told = [json.loads(line) for line in lines]
        self.assertEqual([base64.b64decode(one["raw"]) if "raw" in one else one["text"] for one in told], self.bodies)
        self.assertEqual(told[0]["attributes"], {"k": "v\0w"})
        self.assertFalse([c for line in lines for c in line if ord(c) < 32 or 0x7f <= ord(c) <= 0x9f])

    def test_text_that_is_no_utf8_is_refused_with_the_remedy(self):
        stream = self.open("broken", os.urandom(16))
        stream.welcome()
        # By hand, as a client of protobuf will not make it: batch { sequence: 1, records: [{}, { text: "\xff" }] }
        request = b"\x12\x09\x08\x01\x1a\x00\x1a\x03\x22\x01\xff"
        stream.request = lambda **_: type("Bytes", (), {"SerializeToString": lambda self: request})()
        channel = self.hub.channel(self.identities["broken"])
        self.addCleanup(channel.close)
        t = fixture.stubs().telemetry
        hello = t.StreamLogsRequest(hello=t.StreamHello(spool_id=os.urandom(16), first_sequence=1, last_sequence=0,
                                                        instance=os.urandom(16), time_unix_us=now_us())).SerializeToString()
        import grpc
        call = channel.stream_stream("/sentinel.telemetry.v1.TelemetryService/StreamLogs", lambda b: b,
                                     t.StreamLogsResponse.FromString)(iter([hello, request]), timeout=fixture.PATIENCE)
        with self.assertRaises(grpc.RpcError) as caught:
            for _ in call:
                pass
        error = fixture.rich(caught.exception)
        self.assertEqual((error["code"], error["reason"], error["field"]), ("INVALID_ARGUMENT", "BAD_TEXT", "batch.records[1].text"))
        self.assertIn("raw", error["field_description"])

    def test_limits_are_named_and_nothing_is_stored(self):
        stream = self.open("limits", os.urandom(16))
        self.assertEqual(stream.welcome().limits.log_body_bytes, 2 << 20)
        stream.send(batch=batch(1, [record("fine"), record("x" * (2 << 20) + "y")]))
        error = stream.error()
        self.assertEqual((error["code"], error["quota"]), ("RESOURCE_EXHAUSTED", "log_body_bytes"))
        self.assertIn("batch.records[1].text", error["message"])
        self.assertEqual(self.search(["limits"]), [])


class Budget(Story):
    env = {"SENTINEL_HUB_QUERY_LOGS_BUDGET": "1MiB", "SENTINEL_HUB_STORE_SEAL_AGE": "1s"}

    def test_a_search_that_would_read_everything_is_bounded_and_says_so(self):
        start = now_us() - 600 * MB
        line = "a line that holds nothing that anybody looks for, number {0} of many, and some more to fill it up" * 3
        for i in range(8):  # some 9 MB
            self.give("big", batch(1, [record(line.format(i * 4000 + j), start + (i * 4000 + j) * 10_000) for j in range(4000)]))
        self.give("big", batch(1, [record("needle", start - MB)]))
        # Sealed: only blocks are passed over unread.
        fixture.wait_until(lambda: any((self.hub.state / "db" / "default" / "logs").glob("*/*.mdb")), "logs to be sealed")
        found, token, n_pages = [], "", 0
        while True:
            page = self.pages(["big"], contains=["eedl"], page_token=token)
            found += [entry.text for message in page for entry in message.entries]
            token, n_pages = page[-1].next_page_token, n_pages + 1
            if not token:
                break
            self.assertTrue(page[-1].cost.budget_reached)
        self.assertEqual(found, ["needle"])
        self.assertGreater(n_pages, 2)
        told = self.hub.ctl("logs", "search", "--agent", "big", "--contains", "eedl", "--range", "1d", check=6)
        self.assertIn("query.logs_budget", told.stderr)
        self.assertIn("--page-token", told.stderr)


if __name__ == "__main__":
    fixture.main()
