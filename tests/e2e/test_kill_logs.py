# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the hub under streams of logs: at random moments, and at every fault point on the way of logs
from the journal into blocks of days, larger ones, and out again. The sealer is at work all the time.

The oracle is what each agent knows: what was acknowledged must be found, once; what was sent may be found, once; nothing else.
"""

import os
import pathlib
import random
import threading
import time
import unittest

import fixture
from fixture import crc_of_logs, now_us

POINTS = ("logs_seal_before_commit", "logs_seal_after_commit", "logs_seal_after_show", "logs_compact_before_commit",
          "logs_compact_after_commit", "journal_before_commit", "journal_after_commit", "journal_before_done",
          "checkpoint_before_unlink", "checkpoint_after_unlink")
BUSY_SEALER = "journal:\n  segment_size: 1MiB\n  size: 4MiB\nstore:\n  seal_age: 1s\n"
AGENTS, LINES = 3, 40
DAY_US = 86_400_000_000


class Agent(threading.Thread):
    """Sends logs, batch after batch, and goes on after each death of the hub from what that has."""

    def __init__(self, story, name: str):
        super().__init__(name=name)
        self.story, self.agent, self.spool = story, name, os.urandom(16)
        self.identity = story.hub.issue("agent", name)
        self.sent, self.acknowledged, self.failure = [], 0, None

    def batch(self, sequence: int):
        t = fixture.stubs().telemetry
        # Some of it is late, of days that are over: those are compacted and rewritten while the others are written.
        begin = now_us() - (sequence % 3) * DAY_US
        records = [t.LogRecord(time_unix_us=begin + i, severity_number=9, text=f"{self.agent} {sequence}.{i} " + "x" * (i * 7 % 200))
                   for i in range(LINES)]
        return t.LogBatch(sequence=sequence, source=t.LogSource(type="file", name=f"/var/log/{sequence % 2}.log"), records=records)

    def stream(self):
        stream = fixture.Stream(self.story.hub, self.identity, "StreamLogs")
        try:
            stream.hello(self.spool, first=self.acknowledged + 1, last=len(self.sent),
                         crc=crc_of_logs(self.sent[self.acknowledged - 1]) if self.acknowledged else 0)
            at = max(self.acknowledged, stream.welcome().resume_after_sequence)
            while not self.story.is_over:
                for _ in range(4):
                    at += 1
                    if at > len(self.sent):
                        self.sent.append(self.batch(at))
                    stream.send(batch=self.sent[at - 1])
                self.acknowledged = stream.ack(at)
        finally:
            stream.close()

    def run(self):
        import grpc
        while not self.story.is_over:
            try:
                self.stream()
            except (grpc.RpcError, StopIteration, AssertionError, OSError) as failure:
                self.failure = failure
                time.sleep(0.05)


class KillLogs(unittest.TestCase):
    def setUp(self):
        self.is_over = False
        fixture.stubs()  # made once, before the threads
        self.hub = fixture.Hub(build=fixture.FAULTS)
        (self.hub.home / "config.yaml").write_text(BUSY_SEALER)
        self.hub.flags = ["--config", str(self.hub.home / "config.yaml")]
        self.hub.start()
        self.agents = [Agent(self, f"logs-{i}") for i in range(AGENTS)]
        for agent in self.agents:
            agent.start()
        self.addCleanup(self.end)

    def end(self):
        self.is_over = True
        for agent in self.agents:
            agent.join()
        self.hub.stop()

    def lines_of(self, agent: str) -> list:
        s = fixture.stubs()
        channel = self.hub.channel(self.hub.admin)
        q, found, token = s.query, [], ""
        try:
            while True:
                request = q.SearchLogsRequest(agents=q.AgentSelector(ids=[agent]), oldest_first=True, page_size=1000, page_token=token,
                                              range=q.TimeRange(**{"from": "-10d", "to": "2100-01-01"}))
                pages = list(s.query_grpc.QueryServiceStub(channel).SearchLogs(request, timeout=fixture.PATIENCE))
                found += [entry.text for page in pages for entry in page.entries]
                token = pages[-1].next_page_token if pages else ""
                if not token:
                    return found
        finally:
            channel.close()

    def judge(self):
        self.is_over = True
        for agent in self.agents:
            agent.join()
            found = self.lines_of(agent.agent)
            sent = [record.text for batch in agent.sent for record in batch.records]
            self.assertEqual(len(found), len(set(found)), f"{agent.agent}: found twice; {agent.failure}")
            self.assertEqual(set(found) - set(sent), set(), "never sent")
            self.assertEqual(set(sent[:agent.acknowledged * LINES]) - set(found), set(), "acknowledged, and lost")
            self.assertGreater(agent.acknowledged, 0, f"{agent.agent}: {agent.failure}")
        fixture.run(fixture.program("sentinel-hub", fixture.FAULTS), "verify", "--state-dir", self.hub.state)

    def test_every_fault_point(self):
        if b"faultpoint:" not in pathlib.Path(fixture.program("sentinel-hub", fixture.FAULTS)).read_bytes():
            self.skipTest("SENTINEL_FAULTS names no build with fault points")
        for point in POINTS:
            with self.subTest(point=point):
                self.hub.kill()
                self.hub.start(env={"SENTINEL_FAULT": f"{point}:2"}, wait=False)
                fixture.wait_until(lambda: not self.hub.is_running(), f"the hub to die at {point}", timeout=60)
                self.assertEqual(self.hub.process.wait(), -9, self.hub.log[-3000:])
        self.hub.kill()
        self.hub.start()
        self.judge()

    def test_random_moments(self):
        dice = random.Random(4712)
        for _ in range(6):
            time.sleep(dice.uniform(0.3, 1.5))
            self.hub.kill()
            self.hub.start()
        self.judge()


if __name__ == "__main__":
    fixture.main()
