# SPDX-License-Identifier: Apache-2.0
"""`agents forget` means erased: no answer has anything of the agent from then on, nor has its hub's disk a little later, whatever
dies in between; others keep all they have, also what they share with it."""

import json
import os
import pathlib
import unittest

import fixture
import inventory
import test_logs
import test_uploads
from fixture import PATIENCE, batch, gauge, now_us

SHARED = test_uploads.noise(300_000, 7)
OWN = b"only the gone one had this " * 1000
QUERY = "sentinel.query.v1.QueryService/"


class Erasure(unittest.TestCase):
    def hub(self, build=fixture.BUILD, **start) -> fixture.Hub:
        hub = fixture.Hub(build)
        (hub.home / "config.yaml").write_text("store:\n  seal_age: 1s\n")
        hub.flags = ["--config", str(hub.home / "config.yaml")]
        hub.start(**start)
        self.addCleanup(hub.stop)
        return hub

    def give(self, hub, name: str, *uploads: bytes):
        identity = hub.issue("agent", name)
        stream = fixture.Stream(hub, identity).hello(os.urandom(16))
        stream.welcome()
        stream.send(batch=batch(1, [gauge(1, "test.value")], [(1, [1])], [(now_us() - 90_000_000_000, 1, [1.0])]))
        stream.send(batch=batch(2, [], [], [(now_us(), 1, [2.0])]))
        stream.ack(2)
        stream.end()
        stream = fixture.Stream(hub, identity, "StreamLogs").hello(os.urandom(16))
        stream.welcome()
        stream.send(batch=test_logs.batch(1, [test_logs.record(f"line {i} of {name}") for i in range(50)]))
        stream.ack(1)
        stream.end()
        for content in uploads:
            upload = test_uploads.Upload(hub, identity).header(os.urandom(16), name=f"{name}.bin")
            upload.resume()
            upload.send(content, 0, len(content))
            upload.finish(content)
            upload.result()
        client = inventory.Client(hub, name, identity)
        client.upload({"packages": inventory.packages(("openssl", "3.0"), ("zlib", "1.3"))})

    def search(self, hub, words: str) -> int:
        return len(hub.ctl("logs", "search", words, "--range", "7d", "--json").stdout.splitlines())

    def check_gone(self, hub, name: str):
        self.assertNotIn(name, hub.ctl("agents", "list").stdout)
        hub.ctl("agents", "show", name, check=3)
        self.assertEqual(self.search(hub, name), 0)
        found = hub.ask(QUERY + "ListUploads", {})
        self.assertNotIn(name, json.dumps(found))
        for question in ("QueryMetrics", "ListMetrics"):
            answer = hub.ask(QUERY + question, {"name": "test.value", "range": {"from": "-7d"}, "group_by": ["agent"]}
                             if question == "QueryMetrics" else {"agents": {"pattern": "*"}})
            self.assertNotIn(name, json.dumps(answer))
        self.assertNotIn(name, hub.ctl("inventory", "find", "packages", check=None).stdout)
        stats = json.loads(fixture.run(fixture.program("sentinel-hub"), "stats", "--state-dir", hub.state, "--json").stdout)
        self.assertEqual(stats["state"]["agents"], 1, stats)

    def check_kept(self, hub, name: str):
        self.assertEqual(fixture.count_of(hub, "test.value", name), 2)
        self.assertEqual(self.search(hub, name), 50)
        upload, = json.loads(hub.ctl("uploads", "list", "--json").stdout)["uploads"]
        self.assertEqual((upload["agent_id"], upload["name"]), (name, f"{name}.bin"))
        to = fixture.scratch() / "content"
        hub.ctl("uploads", "get", upload["object_id"], "--out", to)
        self.assertEqual(to.read_bytes(), SHARED)
        self.assertTrue(hub.ctl("inventory", "show", name).stdout)

    def await_erasure(self, hub):
        """Off the disk: rows, then the segments of the journal."""
        fixture.wait_until(lambda: "event=agent_erased" in hub.log, "the agent to be erased")

    def forget(self, hub, name: str) -> dict:
        return json.loads(hub.ctl("agents", "forget", name, "--yes", "--json").stdout)

    def check_disk(self, hub):
        hub.stop(expect=0)
        fixture.run(fixture.program("sentinel-hub"), "compact", "--state-dir", hub.state)
        fixture.run(fixture.program("sentinel-hub"), "verify", "--state-dir", hub.state)
        contents = list((hub.state / "db" / "default" / "objects" / "content").iterdir())
        self.assertEqual([c.read_bytes() == SHARED for c in contents], [True])  # what both had is there, what one had is not
        everything = b"".join(p.read_bytes() for p in (hub.state / "db" / "default").rglob("*.mdb"))
        self.assertNotIn(b"of gone-1", everything)

    def test_nothing_of_it_is_found_and_nothing_of_it_stays(self):
        hub = self.hub()
        self.give(hub, "gone-1", SHARED, OWN)
        self.give(hub, "kept-1", SHARED)
        told = self.forget(hub, "gone-1")
        self.assertEqual((told["erased_samples"], told["erased_log_records"]), (2, 50))
        self.check_gone(hub, "gone-1")
        self.check_kept(hub, "kept-1")
        to = fixture.scratch() / "copy"
        hub.ctl("backup", to)
        self.await_erasure(hub)
        self.check_gone(hub, "gone-1")
        self.check_kept(hub, "kept-1")
        self.check_disk(hub)
        self.check_restored(to)

    def check_restored(self, backup):
        """A backup that was made after the answer, before all was off the disk."""
        state = fixture.scratch() / "again"
        fixture.run(fixture.program("sentinel-hub"), "restore", "--from", backup, "--state-dir", state)
        hub = fixture.Hub(state=state).start()
        self.addCleanup(hub.stop)
        self.check_gone(hub, "gone-1")
        self.check_kept(hub, "kept-1")

    def test_a_kill_behind_the_answer_delays_it(self):
        hub = self.hub()
        self.give(hub, "gone-1", SHARED, OWN)
        self.give(hub, "kept-1", SHARED)
        self.forget(hub, "gone-1")
        hub.kill()
        hub.start()
        self.check_gone(hub, "gone-1")
        self.await_erasure(hub)
        self.check_kept(hub, "kept-1")
        self.check_disk(hub)

    def test_a_kill_between_registry_and_store_is_finished_by_the_next_start(self):
        if b"faultpoint:" not in pathlib.Path(fixture.program("sentinel-hub", fixture.FAULTS)).read_bytes():
            self.skipTest("SENTINEL_FAULTS names no build with fault points")
        hub = self.hub(fixture.FAULTS, env={"SENTINEL_FAULT": "forget_after_registry"})
        self.give(hub, "gone-1", SHARED, OWN)
        self.give(hub, "kept-1", SHARED)
        hub.ctl("agents", "forget", "gone-1", "--yes", check=None)
        hub.wait_exit()
        hub.start()
        self.check_gone(hub, "gone-1")
        self.await_erasure(hub)
        self.check_kept(hub, "kept-1")

    def test_who_comes_with_the_id_begins_anew(self):
        hub = self.hub()
        self.give(hub, "gone-1")
        self.forget(hub, "gone-1")
        self.give(hub, "gone-1")
        listed = json.loads(hub.ctl("agents", "list", "gone-1", "--json").stdout)["agents"][0]
        self.assertEqual(listed["samples_stored"], 2)
        self.await_erasure(hub)
        self.assertEqual(fixture.count_of(hub, "test.value", "gone-1"), 2)
        self.assertEqual(self.search(hub, "gone-1"), 50)


if __name__ == "__main__":
    fixture.main()
