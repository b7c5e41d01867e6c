# SPDX-License-Identifier: Apache-2.0
"""Uploads: what was acknowledged is never sent twice, what is finished is what was sent, and what goes gives its place back.

SENTINEL_UPLOAD_MB is the size of the upload that is cut fifty times (96; 1024 takes some minutes)."""

import base64
import contextlib
import hashlib
import json
import os
import pathlib
import queue
import random
import signal
import subprocess
import time
import unittest

import fixture

MIB = 1 << 20
SIZE = int(os.environ.get("SENTINEL_UPLOAD_MB", "96")) * MIB + 4321
LIST = "sentinel.query.v1.QueryService/ListUploads"


def noise(n: int, seed: int) -> bytes:
    draw = random.Random(seed)
    return b"".join(draw.randbytes(min(64 * MIB, n - at)) for at in range(0, n, 64 * MIB))


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


class Upload:
    """One call of UploadBulkData or StreamFileContent, driven message by message."""

    def __init__(self, hub, identity, method="UploadBulkData"):
        s = fixture.stubs()
        self.request = getattr(s.telemetry, method + "Request")
        self.channel = hub.channel(identity)
        self.outgoing: queue.Queue = queue.Queue()
        self.call = getattr(s.telemetry_grpc.TelemetryServiceStub(self.channel), method)(
            iter(self.outgoing.get, None), timeout=fixture.PATIENCE * 5)
        self.acked = 0
        self.sent = 0

    def header(self, upload_id, name="a.bin", **fields):
        t = fixture.stubs().telemetry
        labels = [t.Attribute(key=k, value=v) for k, v in fields.pop("labels", {}).items()]
        self.outgoing.put(self.request(header=t.UploadHeader(upload_id=upload_id, name=name, labels=labels, **fields)))
        return self

    def file(self, transfer_id, path, **fields):
        self.outgoing.put(self.request(header=fixture.stubs().telemetry.FileHeader(transfer_id=transfer_id, path=path, **fields)))
        return self

    def receive(self):
        return next(self.call)

    def resume(self) -> int:
        response = self.receive()
        assert response.WhichOneof("message") == "resume", response
        self.acked = response.resume.offset
        return self.acked

    def chunk(self, offset, data):
        self.sent += len(data)
        self.outgoing.put(self.request(chunk=fixture.stubs().telemetry.Chunk(offset=offset, data=data)))

    def wait_ack(self, through):
        while self.acked < through:
            response = self.receive()
            assert response.WhichOneof("message") == "ack", response
            assert response.ack.offset > self.acked, "acks go up"
            self.acked = response.ack.offset

    def send(self, data, begin, end, step=MIB, window=8):
        """data[begin:end] in chunks; at most `window` of them without an ack."""
        for at in range(begin, end, step):
            self.wait_ack(at - window * step)
            self.chunk(at, data[at:min(at + step, end)])

    def finish(self, data=None, **fields):
        if data is not None:
            fields = {"size_bytes": len(data), "sha256": sha256(data), **fields}
        self.outgoing.put(self.request(end=fixture.stubs().telemetry.FileEnd(**fields)))
        return self

    def result(self):
        while True:
            response = self.receive()
            if response.WhichOneof("message") == "result":
                self.close()
                return response.result

    def error(self) -> dict:
        import grpc
        try:
            while True:
                response = self.receive()
                if response.WhichOneof("message") == "ack":
                    self.acked = response.ack.offset
        except grpc.RpcError as failure:
            return fixture.rich(failure)
        except StopIteration:
            return {"code": "OK", "reason": None, "field": None, "quota": None}
        finally:
            self.close()

    def close(self):
        self.outgoing.put(None)
        self.call.cancel()
        self.channel.close()


def put(hub, identity, data, name="a.bin", upload_id=None, **fields):
    upload = Upload(hub, identity).header(upload_id or os.urandom(16), name, **fields)
    begin = upload.resume()
    upload.send(data, begin, len(data))
    return upload.finish(data).result()


def listed(hub, **question):
    return hub.ask(LIST, question).get("uploads", [])


def download(hub, object_id, offset=0, length=0) -> bytes:
    s = fixture.stubs()
    with hub.channel(hub.admin) as channel:
        stub = s.query_grpc.QueryServiceStub(channel)
        parts, at = [], offset
        for message in stub.DownloadUpload(s.query.DownloadUploadRequest(object_id=object_id, offset=offset, length=length)):
            assert message.offset == at
            parts.append(message.data)
            at += len(message.data)
        return b"".join(parts)


def download_error(hub, object_id, **fields) -> dict:
    import grpc
    s = fixture.stubs()
    with hub.channel(hub.admin) as channel:
        try:
            list(s.query_grpc.QueryServiceStub(channel).DownloadUpload(s.query.DownloadUploadRequest(object_id=object_id, **fields)))
        except grpc.RpcError as failure:
            return fixture.rich(failure)
    return {"code": "OK"}


def content(hub) -> pathlib.Path:
    return hub.state / "db/default/objects/content"


def content_bytes(hub) -> int:
    total = 0
    for file in content(hub).iterdir():
        with contextlib.suppress(FileNotFoundError):  # it went meanwhile
            total += file.stat().st_size
    return total


class Protocol(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub().start()
        cls.agent = cls.hub.issue("agent", "web-1")
        cls.other = cls.hub.issue("agent", "web-2")

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    def test_what_was_sent_comes_back_whole_and_in_parts(self):
        data = noise(3 * MIB + 77, 1)
        result = put(self.hub, self.agent, data, "whole.bin", content_type="application/x-noise", labels={"job": "nightly"},
                     size_bytes=len(data))
        self.assertEqual((result.sha256, result.size_bytes), (sha256(data), len(data)))
        self.assertEqual(download(self.hub, result.object_id), data)
        for offset, length in ((0, 1), (1, 0), (262143, 2), (262144, 262144), (MIB + 5, MIB + 9), (len(data) - 1, 10), (len(data), 0)):
            self.assertEqual(download(self.hub, result.object_id, offset, length), data[offset:offset + length if length else None])
        upload, = listed(self.hub, name_pattern="whole.*", agents={"ids": ["web-1"]})
        self.assertEqual((upload["objectId"], upload["agentId"], upload["contentType"], upload["sizeBytes"], upload["sha256"],
                          upload["labels"], upload["complete"], upload["kind"]),
                         (result.object_id, "web-1", "application/x-noise", str(len(data)), sha256(data).hex(), {"job": "nightly"},
                          True, "BULK"))
        self.assertIn("expires", upload)

    def test_grpcurl_uploads_lists_and_downloads(self):
        data = b"typed by hand"
        messages = [{"header": {"upload_id": base64.b64encode(os.urandom(16)).decode(), "name": "by-hand"}},
                    {"chunk": {"data": base64.b64encode(data).decode()}},
                    {"end": {"size_bytes": len(data), "sha256": base64.b64encode(sha256(data)).decode()}}]
        told = self.hub.grpcurl("sentinel.telemetry.v1.TelemetryService/UploadBulkData", identity=self.agent,
                                data="".join(map(json.dumps, messages))).stdout
        self.assertIn('"resume"', told)
        self.assertIn('"objectId"', told)
        upload, = listed(self.hub, name_pattern="by-hand")
        got = self.hub.ask("sentinel.query.v1.QueryService/DownloadUpload", {"object_id": upload["objectId"]})
        self.assertEqual(base64.b64decode(got["data"]), data)

    def test_finishing_again_is_answered_at_once(self):
        data, key = noise(100_000, 2), os.urandom(16)
        first = put(self.hub, self.agent, data, "again.bin", key)
        again = Upload(self.hub, self.agent).header(key, "again.bin").result()
        self.assertEqual(again, first)

    def test_an_empty_upload_is_one(self):
        result = put(self.hub, self.agent, b"", "empty")
        self.assertEqual(download(self.hub, result.object_id), b"")
        again = put(self.hub, self.other, b"", "empty")
        self.assertEqual(download(self.hub, again.object_id), b"")

    def test_the_same_content_is_on_disk_once(self):
        data = noise(2 * MIB, 3)
        before = content_bytes(self.hub)
        first = put(self.hub, self.agent, data, "one.bin")
        second = put(self.hub, self.other, data, "two.bin")
        fixture.wait_until(lambda: content_bytes(self.hub) == before + len(data), "one copy of it")
        # The same agent need not send it again; another must, so that nobody learns what others have.
        third = Upload(self.hub, self.agent).header(os.urandom(16), "three.bin", size_bytes=len(data), sha256=sha256(data)).result()
        stranger = self.hub.issue("agent", "web-3")
        fourth = Upload(self.hub, stranger).header(os.urandom(16), "four.bin", size_bytes=len(data), sha256=sha256(data))
        self.assertEqual(fourth.resume(), 0)
        fourth.close()
        self.assertEqual(len({first.object_id, second.object_id, third.object_id}), 3)
        for result in (first, second, third):
            self.assertEqual(download(self.hub, result.object_id), data)

    def test_another_digest_finishes_nothing_and_drops_what_came(self):
        data, key = noise(MIB, 4), os.urandom(16)
        upload = Upload(self.hub, self.agent).header(key, "wrong.bin")
        upload.resume()
        upload.send(data, 0, len(data))
        failed = upload.finish(size_bytes=len(data), sha256=sha256(b"else")).error()
        self.assertEqual((failed["code"], failed["reason"], failed["field"]), ("INVALID_ARGUMENT", "UPLOAD_MISMATCH", "end.sha256"))
        self.assertIn(sha256(data).hex(), failed["message"])
        told, = listed(self.hub, name_pattern="wrong.bin")
        self.assertNotIn("complete", told)
        self.assertEqual(download_error(self.hub, told["objectId"])["code"], "FAILED_PRECONDITION")
        again = Upload(self.hub, self.agent).header(key, "wrong.bin")
        self.assertEqual(again.resume(), 0)
        again.send(data, 0, len(data))
        self.assertEqual(download(self.hub, again.finish(data).result().object_id), data)

    def test_another_size_at_the_end_keeps_what_came(self):
        data, key = noise(MIB, 5), os.urandom(16)
        upload = Upload(self.hub, self.agent).header(key, "short.bin")
        upload.resume()
        upload.send(data, 0, 500_000)
        self.assertEqual(upload.finish(data).error()["field"], "end.size_bytes")
        again = Upload(self.hub, self.agent).header(key, "short.bin")
        self.assertEqual(again.resume(), 500_000)
        again.send(data, 500_000, len(data))
        self.assertEqual(again.finish(data).result().size_bytes, len(data))

    def test_a_header_that_contradicts_the_first_is_refused_by_field(self):
        data, key = noise(1000, 6), os.urandom(16)
        Upload(self.hub, self.agent).header(key, "first.bin", size_bytes=1000, sha256=sha256(data)).resume()
        for fields, field in (({"name": "second.bin"}, "header.name"), ({"size_bytes": 999}, "header.size_bytes"),
                              ({"sha256": sha256(b"")}, "header.sha256"), ({"content_type": "x"}, "header.content_type"),
                              ({"labels": {"a": "b"}}, "header.labels")):
            with self.subTest(field=field):
                failed = Upload(self.hub, self.agent).header(
                    key, **{"name": "first.bin", "size_bytes": 1000, "sha256": sha256(data), **fields}).error()
                self.assertEqual((failed["code"], failed["reason"], failed["field"]), ("INVALID_ARGUMENT", "UPLOAD_DIFFERS", field))
        # Another agent's upload with the same id is another upload.
        self.assertEqual(Upload(self.hub, self.other).header(key, "second.bin").resume(), 0)

    def test_broken_rules_are_named(self):
        def refused(send):
            upload = Upload(self.hub, self.agent)
            send(upload)
            return upload.error()

        def started(then):
            def send(upload):
                upload.header(os.urandom(16), "rules", size_bytes=100).resume()
                then(upload)
            return send
        cases = [
            (lambda u: u.header(b"short"), "BAD_UPLOAD", "header.upload_id"),
            (lambda u: u.header(os.urandom(16), ""), "BAD_UPLOAD", "header.name"),
            (lambda u: u.header(os.urandom(16), "n" * 4097), "BAD_UPLOAD", "header.name"),
            (lambda u: u.header(os.urandom(16), "nul\0nul"), "BAD_TEXT", None),
            (lambda u: u.header(os.urandom(16), sha256=b"1"), "BAD_UPLOAD", "header.sha256"),
            (lambda u: u.header(os.urandom(16), labels={f"k{i}": "" for i in range(33)}), "BAD_UPLOAD", "header.labels"),
            (lambda u: u.header(os.urandom(16), labels={"": "v"}), "BAD_UPLOAD", "header.labels[0].key"),
            (lambda u: u.chunk(0, b"x"), "HEADER_EXPECTED", None),
            (started(lambda u: u.header(os.urandom(16))), "HEADER_TWICE", None),
            (started(lambda u: u.outgoing.put(u.request())), "MESSAGE_EMPTY", None),
            (started(lambda u: u.chunk(1, b"x")), "BAD_UPLOAD", "chunk.offset"),
            (started(lambda u: u.chunk(0, b"")), "BAD_UPLOAD", "chunk.data"),
            (started(lambda u: u.chunk(0, bytes(101))), "BAD_UPLOAD", "chunk.data"),
            (started(lambda u: u.chunk(0, bytes(MIB + 1))), "BAD_UPLOAD", "chunk.data"),
            (started(lambda u: u.finish(size_bytes=0)), "BAD_UPLOAD", "end.sha256"),
            (started(lambda u: u.outgoing.put(None)), "UPLOAD_UNFINISHED", None),
        ]
        for send, reason, field in cases:
            failed = refused(send)
            self.assertEqual(failed["reason"], reason, failed)
            if field:
                self.assertEqual(failed["field"], field, failed)

    def test_the_newest_call_goes_on_and_the_older_is_told(self):
        data, key = noise(MIB, 7), os.urandom(16)
        old = Upload(self.hub, self.agent).header(key, "taken.bin")
        old.resume()
        old.send(data, 0, 300_000)
        old.wait_ack(300_000)
        new = Upload(self.hub, self.agent).header(key, "taken.bin")
        self.assertEqual(new.resume(), 300_000)
        old.chunk(300_000, b"late")
        self.assertEqual(old.error()["reason"], "UPLOAD_TAKEN_OVER")
        # What it has already is passed over.
        new.chunk(200_000, data[200_000:400_000])
        new.send(data, 400_000, len(data))
        self.assertEqual(new.finish(data).result().sha256, sha256(data))

    def test_roles_are_kept_apart(self):
        self.assertEqual(Upload(self.hub, self.hub.admin).header(os.urandom(16)).error()["code"], "PERMISSION_DENIED")
        failed = self.hub.grpcurl(LIST, identity=self.agent, data="{}", check=None)
        self.assertIn("PermissionDenied", failed.stderr)
        self.assertEqual(download_error(self.hub, "u999999")["code"], "NOT_FOUND")
        for bad in ("", "17", "u0", "u-1", "../u1", "u18446744073709551616"):
            self.assertEqual(download_error(self.hub, bad)["field"], "object_id")
        result = put(self.hub, self.agent, b"small", "small")
        self.assertEqual(download_error(self.hub, result.object_id, offset=6)["field"], "offset")

    def test_names_never_become_paths(self):
        before = {p for p in self.hub.state.rglob("*")}
        names = ["../../../../../tmp/evil", "/etc/passwd", "..", ".", "a/../b", "C:\\evil", "~root", "-rf", "x\n\x1b[31mred\x07",
                 "\u202egnp.exe", "$(reboot)", "n" * 4096, "%s%n", "con", " "]
        for i, name in enumerate(names):
            data = b"content of %d" % i
            upload = Upload(self.hub, self.agent, "StreamFileContent").file(
                os.urandom(16), name, size_bytes=len(data), mode=0o4755, modified_time_unix_us=1_700_000_000_000_000)
            upload.resume()
            upload.chunk(0, data)
            result = upload.finish(data).result()
            self.assertEqual(download(self.hub, result.object_id), data)
        made = {p for p in self.hub.state.rglob("*")} - before
        for path in made:
            self.assertEqual(path.parent, content(self.hub))
            self.assertRegex(path.name, "^[0-9a-f]{16}$")
            self.assertEqual(path.stat().st_mode & 0o7777, 0o600)
        told = {u["name"]: u for u in listed(self.hub, page_size=1000) if u["kind"] == "FILE"}
        self.assertEqual(set(told) & set(names), set(names))
        self.assertEqual((told["/etc/passwd"]["mode"], told["/etc/passwd"]["modified"]), (0o4755, "2023-11-14T22:13:20Z"))
        for bad, reason in (("nul\0", "BAD_TEXT"), ("", "BAD_UPLOAD"), ("p" * 4097, "BAD_UPLOAD")):
            upload = Upload(self.hub, self.agent, "StreamFileContent").file(os.urandom(16), bad)
            failed = upload.error()
            self.assertEqual((failed["code"], failed["reason"], failed["field"]), ("INVALID_ARGUMENT", reason, "header.path"))
        failed = Upload(self.hub, self.agent, "StreamFileContent").file(os.urandom(16), "m", mode=0o100644).error()
        self.assertEqual(failed["field"], "header.mode")
        shown = self.hub.ctl("uploads", "list").stdout
        self.assertNotIn("\x1b", shown)
        self.assertNotIn("\u202e", shown)
        self.assertIn("\\x1b[31mred", shown)

    def test_pages_go_on_behind_the_last_one(self):
        agent = self.hub.issue("agent", "pages")
        for i in range(7):
            put(self.hub, agent, b"page %d" % i, f"page-{i}")
        names, token = [], ""
        while True:
            answer = self.hub.ask(LIST, {"agents": {"ids": ["pages"]}, "page_size": 3, "page_token": token})
            names += [u["name"] for u in answer["uploads"]]
            token = answer.get("nextPageToken", "")
            if not token:
                break
        self.assertEqual(names, [f"page-{i}" for i in range(6, -1, -1)])
        self.assertEqual(listed(self.hub, agents={"ids": ["pages"]}, range={"to": "-1h"}), [])
        self.assertEqual(len(listed(self.hub, agents={"ids": ["pages"]}, range={"from": "-1h"})), 7)
        failed = self.hub.grpcurl(LIST, data='{"page_token": "00"}', check=None)
        self.assertIn("page_token", failed.stderr)


class Cuts(unittest.TestCase):
    def test_fifty_cuts_and_a_killed_hub_send_nothing_twice(self):
        data, key = noise(SIZE, 8), os.urandom(16)
        hub = fixture.Hub().start()
        agent = hub.issue("agent", "web-1")
        draw = random.Random(9)
        sent = doubled = 0
        cuts = sorted(draw.sample(range(MIB, SIZE, 4096), 50))
        for i, cut in enumerate(cuts):
            upload = Upload(hub, agent).header(key, "cut.bin", size_bytes=SIZE)
            begin = upload.resume()
            self.assertGreaterEqual(begin, acked if i else 0, "what was acknowledged is there")
            if begin < cut:
                upload.send(data, begin, cut, step=draw.choice((65_536, 300_001, MIB)))
                upload.wait_ack(cut - draw.randrange(0, 2 * MIB) if i % 2 else cut)
            acked = max(begin, upload.acked)
            sent += upload.sent
            if i % 10 == 5:
                hub.kill()
                upload.close()
                hub.start()
            else:
                upload.close()
            doubled += max(0, begin + upload.sent - acked)
        upload = Upload(hub, agent).header(key, "cut.bin", size_bytes=SIZE)
        begin = upload.resume()
        self.assertGreaterEqual(begin, acked)
        upload.send(data, begin, SIZE)
        result = upload.finish(data).result()
        sent += upload.sent
        self.assertEqual((result.size_bytes, result.sha256), (SIZE, sha256(data)))
        # Only what had no ack yet when it was cut may have been sent again.
        self.assertLessEqual(sent, SIZE + doubled)
        got = hashlib.sha256()
        for at in range(0, SIZE, 32 * MIB):
            got.update(download(hub, result.object_id, at, min(32 * MIB, SIZE - at)))
        self.assertEqual(got.digest(), sha256(data))
        self.assertEqual(content_bytes(hub), SIZE)
        self.assertEqual(fixture.run(fixture.program("sentinel-hub"), "verify", "--state-dir", hub.state).returncode, 0)
        hub.stop(expect=0)

    def test_killed_at_each_point_nothing_acknowledged_is_lost(self):
        if fixture.FAULTS == fixture.BUILD:
            self.skipTest("SENTINEL_FAULTS has fault points")
        data = noise(4 * MIB, 10)
        for point in ("objects_written", "objects_before_commit", "objects_after_commit"):
            for nth in (2, 4):
                with self.subTest(point=point, nth=nth):
                    hub, key = fixture.Hub(build=fixture.FAULTS), os.urandom(16)
                    agent = hub.issue("agent", "web-1")
                    hub.start(env={"SENTINEL_FAULT": f"{point}:{nth}"})
                    upload = Upload(hub, agent)
                    acked = 0
                    try:
                        upload.header(key, "kill.bin").resume()
                        for at in range(0, len(data), 262_144):
                            upload.chunk(at, data[at:at + 262_144])
                            upload.wait_ack(at + 262_144)
                        upload.finish(data).result()
                    except Exception:
                        acked = upload.acked
                    upload.close()
                    fixture.wait_until(lambda: hub.process.poll() is not None, "the hub to die")
                    hub.wait_exit()
                    hub.start()
                    again = Upload(hub, agent).header(key, "kill.bin")
                    begin = again.resume()
                    self.assertGreaterEqual(begin, acked)
                    again.send(data, begin, len(data))
                    self.assertEqual(download(hub, again.finish(data).result().object_id), data)
                    hub.stop(expect=0)


class Limits(unittest.TestCase):
    def test_a_quota_in_mid_upload_names_itself_and_keeps_what_came(self):
        data, key = noise(4 * MIB, 11), os.urandom(16)
        config = fixture.scratch() / "config.yaml"
        config.write_text("uploads:\n  agent_size: 2MiB\n")
        with fixture.Hub(flags=("--config", str(config))) as hub:
            agent = hub.issue("agent", "web-1")
            upload = Upload(hub, agent).header(key, "big.bin")
            upload.resume()
            for at in range(0, len(data), 262_144):
                upload.chunk(at, data[at:at + 262_144])
            failed = upload.error()
            self.assertEqual((failed["code"], failed["reason"], failed["quota"]),
                             ("RESOURCE_EXHAUSTED", "UPLOAD_LIMIT", "uploads.agent_size"))
            self.assertEqual(upload.acked, 2 * MIB)
            refused = Upload(hub, agent).header(os.urandom(16), "more.bin", size_bytes=1).error()
            self.assertEqual(refused["quota"], "uploads.agent_size")
            config.write_text("uploads:\n  agent_size: 8MiB\n  max_size: 4MiB\n  agent_count: 1\n")
            hub.process.send_signal(signal.SIGHUP)
            fixture.wait_until(lambda: "event=reloaded" in hub.log, "the reload")
            again = Upload(hub, agent).header(key, "big.bin")
            self.assertEqual(again.resume(), 2 * MIB)
            again.send(data, 2 * MIB, len(data))
            self.assertEqual(download(hub, again.finish(data).result().object_id), data)
            for fields, quota in (({"size_bytes": 1}, "uploads.agent_count"),):
                self.assertEqual(Upload(hub, agent).header(os.urandom(16), "n", **fields).error()["quota"], quota)
            other = hub.issue("agent", "web-2")
            failed = Upload(hub, other).header(os.urandom(16), "n", size_bytes=4 * MIB + 1).error()
            self.assertEqual(failed["quota"], "uploads.max_size")

    def test_what_is_over_goes_and_gives_its_place_back(self):
        config = fixture.scratch() / "config.yaml"
        config.write_text("uploads:\n  retention_size: 0\n")
        with fixture.Hub(flags=("--config", str(config))) as hub:
            agent = hub.issue("agent", "web-1")
            for i in range(6):
                put(hub, agent, noise(MIB, 20 + i), f"file-{i}")
            unfinished = Upload(hub, agent).header(os.urandom(16), "unfinished")
            unfinished.resume()
            unfinished.chunk(0, noise(MIB, 30))
            unfinished.wait_ack(MIB)
            unfinished.close()
            self.assertEqual(content_bytes(hub), 7 * MIB)
            config.write_text("uploads:\n  retention_size: 3MiB\n  expire: 1s\n")
            hub.process.send_signal(signal.SIGHUP)
            fixture.wait_until(lambda: content_bytes(hub) <= 3 * MIB, "the place to come back")
            self.assertEqual([u["name"] for u in listed(hub) if u.get("complete")][0], "file-5")
            hub.process.send_signal(signal.SIGHUP)

            def is_gone():
                hub.process.send_signal(signal.SIGHUP)
                return not [u for u in listed(hub) if not u.get("complete")]
            fixture.wait_until(is_gone, "the unfinished one to expire")
            self.assertIn("uploads_gone", hub.log)
            self.assertEqual(len(list(content(hub).iterdir())), len(listed(hub)))
            for upload in listed(hub):
                self.assertEqual(len(download(hub, upload["objectId"])), MIB)

    def test_a_slow_reader_holds_nothing(self):
        s = fixture.stubs()
        config = fixture.scratch() / "config.yaml"
        config.write_text("uploads:\n  retention: 0\n")
        with fixture.Hub(flags=("--config", str(config))) as hub:
            agent = hub.issue("agent", "web-1")
            data = noise(24 * MIB, 12)
            result = put(hub, agent, data, "slow.bin")
            with hub.channel(hub.admin) as channel:
                call = s.query_grpc.QueryServiceStub(channel).DownloadUpload(
                    s.query.DownloadUploadRequest(object_id=result.object_id))
                next(call)
                config.write_text("uploads:\n  retention: 1us\n")
                hub.process.send_signal(signal.SIGHUP)
                fixture.wait_until(lambda: content_bytes(hub) == 0, "the place to come back")
                self.assertEqual(os.listdir(content(hub)), [])
                try:
                    for _ in call:
                        pass
                    self.fail("it was not read whole by then")
                except Exception as failure:
                    self.assertEqual(fixture.rich(failure)["code"], "NOT_FOUND")


class Commands(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub().start()
        cls.agent = cls.hub.issue("agent", "web-1")

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    def setUp(self):
        self.home = fixture.scratch()

    def command(self, *words):
        return [fixture.program("sentinel-agent"), "upload", "--hub", f"127.0.0.1:{self.hub.port}", "--identity",
                str(self.agent), "--state-dir", str(self.home / "none"), *map(str, words)]

    def upload(self, *words, check=0, **options):
        return fixture.run(*self.command(*words), check=check, **options)

    def file(self, name: str, data: bytes) -> pathlib.Path:
        path = self.home / name
        path.write_bytes(data)
        return path

    def test_the_agent_uploads_and_the_operator_gets_it(self):
        data = noise(2 * MIB + 9, 40)
        path = self.file("core.dump", data)
        told = json.loads(self.upload(path, "--type", "application/x-core", "--label", "job=nightly", "--json").stdout)["uploads"][0]
        self.assertEqual((told["bytes"], told["sent_bytes"], told["sha256"], told["had_it"]),
                         (len(data), len(data), sha256(data).hex(), False))
        again = json.loads(self.upload(path, "--type", "application/x-core", "--label", "job=nightly", "--json").stdout)["uploads"][0]
        self.assertEqual((again["object_id"], again["sent_bytes"], again["had_it"]), (told["object_id"], 0, True))
        renamed = json.loads(self.upload(path, "--name", "other", "--json").stdout)["uploads"][0]
        self.assertNotEqual(renamed["object_id"], told["object_id"])
        self.assertEqual(renamed["sent_bytes"], 0, "this agent has the content there")
        out = self.home / "got"
        got = json.loads(self.hub.ctl("uploads", "get", told["object_id"], "--out", out, "--json").stdout)
        self.assertEqual((out.read_bytes(), got["sha256"]), (data, sha256(data).hex()))
        refused = self.hub.ctl("uploads", "get", told["object_id"], "--out", out, check=1)
        self.assertIn("--force", refused.stderr)
        self.file("got", b"mine")
        self.hub.ctl("uploads", "get", told["object_id"], "--out", out, "--force")
        self.assertEqual(out.read_bytes(), data)
        self.assertEqual(list(self.home.glob("*.part")), [])
        rows = json.loads(self.hub.ctl("uploads", "list", "core.*", "--json").stdout)["uploads"]
        self.assertEqual([(r["name"], r["labels"], r["complete"]) for r in rows], [("core.dump", {"job": "nightly"}, True)])
        self.assertIn("core.dump", self.hub.ctl("uploads", "list").stdout)
        self.assertEqual(self.hub.ctl("uploads", "get", "u99999", check=3).returncode, 3)

    def test_a_download_goes_on_where_it_was_cut(self):
        data = noise(3 * MIB, 41)
        told = json.loads(self.upload(self.file("part.bin", data), "--json").stdout)["uploads"][0]
        out = self.home / "got"
        part = self.file(f"got.{told['object_id']}.part", data[:1_234_567])
        got = json.loads(self.hub.ctl("uploads", "get", told["object_id"], "--out", out, "--json").stdout)
        self.assertEqual((got["resumed_at"], out.read_bytes() == data, part.exists()), (1_234_567, True, False))
        part.write_bytes(b"something else")
        failed = self.hub.ctl("uploads", "get", told["object_id"], "--out", self.home / "got", "--force", check=1)
        self.assertIn("SHA-256", failed.stderr)
        self.assertEqual(out.read_bytes(), data)

    def test_names_of_files_are_chosen_with_care(self):
        for name, expected in (("../../evil.bin", "evil.bin"), ("/etc/.bashrc", None), ("-rf", None), ("a\nb", None)):
            told = json.loads(self.upload(self.file("source", name.encode()), "--name", name, "--json").stdout)["uploads"][0]
            done = subprocess.run([fixture.program("sentinelctl"), "--hub", f"127.0.0.1:{self.hub.port}", "--identity",
                                   str(self.hub.admin), "uploads", "get", told["object_id"]], cwd=self.home, capture_output=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual((self.home / (expected or told["object_id"])).read_bytes(), name.encode())

    def test_an_empty_file_is_new_once(self):
        path = self.home / "empty.bin"
        path.write_bytes(b"")
        told = json.loads(self.upload(path, "--json").stdout)["uploads"][0]
        again = json.loads(self.upload(path, "--json").stdout)["uploads"][0]
        self.assertEqual((told["had_it"], again["had_it"]), (False, True))

    def test_a_pipe_of_unknown_size(self):
        data = noise(5 * MIB + 3, 42)
        told = subprocess.run(self.command("-", "--name", "piped", "--json"), input=data, capture_output=True, check=True)
        told = json.loads(told.stdout)["uploads"][0]
        self.assertEqual((told["bytes"], told["sha256"]), (len(data), sha256(data).hex()))
        self.assertEqual(download(self.hub, told["object_id"]), data)
        empty = subprocess.run(self.command("-", "--json"), input=b"", capture_output=True, check=True)
        self.assertEqual(json.loads(empty.stdout)["uploads"][0]["bytes"], 0)

    def test_a_killed_hub_in_mid_upload_costs_nothing_but_time(self):
        data = noise(48 * MIB, 43)
        path = self.file("big.bin", data)
        for source in (str(path), "-"):
            with self.subTest(source=source):
                before = {u["objectId"] for u in listed(self.hub)}
                # What comes through the pipe waits in the middle, so that the hub dies in mid-upload.
                process = subprocess.Popen(self.command(source, "--name", "big" + source[-1], "--json"), stdout=subprocess.PIPE,
                                           stderr=subprocess.PIPE, stdin=subprocess.PIPE)
                if source == "-":
                    process.stdin.write(data[:20 * MIB])
                    process.stdin.flush()
                fixture.wait_until(lambda: [u for u in listed(self.hub) if u["objectId"] not in before
                                            and int(u.get("receivedBytes", 0)) > 0] or process.poll() is not None, "the first bytes")
                self.hub.kill()
                self.hub.start()
                if source == "-":
                    process.stdin.write(data[20 * MIB:])
                out, err = process.communicate(timeout=fixture.PATIENCE)
                self.assertEqual(process.returncode, 0, err)
                told = json.loads(out)["uploads"][0]
                self.assertEqual(told["sha256"], sha256(data).hex())
                # Sent twice is at most what was on its way.
                self.assertLessEqual(told["sent_bytes"], len(data) + told["cuts"] * 24 * MIB)

    def test_a_killed_agent_goes_on_with_the_same_file(self):
        data = noise(64 * MIB, 44)
        path = self.file("again.bin", data)
        process = subprocess.Popen(self.command(path, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        fixture.wait_until(lambda: [u for u in listed(self.hub, name_pattern="again.bin") if int(u.get("receivedBytes", 0)) > 0]
                           or process.poll() is not None, "the first bytes")
        process.kill()
        process.communicate()
        upload, = listed(self.hub, name_pattern="again.bin")
        told = json.loads(self.upload(path, "--json").stdout)["uploads"][0]
        if not upload.get("complete"):
            self.assertGreaterEqual(told["resumed_at"], int(upload["receivedBytes"]))
        self.assertEqual(told["sent_bytes"], len(data) - told["resumed_at"] if not told["had_it"] else 0)
        self.assertEqual(told["object_id"], upload["objectId"])

    def test_refusals_say_what_to_do(self):
        path = self.file("small", b"small")
        denied = self.hub.ctl("uploads", "put", path, check=4)
        self.assertIn("issue agent", denied.stderr)
        told = json.loads(self.hub.ctl("uploads", "put", path, "--name", "by-ctl", "--json", identity=self.agent).stdout)
        self.assertEqual(told["sha256"], sha256(b"small").hex())
        self.assertEqual(self.upload(self.home / "nothing", check=3).returncode, 3)
        self.assertIn("directory", self.upload(self.home, check=1).stderr)
        self.assertEqual(self.upload(check=2).returncode, 2)
        self.assertEqual(self.upload(path, "--label", "x", check=2).returncode, 2)
        self.assertEqual(self.upload(path, "--id", "12", check=2).returncode, 2)
        self.assertEqual(self.upload(path, "--insecure", "me", "--hub", "hub.example.net:8082", check=2).returncode, 2)
        key = os.urandom(16).hex()
        self.upload(path, "--id", key, "--name", "first")
        self.assertIn("contradicts", self.upload(path, "--id", key, "--name", "second", check=1).stderr)
        shown = self.upload(path, "--name", "x\x1b[31m", check=0)
        self.assertEqual(shown.stderr, "", "no bar where there is no terminal")
        failed = self.upload(self.home / "gone\x1b[31m", check=3)
        self.assertNotIn("\x1b", failed.stderr, "the name of a file disturbs no terminal")


class Keeping(unittest.TestCase):
    def test_backup_restore_verify_and_stats_know_uploads(self):
        hub = fixture.Hub().start()
        agent = hub.issue("agent", "web-1")
        data, key = noise(3 * MIB + 5, 13), os.urandom(16)
        result = put(hub, agent, data, "kept.bin")
        half = Upload(hub, agent).header(key, "half.bin")
        half.resume()
        half.send(data, 0, MIB)
        half.wait_ack(MIB)
        backup, restored = hub.home / "backup", hub.home / "restored"
        binary = fixture.program("sentinel-hub")
        fixture.run(binary, "backup", "--to", backup, "--state-dir", hub.state)
        # What comes after the backup's moment is not in it, and disturbs it not.
        put(hub, agent, noise(MIB, 14), "later.bin")
        stats = json.loads(fixture.run(binary, "stats", "--json", "--state-dir", hub.state).stdout)
        self.assertEqual((stats["uploads"]["uploads"], stats["uploads"]["unfinished"], stats["uploads"]["contents"]), (3, 1, 3))
        self.assertEqual(stats["uploads"]["content_bytes"], len(data) + MIB + MIB)
        fixture.run(binary, "verify", "--state-dir", hub.state)
        hub.stop(expect=0)
        fixture.run(binary, "restore", "--from", backup, "--state-dir", restored)
        again = fixture.Hub(state=restored).start()
        self.assertEqual({u["name"] for u in listed(again)}, {"kept.bin", "half.bin"})
        self.assertEqual(download(again, result.object_id), data)
        more = Upload(again, agent).header(key, "half.bin")
        self.assertEqual(more.resume(), MIB)
        more.send(data, MIB, len(data))
        self.assertEqual(download(again, more.finish(data).result().object_id), data)
        again.stop(expect=0)

    def test_a_damaged_byte_is_found_and_named(self):
        with fixture.Hub() as hub:
            agent = hub.issue("agent", "web-1")
            data = noise(MIB, 15)
            result = put(hub, agent, data, "rotten.bin")
            path, = content(hub).iterdir()
            with open(path, "r+b") as file:
                file.seek(300_000)
                file.write(bytes([data[300_000] ^ 1]))
            failed = download_error(hub, result.object_id)
            self.assertEqual((failed["code"], failed["reason"]), ("DATA_LOSS", "UPLOAD_DAMAGED"))
            self.assertEqual(download(hub, result.object_id, 0, 262_144), data[:262_144])
            found = fixture.run(fixture.program("sentinel-hub"), "verify", "--state-dir", hub.state, check=None)
            self.assertNotEqual(found.returncode, 0)
            self.assertIn("bad checksum", found.stdout + found.stderr)
            self.assertIn("upload_damaged", hub.log)


if __name__ == "__main__":
    fixture.main()
