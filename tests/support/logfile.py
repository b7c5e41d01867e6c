# SPDX-License-Identifier: Apache-2.0
"""Files that programs log to, with every line known, and what a hub has of them."""

import collections
import os
import pathlib
import random
import shutil
import threading

import grpc

import fixture

KEPT = 60  # rotated files: more than the agent is behind by


class Log:
    """A file that is written and rotated; knows every line."""

    def __init__(self, path: pathlib.Path):
        self.path, self.lines, self.n_rotated, self.old = path, [], 0, []
        self.file = open(path, "ab", buffering=0)

    def close(self):
        self.file.close()

    def write(self, n: int, text: str = "line"):
        lines = [f"{text} {len(self.lines) + i:07d} of {self.path.name}" for i in range(n)]
        self.file.write("".join(f"{line}\n" for line in lines).encode())
        self.lines += lines

    def raw(self, data: bytes):
        self.file.write(data)

    def old_name(self) -> pathlib.Path:
        self.n_rotated += 1
        old = self.path.with_name(f"{self.path.name}.{self.n_rotated}")
        self.old.append(old)
        while len(self.old) > KEPT:
            self.old.pop(0).unlink()
        return old

    def rename(self):
        os.rename(self.path, self.old_name())
        self.file.close()
        self.file = open(self.path, "ab", buffering=0)

    def rename_and_write_on(self):
        """The program goes on writing to the old file for a while, as one does that was not told yet."""
        os.rename(self.path, self.old_name())
        self.write(3, "late")
        self.file.close()
        self.file = open(self.path, "ab", buffering=0)

    def copytruncate(self):
        shutil.copyfile(self.path, self.old_name())
        os.truncate(self.path, 0)

    def shift(self):
        """As logrotate does: .1 becomes .2, and so on; the inodes stay."""
        self.rename()
        if len(self.old) > 1:
            a, b = self.old[-1], self.old[-2]
            spare = a.with_name(a.name + ".x")
            os.rename(b, spare)
            os.rename(a, b)
            os.rename(spare, a)

    def rotate(self, draw: random.Random):
        draw.choice([self.rename, self.rename_and_write_on, self.copytruncate, self.shift])()


class Programs(threading.Thread):
    """Write to their files all the time, and rotate them, until stop()."""

    def __init__(self, logs: list[Log], seed: int, pause_s: float = 0.05, rotate_each_s: float = 2):
        super().__init__(daemon=True)
        self.logs, self.draw, self.pause_s, self.rotate_each_s = logs, random.Random(seed), pause_s, rotate_each_s
        self.is_over = threading.Event()
        self.failure = None

    def run(self):
        try:
            while not self.is_over.wait(self.pause_s):
                for log in self.logs:
                    log.write(self.draw.randrange(0, 6))
                    if self.draw.random() < self.pause_s / self.rotate_each_s:
                        log.rotate(self.draw)
        except Exception as failure:  # said by stop(): a story must not go on without its lines
            self.failure = failure

    def stop(self) -> list[str]:
        """Every line that was written."""
        self.is_over.set()
        self.join()
        if self.failure:
            raise self.failure
        for log in self.logs:
            log.close()
        return [line for log in self.logs for line in log.lines]


def entries(hub: fixture.Hub, agent: str) -> list:
    """All that the hub has of an agent's records, oldest first; none while it does not know the agent."""
    try:
        return _entries(hub, agent)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.NOT_FOUND:
            return []
        raise


def _entries(hub: fixture.Hub, agent: str) -> list:
    s = fixture.stubs()
    q, token, found = s.query, "", []
    with hub.channel(hub.admin) as channel:
        while True:
            request = q.SearchLogsRequest(agents=q.AgentSelector(ids=[agent]), oldest_first=True, page_size=10000, page_token=token)
            request.range.CopyFrom(q.TimeRange(**{"from": "-30d", "to": "2100-01-01"}))
            for page in s.query_grpc.QueryServiceStub(channel).SearchLogs(request, timeout=fixture.PATIENCE):
                found += page.entries
                token = page.next_page_token
            if not token:
                return found


def bodies(hub: fixture.Hub, agent: str) -> list:
    return [e.text if e.WhichOneof("body") == "text" else e.raw for e in entries(hub, agent)]


def differences(lines: list[str], came: list) -> tuple[list, int, list, int, list]:
    """What was lost, what came twice (the first of them, and how many), and what nobody wrote."""
    count = collections.Counter(came)
    lost = [line for line in lines if count[line] == 0]
    twice = [line for line in count if count[line] > 1]
    return lost[:5], len(lost), twice[:5], len(twice), sorted(map(str, set(count) - set(lines)))[:5]


NO_DIFFERENCE = ([], 0, [], 0, [])
