# SPDX-License-Identifier: Apache-2.0
"""The store's promise when the power goes: what was acknowledged is there, once, as it was, and the store goes on.

power_fs is a disk in memory, mounted with FUSE, that knows what was synced. store_pump works on it: batches over many days,
tiny segments, seals, compactions, retention, restarts. The disk is cut again and again before something changes: what a power
cut would have left at that moment is written to a directory (nothing that was not synced, or an arbitrary part of it), and
`store_pump check` looks whether everything told to the world outside by then is true.

    SENTINEL_POWER_SEEDS=10,11,12   more of it, by hand

Where FUSE cannot be mounted this fails if CI is true, and is skipped elsewhere.
"""

import concurrent.futures
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

import fixture

ROOM = fixture.BUILD / "tests" / "power"
PUMP = ROOM / "store_pump"
SPOOL_PUMP = ROOM / "spool_pump"
DISK = ROOM / "power_fs"
FAILED = 3  # store_pump: the store failed, as it should when the disk does


def scratch() -> pathlib.Path:
    """In memory where there is some: what syncs do here is the disk's business, not this machine's."""
    room = "/dev/shm" if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 1 << 28 else None
    return pathlib.Path(tempfile.mkdtemp(prefix="sentinel-power.", dir=room))


class Disk:
    """A mounted disk. cuts: how many there are at most; data, names: one in so many changes is cut before."""

    def __init__(self, seed: int, data: int = 400, names: int = 6, cuts: int = 0, eio: int = 0, begin: pathlib.Path | None = None):
        self.home = scratch()
        self.mount, self.out = self.home / "mount", self.home / "out"
        self.mount.mkdir()
        self.out.mkdir()
        self.is_mounted = False
        argv = [DISK, self.mount, self.out, seed, data, names, cuts, eio, *([begin] if begin else [])]
        self.process = fixture.start([str(word) for word in argv], stderr=subprocess.PIPE,
                                     env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})

    def __enter__(self):
        def is_there():
            return os.path.ismount(self.mount) or self.process.poll() is not None
        fixture.wait_until(is_there, "the disk to be mounted")
        if self.process.poll() is not None:
            raise OSError(f"FUSE cannot be mounted here: {self.process.stderr.read()}")
        self.is_mounted = True
        return self

    def __exit__(self, *_):
        self.end()
        shutil.rmtree(self.home, ignore_errors=True)

    def pump(self, rounds: int, pump: pathlib.Path = PUMP, *how: str) -> int:
        done = subprocess.run([str(pump), "pump", str(self.mount), str(rounds), *how], capture_output=True, text=True, timeout=300)
        if done.returncode not in (0, FAILED):
            raise AssertionError(f"the pump ended with {done.returncode}:\n{done.stderr[-3000:]}")
        self.log = done.stderr
        return done.returncode

    def end(self) -> list[pathlib.Path]:
        """Unmounts; what each cut has left."""
        if self.is_mounted:
            fixture.run("umount", self.mount)
            self.is_mounted = False
            self.process.wait(fixture.PATIENCE)
            self.process.stderr.close()
        return sorted(self.out.iterdir())


def check(left: pathlib.Path, pump: pathlib.Path = PUMP) -> str | None:
    """None, or what is wrong."""
    done = subprocess.run([str(pump), "check", str(left)], capture_output=True, text=True, timeout=300)
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.splitlines() if "level=info" not in line]
    return f"{left.name}: exit {done.returncode}: " + "\n".join(lines[-6:])


class Power(unittest.TestCase):
    def judge(self, left: list[pathlib.Path], seed: int):
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            wrong = [what for what in pool.map(check, left) if what]
        self.assertEqual(wrong, [], f"seed {seed}")

    def work(self, seed: int, cuts: int, begin: pathlib.Path | None = None, keep: pathlib.Path | None = None):
        with Disk(seed, data=400, names=6, cuts=cuts, begin=begin) as disk:
            self.assertEqual(disk.pump(120), 0, disk.log[-3000:])
            left = disk.end()
            self.assertEqual(len(left), cuts + 2, "the pump ended before the cuts were made")
            if keep:
                shutil.copytree(random.Random(seed).choice(left[cuts // 2:cuts]), keep)
            self.judge(left, seed)

    def test_a_database_is_made_wholly_or_not_at_all(self):
        for seed in range(1, 6):
            with Disk(seed, data=1, names=1, cuts=400) as disk:
                self.assertEqual(disk.pump(0), 0)
                left = disk.end()
                self.assertGreater(len(left), 12)
                self.judge(left, seed)

    def test_a_cut_at_any_moment_loses_nothing_acknowledged(self):
        self.work(2, 44)

    def test_a_cut_of_a_store_that_came_from_a_cut_loses_nothing_either(self):
        home = scratch()
        self.addCleanup(shutil.rmtree, home, ignore_errors=True)
        self.work(3, 24, keep=home / "begin")
        self.work(4, 24, begin=home / "begin")

    def test_a_disk_that_fails_once_stops_the_acknowledgements(self):
        dice = random.Random(5)
        n_failed = 0
        for nth in [*range(1, 20, 3), *(dice.randrange(20, 2500) for _ in range(9))]:
            with self.subTest(nth=nth), Disk(nth, eio=nth) as disk:
                n_failed += disk.pump(120) == FAILED
                self.judge(disk.end(), nth)
        self.assertGreaterEqual(n_failed, 10)

    def cut_spool(self, seed: int, *how: str):
        with Disk(seed, data=25, names=3, cuts=60) as disk:
            self.assertEqual(disk.pump(120, SPOOL_PUMP, *how), 0, disk.log[-3000:])
            left = disk.end()
            self.assertGreater(len(left), 40)
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                wrong = [what for what in pool.map(lambda one: check(one, SPOOL_PUMP), left) if what]
            self.assertEqual(wrong, [], f"seed {seed}")

    def test_a_cut_of_the_agents_spool_loses_and_doubles_nothing(self):
        for seed in (11, 12):
            self.cut_spool(seed)

    def test_lines_that_are_synced_now_and_then_go_with_their_offsets(self):
        for seed in (13, 14, 15):
            self.cut_spool(seed, "lazy")

    @unittest.skipUnless(os.environ.get("SENTINEL_POWER_SEEDS"), "SENTINEL_POWER_SEEDS names no more seeds")
    def test_more_seeds(self):
        for seed in os.environ["SENTINEL_POWER_SEEDS"].split(","):
            with self.subTest(seed=seed):
                home = scratch()
                self.addCleanup(shutil.rmtree, home, ignore_errors=True)
                self.work(int(seed), 60, keep=home / "begin")
                self.work(int(seed) + 1000, 60, begin=home / "begin")


def why_not() -> str | None:
    if not DISK.exists():
        return "power_fs is not built: libfuse3 is missing (subprojects/bootstrap --tests)"
    try:
        with Disk(1) as disk:
            disk.end()
        return None
    except (OSError, AssertionError) as failure:
        return str(failure)


if __name__ == "__main__":
    missing = why_not()
    if missing:
        print(f"power cut: {'failed' if os.environ.get('CI') == 'true' else 'skipped'}: {missing}", file=sys.stderr)
        sys.exit(1 if os.environ.get("CI") == "true" else 77)
    fixture.main()
