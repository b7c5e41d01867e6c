# SPDX-License-Identifier: Apache-2.0
"""A full disk: said, survived, and over by itself once there is room. The state lies on a small file system of its own.

Where it cannot be mounted this fails if CI is true, and is skipped elsewhere.
"""

import array
import os
import random
import subprocess
import unittest

import grpc

import fixture
from fixture import gauge, now_us

N_SERIES, N_ROWS = 100, 50
FILLER = 98 << 20  # of 128 MiB; when it goes there is room for a compaction and for what the hub wants free


class Mount:
    """A tmpfs of its own."""

    def __init__(self, n_bytes: int):
        self.path = fixture.scratch() / "small"
        self.path.mkdir()
        fixture.run("mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "sentinel-test", self.path)

    def fill(self, name: str, n_bytes: int | None = None):
        """A file of so many bytes; None: to the brim."""
        with open(self.path / name, "wb", buffering=0) as file:
            if n_bytes is not None:
                os.posix_fallocate(file.fileno(), 0, n_bytes)
                return
            try:
                while file.write(bytes(4096)) == 4096:
                    pass
            except OSError:
                pass

    def free(self, name: str):
        (self.path / name).unlink()

    def end(self):
        fixture.run("umount", "-l", self.path)


def needs_mount():
    if os.environ.get("CI") == "true":
        return lambda test: test
    directory = fixture.scratch()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "sentinel-test", str(directory)], capture_output=True, text=True)
    if done.returncode == 0:
        subprocess.run(["umount", str(directory)], check=True)
    return unittest.skipIf(done.returncode != 0, f"no file system can be mounted here: {done.stderr.strip()}")


class Sender:
    """An agent that sends noise, and knows what was acknowledged."""

    def __init__(self, hub: fixture.Hub, name: str):
        self.hub, self.name, self.identity = hub, name, hub.issue("agent", name)
        self.spool, self.acked, self.sent = os.urandom(16), 0, 0
        self.begin = now_us() - 38 * 3600 * 1000000
        self.step_us = 1000

    def batch(self, sequence: int, is_first: bool):
        t = fixture.stubs().telemetry
        noise = random.Random(f"{self.name} {sequence}")
        values = array.array("d", [noise.random() for _ in range(N_SERIES * N_ROWS)])
        return t.MetricBatch(
            sequence=sequence,
            series=[gauge(i + 1, "full.noise", place=str(i)) for i in range(N_SERIES)] if is_first else [],
            layouts=[t.Layout(id=1, series_ids=range(1, N_SERIES + 1))] if is_first else [],
            scrapes=[t.Scrape(time_unix_us=self.begin + (sequence * N_ROWS + i) * self.step_us, layout_id=1,
                              values=values[i * N_SERIES:(i + 1) * N_SERIES]) for i in range(N_ROWS)])

    def send(self, n: int) -> dict | None:
        """As many batches, each when the one before is acknowledged. None: all of them, or how it ended."""
        stream = fixture.Stream(self.hub, self.identity)
        try:
            before = fixture.crc_of(self.batch(self.acked, False)) if self.acked else 0
            stream.hello(self.spool, first=self.acked + 1, last=max(self.acked, self.sent), crc=before)
            self.acked = max(self.acked, stream.welcome().resume_after_sequence)
            for i in range(n):
                self.sent = self.acked + 1
                stream.send(batch=self.batch(self.sent, is_first=i == 0))
                self.acked = stream.ack(self.sent)
        except grpc.RpcError as failure:
            return fixture.rich(failure)
        finally:
            stream.close()
        return None

    def check(self, test: unittest.TestCase):
        """Everything acknowledged is there, and at most what came after it."""
        n = fixture.count_of(self.hub, "full.noise", self.name)
        test.assertEqual(n % (N_SERIES * N_ROWS), 0)
        test.assertIn(n // (N_SERIES * N_ROWS), (self.acked, self.acked + 1))


@needs_mount()
class Full(unittest.TestCase):
    def hub_on(self, mount: Mount, settings: str) -> fixture.Hub:
        hub = fixture.Hub(state=mount.path / "hub")
        (hub.home / "config.yaml").write_text(settings)
        hub.flags = ["--config", str(hub.home / "config.yaml")]
        self.addCleanup(hub.stop)
        return hub.start()

    def health(self, hub: fixture.Hub, service: str) -> str:
        return hub.ask("grpc.health.v1.Health/Check", {"service": service})["status"]

    def state(self, hub: fixture.Hub) -> str:
        return hub.ask("sentinel.admin.v1.AdminService/GetStatus")["state"]

    def check_full(self, hub: fixture.Hub, sender: Sender):
        """It says so, everywhere. What it seals meanwhile may make a little room, also after a start: then more is sent."""
        def is_said() -> bool:
            if self.state(hub) != "FULL" and sender.send(20) is None:
                return False
            seen = (self.state(hub), self.health(hub, "sentinel.telemetry.v1.TelemetryService"),
                    self.health(hub, "sentinel.query.v1.QueryService"))
            told = sender.send(1)
            if told is None or seen != ("FULL", "NOT_SERVING", "SERVING"):
                return False
            self.assertEqual((told["code"], told["reason"]), ("RESOURCE_EXHAUSTED", "DISK_FULL"), told)
            self.assertGreater(told["retry_s"], 0)
            self.assertIn("space is freed", told["message"])
            return True
        fixture.wait_until(is_said, "the hub to say that it is full")
        sender.check(self)

    def test_a_full_disk_is_said_survived_and_over_by_itself(self):
        mount = Mount(128 << 20)
        self.addCleanup(mount.end)
        mount.fill("filler", FILLER)
        hub = self.hub_on(mount, "journal:\n  segment_size: 1MiB\n  size: 4MiB\nstore:\n  seal_age: 1s\n")
        sender = Sender(hub, "web-1")
        told = sender.send(2000)
        self.assertIsNotNone(told, "it was never full")
        self.assertEqual((told["code"], told["reason"]), ("RESOURCE_EXHAUSTED", "DISK_FULL"), told)
        self.assertGreater(told["retry_s"], 0)
        self.assertGreater(sender.acked, 100)
        self.check_full(hub, sender)
        self.assertIn("event=store_full", hub.log)

        # Killed and started on a full disk, and on one that is full to the last byte.
        hub.kill()
        hub.start()
        self.check_full(hub, sender)
        mount.fill("brim")
        self.check_full(hub, sender)
        hub.kill()
        hub.start()
        self.check_full(hub, sender)

        # Room again, and nobody says so.
        mount.free("brim")
        mount.free("filler")
        fixture.wait_until(lambda: self.state(hub) == "SERVING", "the hub to go on")
        self.assertIn("event=store_has_room_again", hub.log)
        before = sender.acked
        self.assertIsNone(sender.send(20))
        self.assertGreaterEqual(sender.acked, before + 20)
        sender.check(self)
        journal = mount.path / "hub" / "db" / "default" / "journal"
        fixture.wait_until(lambda: len(list(journal.iterdir())) <= 2, "the sealer to go on")
        sender.check(self)
        hub.stop(expect=0)
        hub.start()
        sender.check(self)

    def test_a_disk_that_is_full_to_the_brim_has_no_room_for_a_new_day_and_the_hub_goes_on_reading(self):
        mount = Mount(64 << 20)
        self.addCleanup(mount.end)
        hub = self.hub_on(mount, "store:\n  seal_age: 1h\n")
        sender = Sender(hub, "web-1")
        sender.step_us = 3 * 3600 * 1000000 // N_ROWS
        self.assertIsNone(sender.send(9))
        mount.fill("brim")
        hub.kill()
        (hub.home / "config.yaml").write_text("store:\n  seal_age: 1s\n")
        hub.start()
        fixture.wait_until(lambda: "event=seal_has_no_room" in hub.log, "the sealer to meet the full disk")
        self.check_full(hub, sender)
        mount.free("brim")
        fixture.wait_until(lambda: "event=seal_has_room_again" in hub.log, "the sealer to go on")
        fixture.wait_until(lambda: self.state(hub) == "SERVING", "the hub to go on")
        self.assertIsNone(sender.send(1))
        sender.check(self)
        days = mount.path / "hub" / "db" / "default" / "metrics"
        fixture.wait_until(lambda: len(list(days.iterdir())) >= 2, "the days to be made")
        hub.stop(expect=0)


class Broken(unittest.TestCase):
    """A disk that answers EIO: the hub acknowledges nothing more, says so and ends; the next start is clean."""

    def hub_breaks(self, kind: str):
        if fixture.is_sanitized():
            self.skipTest("AddressSanitizer wants to be the first library")
        hub = fixture.Hub()
        self.addCleanup(hub.stop)
        word = hub.home / "broken"
        hub.start(env={"LD_PRELOAD": str(fixture.BUILD / "tests" / "power" / "broken_disk.so"), "SENTINEL_BROKEN_DISK": str(word)})
        sender = Sender(hub, "web-1")
        self.assertIsNone(sender.send(20))
        word.write_text(kind)
        told = sender.send(20)
        self.assertIn(told["code"], ("UNAVAILABLE", "INTERNAL"), told)
        self.assertEqual(sender.acked, 20)
        hub.wait_exit(expect=1)
        self.assertIn("event=store_failed", hub.log)
        self.assertIn("Input/output error", hub.log)
        self.assertIn("what was acknowledged is on disk", hub.log)
        word.unlink()
        hub.start()
        sender.check(self)
        self.assertIsNone(sender.send(20))
        self.assertGreaterEqual(sender.acked, 40)
        sender.check(self)
        hub.stop(expect=0)

    def test_a_write_that_fails(self):
        self.hub_breaks("write")

    def test_a_sync_that_fails(self):
        self.hub_breaks("sync")


if __name__ == "__main__":
    fixture.main()
