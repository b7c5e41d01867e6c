# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the hub at random under all five streams at once, whose own ends are cut at random too.

Each sender knows what was acknowledged to it. In the end all of that is there, once: samples by sentinel-bench's oracle, log lines,
revisions of an inventory, uploads and files byte by byte; and no byte of an upload that was acknowledged was sent again.
"""

import json
import os
import random
import subprocess
import threading
import time
import unittest

import fixture
import inventory
import test_kill_logs
import test_uploads
from test_uploads import MIB, Upload, download, noise, sha256

BUSY_SEALER = test_kill_logs.BUSY_SEALER
SECONDS, REVISIONS_MAX = 14, 100
HISTORY = "sentinel.query.v1.QueryService/ListInventoryHistory"


class Sender(threading.Thread):
    """Does step() again and again; what breaks on the way is tried again from what the hub says."""

    def __init__(self, story, name: str):
        super().__init__(name=name)
        self.story, self.agent, self.failure, self.broken = story, name, None, None
        self.identity = story.hub.issue("agent", name)
        self.dice = random.Random(name)

    def step(self):
        raise NotImplementedError

    def run(self):
        import grpc
        try:
            while not self.story.is_over:
                try:
                    self.step()
                except (grpc.RpcError, StopIteration, OSError) as failure:
                    self.failure = failure
                    time.sleep(0.05)
        except AssertionError as broken:
            self.broken = broken


class Inventories(Sender):
    def __init__(self, story, name):
        super().__init__(story, name)
        self.n = 0

    def tables(self, n: int) -> dict:
        return {"packages": inventory.packages(*((f"package-{i}", f"1.{n if i == n % 50 else 0}") for i in range(50))),
                "os": inventory.Table(["name"], [["linux"]])}

    def step(self):
        if self.n == REVISIONS_MAX:
            time.sleep(0.1)
            return
        client = inventory.Client(self.story.hub, self.agent, self.identity)
        try:
            answer = client.upload(self.tables(self.n + 1))
        finally:
            client.close()
        if not isinstance(answer, dict):
            self.n += 1

    def judge(self, test):
        client = inventory.Client(self.story.hub, self.agent, self.identity)
        answer = client.upload(self.tables(self.n + 1))
        client.close()
        test.assertFalse(isinstance(answer, dict), answer)
        test.assertEqual(answer.revision, self.n + 1, f"{self.n} were acknowledged; {self.failure}")
        for n in sorted({1, self.n // 2 + 1, self.n + 1}):
            revisions = test.hub.ask(HISTORY, {"agent_id": self.agent, "page_size": 1000, "range": {"from": "-1d"}})["revisions"]
            test.assertEqual([int(r["revision"]) for r in revisions], list(range(self.n + 1, 0, -1)))
            received = next(r["receivedTime"] for r in revisions if int(r["revision"]) == n)
            test.assertTrue(received)
        now = test.hub.ask("sentinel.query.v1.QueryService/GetInventory", {"agent_id": self.agent, "tables": ["packages"]})
        test.assertEqual([r["values"] for r in now["tables"][0]["rows"]], self.tables(self.n + 1)["packages"].rows)


class Uploads(Sender):
    """One upload after the other, of some MiB, each gone on with until it is finished."""

    def __init__(self, story, name, method):
        super().__init__(story, name)
        self.method, self.done, self.key = method, [], None

    def open(self):
        upload = Upload(self.story.hub, self.identity, self.method)
        if self.method == "UploadBulkData":
            return upload.header(self.key, f"{self.agent}-{len(self.done)}")
        return upload.file(self.key, f"/var/{self.agent}-{len(self.done)}")

    def step(self):
        if self.key is None:
            self.key, self.acked = os.urandom(16), 0
            self.data = noise(4 * MIB + self.dice.randrange(MIB), self.dice.randrange(1 << 30))
        upload = self.open()
        try:
            first = upload.receive()
            if first.WhichOneof("message") == "resume":
                at = upload.acked = first.resume.offset
                assert at >= self.acked, f"{self.agent}: {self.acked} bytes were acknowledged, {at} are there"
                until = len(self.data) if self.dice.random() < 0.6 else self.dice.randrange(at, len(self.data) + 1)
                upload.send(self.data, at, until, step=256 << 10)
                if until < len(self.data):
                    return  # this end goes away
                result = upload.finish(self.data).result()
            else:
                result = first.result
        finally:
            self.acked = max(self.acked, upload.acked)
            upload.close()
        assert result.sha256 == sha256(self.data), self.agent
        self.done.append((result.object_id, result.sha256))
        self.key = None

    def judge(self, test):
        test.assertGreater(len(self.done), 0, self.failure)
        for object_id, digest in self.done:
            test.assertEqual(sha256(download(test.hub, object_id)), digest)
        whole = [u for u in test_uploads.listed(test.hub, agents={"ids": [self.agent]}, page_size=1000) if u.get("complete")]
        test.assertIn(len(whole), (len(self.done), len(self.done) + 1), "one may be whole whose end was not heard of")


class KillAll(unittest.TestCase):
    def test_random_moments(self):
        self.is_over = False
        fixture.stubs()  # made once, before the threads
        self.hub = fixture.Hub()
        (self.hub.home / "config.yaml").write_text(BUSY_SEALER)
        self.hub.flags = ["--config", str(self.hub.home / "config.yaml")]
        self.hub.start()
        self.addCleanup(self.end)
        self.senders = [test_kill_logs.Agent(self, "logs-1"), Inventories(self, "inventory-1"), Uploads(self, "bulk-1", "UploadBulkData"),
                        Uploads(self, "file-1", "StreamFileContent")]
        bench = self.start_metrics()
        for sender in self.senders:
            sender.start()
        dice, until = random.Random(4713), time.monotonic() + SECONDS
        while time.monotonic() < until:
            time.sleep(dice.uniform(0.5, 2))
            self.hub.kill()
            self.hub.start()
        out, err = bench.communicate(timeout=fixture.PATIENCE * 3)
        self.is_over = True
        for sender in self.senders:
            sender.join()
            self.assertIsNone(getattr(sender, "broken", None))
        self.judge_metrics(bench.returncode, out, err)
        logs, *others = self.senders
        found = test_kill_logs.KillLogs.lines_of(self, logs.agent)
        sent = [record.text for batch in logs.sent for record in batch.records]
        self.assertEqual(len(found), len(set(found)), "found twice")
        self.assertEqual(set(found) - set(sent), set(), "never sent")
        self.assertEqual(set(sent[:logs.acknowledged * test_kill_logs.LINES]) - set(found), set(), "acknowledged, and lost")
        self.assertGreater(logs.acknowledged, 0, logs.failure)
        for sender in others:
            sender.judge(self)
        fixture.run(fixture.program("sentinel-hub"), "verify", "--state-dir", self.hub.state)

    def start_metrics(self):
        identities = self.hub.home / "identities"
        fixture.run(fixture.program("sentinel-bench"), "identities", "--state-dir", self.hub.state, "--out", identities, "--agents", 4)
        return fixture.start(
            [fixture.program("sentinel-bench"), "metrics", "--hub", f"127.0.0.1:{self.hub.port}", "--identities", str(identities),
             "--operator", str(self.hub.admin), "--agents", "4", "--series", "40", "--duration", f"{SECONDS + 4}s", "--warmup", "0s",
             "--rate", "20000", "--reconnect", "--verify", "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)

    def judge_metrics(self, code: int, out: str, err: str):
        self.assertEqual(code, 0, err[-3000:] + out)
        told = json.loads(out)
        self.assertEqual((told["verify_missing"], told["verify_double"], told["refused"]), (0, 0, 0), told)
        self.assertTrue(told["verified"])
        self.assertGreater(told["acknowledged"], 0)

    def end(self):
        self.is_over = True
        for sender in self.senders:
            if sender.is_alive():
                sender.join()
        self.hub.stop()


if __name__ == "__main__":
    fixture.main()
