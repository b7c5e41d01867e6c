# SPDX-License-Identifier: Apache-2.0
"""backup, restore, verify, stats and compact of sentinel-hub, beside a hub under load and without one."""

import json
import os
import pathlib
import random
import subprocess
import time
import unittest

import fixture
from fixture import batch, gauge, now_us

CONFIG = "store:\n  seal_age: 1s\njournal:\n  segment_size: 1MiB\n  size: 4MiB\n"


def command(*words, check: int | None = 0):
    return fixture.run(fixture.program("sentinel-hub"), *words, check=check)



class Backup(unittest.TestCase):
    def setUp(self):
        # The bench's times begin 14 days ago; the same ends for each question.
        self.window = {key: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - days * 86400))
                       for key, days in (("from", 14.5), ("to", 13))}

    def hub(self, state: pathlib.Path | None = None):
        hub = fixture.Hub(state=state)
        (hub.home / "config.yaml").write_text(CONFIG)
        hub.flags = ["--config", str(hub.home / "config.yaml")]
        self.addCleanup(hub.stop)
        return hub.start()

    def load(self, hub, seconds: int):
        fixture.run(fixture.program("sentinel-bench"), "identities", "--state-dir", hub.state, "--out", hub.home / "identities",
                    "--agents", 8)
        return fixture.start(
            [fixture.program("sentinel-bench"), "metrics", "--hub", f"127.0.0.1:{hub.port}", "--identities",
             str(hub.home / "identities"), "--operator", str(hub.admin), "--agents", "8", "--series", "40", "--duration",
             f"{seconds}s", "--warmup", "0s", "--rate", "40000", "--verify", "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)

    def judge(self, bench):
        out, err = bench.communicate(timeout=fixture.PATIENCE * 3)
        self.assertEqual(bench.returncode, 0, err[-3000:] + out)
        told = json.loads(out)
        self.assertEqual((told["verify_missing"], told["verify_double"], told["refused"]), (0, 0, 0), told)

    def put(self, stream, sequence: int, declare: bool):
        stream.send(batch=batch(sequence, [gauge(1, "test.value")] if declare else [], [(1, [1])] if declare else [],
                                [(now_us(), 1, [float(sequence)])]))

    def values(self, hub, name: str, agent: str) -> list[tuple[str, float]]:
        answer = hub.ask("sentinel.query.v1.QueryService/QueryMetrics",
                         {"name": name, "agents": {"ids": [agent]}, "range": self.window, "step_text": "10s",
                          "aggregation": "AGGREGATION_SUM", "group_aggregation": "AGGREGATION_SUM", "group_all": True})
        return [(p["time"], float(p["value"])) for s in answer.get("series", []) for p in s["points"]]

    def test_a_list_of_revocations_is_looked_at_before_anything_is_copied(self):
        home = fixture.scratch()
        (home / "revoked").write_text("-----BEGIN\n")
        for bad in ("revoked", "no-such"):
            told = command("restore", "--from", home / "no-backup", "--state-dir", home / "to", "--revoked", home / bad, check=2)
            self.assertIn(f"{home / bad}: ", told.stderr)
            self.assertNotIn("no-backup", told.stderr)
            self.assertFalse((home / "to").exists())

    def test_a_backup_under_load_comes_back_as_of_its_moment(self):
        hub = self.hub()
        identity, spool = hub.issue("agent", "keeper"), os.urandom(16)
        stream = fixture.Stream(hub, identity).hello(spool)
        stream.welcome()
        bench = self.load(hub, 10)
        sequence = 0
        until = time.monotonic() + 4
        while time.monotonic() < until:
            sequence += 1
            self.put(stream, sequence, sequence == 1)
            stream.ack(sequence)
        target = hub.home / "copy"
        told = json.loads(command("backup", "--to", target, "--state-dir", hub.state, "--json").stdout)
        self.assertEqual(told["left_out"], 0)
        self.assertGreater(told["days"], 0)
        acknowledged = sequence
        for _ in range(50):
            sequence += 1
            self.put(stream, sequence, False)
            stream.ack(sequence)
        self.judge(bench)
        stream.end()

        again = hub.home / "again"
        restored = json.loads(command("restore", "--from", target, "--state-dir", again, "--json").stdout)
        self.assertEqual(restored["n_damaged"], 0)
        self.assertIsNotNone(restored["newest_commit"])
        self.assertEqual(json.loads(command("verify", "--state-dir", again, "--json").stdout)["n_damaged"], 0)
        self.assertEqual((again / "certs" / "server-key.pem").stat().st_mode & 0o777, 0o600)
        generation = int(hub.ask("sentinel.admin.v1.AdminService/GetStatus")["registryGeneration"])

        second = self.hub(again)
        self.assertGreater(int(second.ask("sentinel.admin.v1.AdminService/GetStatus")["registryGeneration"]), generation)
        have = fixture.count_of(second, "test.value", "keeper")
        self.assertGreaterEqual(have, acknowledged)
        self.assertLess(have, sequence)
        for name in ("bench-0", "bench-7"):
            for metric in ("bench.counter", "bench.gauge"):
                before, after = self.values(hub, metric, name), self.values(second, metric, name)
                self.assertGreater(len(after), 100)
                self.assertLess(len(after), len(before))
                self.assertEqual(before[:len(after)], after)

        # An agent that is ahead of the hub: accepted, and what is missing is counted.
        stream = fixture.Stream(second, identity).hello(spool, first=sequence + 1, crc=1)
        stream.welcome()
        self.put(stream, sequence + 1, True)
        stream.ack(sequence + 1)
        stream.end()
        self.assertEqual(fixture.count_of(second, "test.value", "keeper"), have + 1)
        second.stop(expect=0)
        stats = json.loads(command("stats", "--state-dir", again, "--json").stdout)
        self.assertEqual(stats["state"]["counted_lost"], sequence - have)

        # Each sample once, in a block, and counted once.
        after = json.loads(command("compact", "--state-dir", again, "--json").stdout)["after"]
        self.assertEqual(after["days"]["levels"][0]["blocks"], 0)
        for tier in after["rollups"]:
            self.assertGreater(tier["windows"], 0)
            self.assertGreater(tier["bytes"], 0)
        self.assertEqual(after["days"]["samples"], after["state"]["counted_samples"])
        self.assertEqual(json.loads(command("verify", "--state-dir", again, "--json").stdout)["n_damaged"], 0)

    def test_kills_leave_the_source_whole_and_nothing_that_looks_like_a_backup(self):
        hub = self.hub()
        bench = self.load(hub, 8)
        dice = random.Random(4711)
        target = hub.home / "copy"
        for _ in range(12):
            backup = fixture.start([fixture.program("sentinel-hub"), "backup", "--to", str(target), "--state-dir", str(hub.state)],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(dice.uniform(0.0, 0.15))
            backup.kill()
            backup.wait()
            if target.exists():
                self.assertIn("began_us", (target / "sentinel-backup").read_text())
                target.rename(hub.home / f"copy-{os.urandom(4).hex()}")
        self.judge(bench)
        self.assertTrue(hub.is_running())
        self.assertEqual(command("verify", "--state-dir", hub.state).returncode, 0)
        command("backup", "--to", target, "--state-dir", hub.state)
        self.assertFalse(target.with_name("copy.partial").exists())
        refused = command("backup", "--to", target, "--state-dir", hub.state, check=None)
        self.assertEqual(refused.returncode, 2)
        self.assertIn("already", refused.stderr)
        for whole in hub.home.glob("copy*"):
            self.assertEqual(command("verify", "--state-dir", whole).returncode, 0)
        hub.stop(expect=0)

    def test_a_full_disk_leaves_nothing_behind(self):
        hub = self.hub()
        self.judge(self.load(hub, 3))
        target = hub.home / "copy"
        program = fixture.program("sentinel-hub")
        refused = fixture.run("bash", "-c", f"trap '' XFSZ; ulimit -f 100; exec {program} backup --to {target} --state-dir {hub.state}",
                              check=None)
        self.assertEqual(refused.returncode, 1, refused.stderr)
        self.assertIn("no room", refused.stderr)
        self.assertEqual(list(hub.home.glob("copy*")), [])
        self.assertEqual(command("verify", "--state-dir", hub.state).returncode, 0)
        hub.stop(expect=0)

    def test_verify_names_what_is_damaged(self):
        hub = self.hub()
        self.judge(self.load(hub, 3))
        fixture.wait_until(lambda: list(hub.state.glob("db/default/metrics/*")), "a sealed day")
        hub.stop(expect=0)
        self.assertIn("whole", command("verify", "--state-dir", hub.state).stdout)
        for pattern in ("db/default/journal/*/data.mdb", "db/default/metrics/*/data.mdb", "db/state/data.mdb"):
            path = sorted(hub.state.glob(pattern))[-1]
            whole = path.read_bytes()
            with open(path, "r+b") as file:  # bits of each page behind the first two
                for at in range(2 * 4096 + 100, len(whole), 100):
                    file.seek(at)
                    file.write(bytes([whole[at] ^ 1]))
            found = command("verify", "--state-dir", hub.state, "--json", check=None)
            self.assertEqual(found.returncode, 6, found.stderr)
            self.assertIn("restore", found.stderr)
            self.assertIn(str(path.parent), [d["path"] for d in json.loads(found.stdout)["damaged"]])
            path.write_bytes(whole)
        self.assertEqual(command("verify", "--state-dir", hub.state).returncode, 0)

    def test_compact_wants_the_hub_stopped(self):
        hub = self.hub()
        self.judge(self.load(hub, 3))
        refused = command("compact", "--state-dir", hub.state, check=None)
        self.assertEqual(refused.returncode, 5)
        self.assertIn("each hour", refused.stderr)
        hub.stop(expect=0)
        told = json.loads(command("compact", "--state-dir", hub.state, "--json").stdout)
        self.assertLess(told["after"]["days"]["bytes"], told["before"]["days"]["bytes"] + told["before"]["journal"]["bytes"])
        self.assertEqual(told["after"]["days"]["samples"], told["after"]["state"]["counted_samples"])
        self.assertEqual(command("stats", "--state-dir", fixture.scratch(), check=None).returncode, 3)
        text = command("stats", "--state-dir", hub.state, "--environments").stdout
        self.assertIn("bench.counter", text)
        self.assertIn("windows of a minute", text)
        for kind in ("metrics", "rollup-1m", "rollup-1h"):
            self.assertIn(f"db/default/{kind}/", text)


if __name__ == "__main__":
    fixture.main()
