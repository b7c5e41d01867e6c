# SPDX-License-Identifier: Apache-2.0
"""The hot folder: what is put there is at the hub, once, whatever is cut meanwhile; and what cannot be, with its reason."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import unittest

import fixture

AGENT = fixture.program("sentinel-agent")


class Folder:
    """An agent with an upload folder."""

    def __init__(self, hub: fixture.Hub, name: str, **settings):
        self.hub, self.name = hub, name
        self.path = fixture.scratch() / "out"
        self.path.mkdir()
        self.agent = fixture.Agent(hub, name)
        self.config = hub.home / f"{name}.yaml"
        self.set(**settings)
        self.agent.flags = ["--config", str(self.config)]

    def set(self, **settings):
        settings = {"folder": str(self.path), "scan": "200ms", "settle": "1s", "rate": "0"} | settings
        self.config.write_text(json.dumps({"interval": "200ms", "uplink": {"reconnect_spread": "200ms", "backoff": "200ms",
                                                                           "max_backoff": "400ms"}, "upload": settings}))

    def put(self, name: str, content: bytes) -> pathlib.Path:
        """As a careful writer does: beside, then renamed."""
        beside = self.path / f".{name}"
        beside.write_bytes(content)
        beside.rename(self.path / name)
        return self.path / name

    def uploads(self) -> list[dict]:
        told = self.hub.ctl("uploads", "list", "--agent", self.name, "--json", check=None)
        return json.loads(told.stdout).get("uploads", []) if told.returncode == 0 else []

    def names(self, of: str = "") -> set[str]:
        folder = self.path / of
        return {path.name for path in folder.iterdir() if path.is_file() and path.name[0] != "."} if folder.exists() else set()

    def status(self) -> dict:
        try:
            return json.loads((self.agent.state / "status.json").read_text())["uploads"]
        except FileNotFoundError:
            return {}


def uploads_of(folder: Folder) -> dict:
    return {upload["name"]: upload for upload in folder.uploads()}


class HotFolder(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub().start()

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    def test_what_is_put_there_is_at_the_hub_and_in_done(self):
        folder = Folder(self.hub, "hot", labels=["kind=report", "site=north"])
        folder.put("before.txt", b"there before the agent was")
        with folder.agent:
            fixture.wait_until(lambda: folder.names("done") == {"before.txt"}, "the first one")
            folder.put("renamed.bin", os.urandom(3 << 20))
            (folder.path / "closed.txt").write_text("written in place")
            (folder.path / ".hidden").write_text("not yet")
            fixture.wait_until(lambda: folder.names("done") == {"before.txt", "renamed.bin", "closed.txt"}, "all three")
            at_hub = uploads_of(folder)
            self.assertEqual(set(at_hub), {"before.txt", "renamed.bin", "closed.txt"})
            self.assertEqual(at_hub["renamed.bin"]["labels"], {"kind": "report", "site": "north"})
            self.assertEqual(at_hub["renamed.bin"]["sha256"].lower(),
                             hashlib.sha256((folder.path / "done/renamed.bin").read_bytes()).hexdigest())
            self.assertTrue((folder.path / ".hidden").exists())
            fixture.wait_until(lambda: folder.status().get("done") == 3, "the status")

    def test_one_that_is_being_written_waits_until_it_is_closed(self):
        folder = Folder(self.hub, "writing", settle="0s")
        with folder.agent:
            with open(folder.path / "slow.log", "wb") as slow:
                slow.write(b"first half, ")
                slow.flush()
                folder.put("witness", b"w")
                fixture.wait_until(lambda: "witness" in folder.names("done"), "a pass that saw both")
                folder.put("witness2", b"w2")
                fixture.wait_until(lambda: "witness2" in folder.names("done"), "another")
                self.assertEqual(folder.names(), {"slow.log"})
                slow.write(b"second half")
            fixture.wait_until(lambda: "slow.log" in folder.names("done"), "the whole file")
            self.assertEqual(int(uploads_of(folder)["slow.log"]["size_bytes"]), len(b"first half, second half"))

    def test_what_cannot_be_is_in_failed_with_its_reason(self):
        folder = Folder(self.hub, "failing", max_size="1KiB")
        target = folder.path.parent / "target"
        target.write_text("t")
        with folder.agent:
            folder.put("large", b"x" * 1025)
            (folder.path / "link").symlink_to(target)
            os.link(target, folder.path / "hard")
            os.mkfifo(folder.path / "fifo")
            (folder.path / "directory").mkdir()
            folder.put("bad\nname", b"y")
            folder.put("fine", b"z")
            fixture.wait_until(lambda: "fine" in folder.names("done") and not folder.names(), "the others to be set aside")
            reasons = {path.name.removesuffix(".reason"): path.read_text() for path in (folder.path / "failed").glob("*.reason")}
            self.assertIn("upload.max_size", reasons["large"])
            self.assertIn("link", reasons["link"])
            self.assertIn("hard link", reasons["hard"])
            self.assertIn("regular", reasons["fifo"])
            self.assertTrue((folder.path / "directory").is_dir())
            self.assertEqual(target.read_text(), "t")
            self.assertEqual(set(uploads_of(folder)) & {"large", "link", "hard", "fifo"}, set())
            # The same name again overwrites nothing.
            folder.put("large", b"x" * 1026)
            fixture.wait_until(lambda: (folder.path / "failed/large.2").exists(), "the second one")
            self.assertEqual((folder.path / "failed/large").stat().st_size, 1025)

    def test_the_same_name_again_is_another_file(self):
        folder = Folder(self.hub, "again")
        with folder.agent:
            folder.put("r", b"one")
            fixture.wait_until(lambda: folder.names("done") == {"r"}, "one")
            folder.put("r", b"two")
            fixture.wait_until(lambda: folder.names("done") == {"r", "r.2"}, "two")
            self.assertEqual(sorted(int(u["size_bytes"]) for u in folder.uploads()), [3, 3])

    def test_done_is_emptied(self):
        folder = Folder(self.hub, "emptied", keep_done="0s")
        with folder.agent:
            folder.put("gone", b"g")
            fixture.wait_until(lambda: folder.status().get("done") == 1, "it")
            self.assertEqual((folder.names(), folder.names("done")), (set(), set()))

    def test_a_reload_turns_it_on_and_off(self):
        folder = Folder(self.hub, "switched", folder="")
        with folder.agent:
            folder.put("waits", b"w")
            fixture.wait_until(lambda: (folder.agent.state / "status.json").exists(), "the first round")
            folder.set()
            fixture.run(AGENT, "reload", "--state-dir", folder.agent.state)
            fixture.wait_until(lambda: folder.names("done") == {"waits"}, "it")
            folder.set(folder="")
            fixture.run(AGENT, "reload", "--state-dir", folder.agent.state)
            folder.put("stays", b"s")
            rounds = json.loads((folder.agent.state / "status.json").read_text())["collect"]["rounds"]
            fixture.wait_until(lambda: json.loads((folder.agent.state / "status.json").read_text())["collect"]["rounds"] > rounds + 3, "rounds")
            self.assertEqual(folder.names(), {"stays"})


class Cuts(unittest.TestCase):
    def test_it_goes_on_after_the_agent_and_the_hub_were_killed(self):
        hub = fixture.Hub().start()
        folder = Folder(hub, "cut", rate="2MiB")
        content = {f"part-{i}": os.urandom(4 << 20) for i in range(3)}
        for name, data in content.items():
            folder.put(name, data)
        folder.agent.start()
        for victim in ("agent", "hub", "agent", "hub"):
            partial = len(folder.names("done"))
            fixture.wait_until(lambda: started(folder) or len(folder.names("done")) > partial, "something to cut")
            if victim == "agent":
                folder.agent.kill()
                folder.agent.start()
            else:
                hub.kill()
                hub.start()
        fixture.wait_until(lambda: folder.names("done") == set(content), "all of it", timeout=120)
        at_hub = uploads_of(folder)
        self.assertEqual(len(folder.uploads()), len(content))
        for name, data in content.items():
            self.assertEqual(at_hub[name]["sha256"].lower(), hashlib.sha256(data).hexdigest())
        self.assertEqual(folder.agent.stop(), 0)
        hub.stop(expect=0)

    def test_a_stop_does_not_wait_for_a_slow_upload(self):
        with fixture.Hub() as hub:
            folder = Folder(hub, "slow", rate="64KiB")
            folder.put("slow", os.urandom(8 << 20))
            folder.agent.start()
            fixture.wait_until(lambda: started(folder), "its begin")
            rounds = json.loads((folder.agent.state / "status.json").read_text())["collect"]["rounds"]
            fixture.wait_until(lambda: json.loads((folder.agent.state / "status.json").read_text())["collect"]["rounds"] > rounds + 5,
                               "rounds beside it")
            self.assertEqual(folder.agent.stop(), 0)
            self.assertEqual(folder.names(), {"slow"})


def started(folder: Folder) -> bool:
    """Some of a file has arrived, and not all."""
    return any(not upload["complete"] and upload["received_bytes"] > 0
               for upload in folder.uploads())


if __name__ == "__main__":
    fixture.main()
