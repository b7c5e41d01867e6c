# SPDX-License-Identifier: Apache-2.0
"""Units and daemons as a service manager sees them: systemd-analyze reads the units; a socket of ours hears the daemons."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import unittest

import fixture

UNITS = {"sentinel-agent": fixture.ROOT / "agent/systemd", "sentinel-hub": fixture.ROOT / "server/systemd"}
LIMITS = {"sentinel-agent": 2.0, "sentinel-hub": 1.5}


class Manager:
    """The end of $NOTIFY_SOCKET that systemd has."""

    def __init__(self, test: unittest.TestCase, watchdog_us: int = 0):
        self.path = str(fixture.scratch() / "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(fixture.PATIENCE)
        test.addCleanup(self.socket.close)
        self.watchdog_us = watchdog_us
        self.heard = []

    @property
    def env(self) -> dict:
        return {"NOTIFY_SOCKET": self.path} | ({"WATCHDOG_USEC": str(self.watchdog_us)} if self.watchdog_us else {})

    def wait_for(self, assignment: str) -> dict:
        """The next datagram with that assignment; what came before is kept in `heard`."""
        while True:
            text = self.socket.recv(4096).decode()
            told = dict(line.split("=", 1) for line in text.splitlines())
            self.heard.append(told)
            if assignment in text.splitlines():
                return told


def analyze(*argv) -> subprocess.CompletedProcess:
    return subprocess.run(["systemd-analyze", *map(str, argv)], capture_output=True, text=True)


def unit_with(name: str, drop_ins: tuple = ()) -> pathlib.Path:
    """The unit, with drop-ins, and with programs that are here: `verify` looks for them."""
    work = fixture.scratch()
    unit = work / f"{name}.service"
    unit.write_text((UNITS[name] / f"{name}.service").read_text().replace(f"/usr/bin/{name}", fixture.program(name)))
    (work / f"{name}.service.d").mkdir()
    for drop_in in drop_ins:
        text = drop_in.read_text().replace(f"/usr/bin/{name}", fixture.program(name))
        (work / f"{name}.service.d" / drop_in.name).write_text(text)
    return unit


@unittest.skipUnless(shutil.which("systemd-analyze"), "there is no systemd-analyze")
class Units(unittest.TestCase):
    def verify(self, name: str, drop_ins: tuple = ()):
        done = analyze("verify", "--man=no", unit_with(name, drop_ins))
        self.assertEqual((done.returncode, done.stderr + done.stdout), (0, ""), f"{name} {drop_ins}")

    def test_units_are_what_systemd_understands(self):
        for name in UNITS:
            self.verify(name)

    def test_each_drop_in_is_alone_and_with_all_others(self):
        for name, directory in UNITS.items():
            drop_ins = tuple(sorted((directory / "drop-ins").glob("*.conf")))
            self.assertTrue(drop_ins)
            for drop_in in drop_ins:
                self.verify(name, (drop_in,))
            self.verify(name, drop_ins)

    def test_a_unit_with_a_mistake_is_noticed(self):
        unit = unit_with("sentinel-agent")
        unit.write_text(unit.read_text().replace("ProtectSystem=strict", "ProtectSystem=strikt"))
        self.assertIn("strikt", analyze("verify", "--man=no", unit).stderr)

    def test_the_sandbox_is_as_tight_as_the_work_allows(self):
        for name, limit in LIMITS.items():
            done = analyze("security", "--offline=yes", unit_with(name))
            found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
            self.assertIsNotNone(found, done.stdout + done.stderr)
            print(f"{name}: exposure {found[1]}, limit {limit}")
            self.assertLess(float(found[1]), limit, done.stdout)

    def test_no_unit_runs_as_root_or_with_a_capability(self):
        for name, directory in UNITS.items():
            text = (directory / f"{name}.service").read_text()
            self.assertIn(f"\nUser={name}\n", text)
            self.assertIn("\nCapabilityBoundingSet=\n", text)


class AgentIsHeard(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub().start()

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    def test_its_life_is_told(self):
        manager = Manager(self)
        config = self.hub.home / "heard.yaml"
        config.write_text("interval: 200ms\n")
        agent = fixture.Agent(self.hub, "heard", flags=("--config", str(config)))
        agent.flags = agent.flags[2:]  # the interval is the file's
        agent.start(env=manager.env)
        self.assertEqual(manager.wait_for("READY=1")["STATUS"], "running")
        status = manager.wait_for(f"STATUS=connected, hub 127.0.0.1:{self.hub.port}")
        self.assertNotIn("READY", status)

        agent.process.send_signal(signal.SIGHUP)
        self.assertGreater(int(manager.wait_for("RELOADING=1")["MONOTONIC_USEC"]), 0)
        self.assertEqual(manager.wait_for("READY=1")["STATUS"], "running")
        config.write_text("intervall: 1s\n")
        agent.process.send_signal(signal.SIGHUP)
        manager.wait_for("RELOADING=1")
        self.assertIn("refused", manager.wait_for("READY=1")["STATUS"])

        agent.process.send_signal(signal.SIGTERM)
        manager.wait_for("STOPPING=1")
        self.assertEqual(agent.process.wait(fixture.PATIENCE), 0)
        self.assertFalse([told for told in manager.heard if "WATCHDOG" in told])

    def test_a_connection_is_told_before_the_next_round(self):
        manager = Manager(self)
        config = self.hub.home / "rare.yaml"
        config.write_text("interval: 10m\n")
        agent = fixture.Agent(self.hub, "rare", flags=("--config", str(config)))
        agent.flags = agent.flags[2:]
        agent.start(env=manager.env)
        self.addCleanup(agent.stop)
        manager.wait_for(f"STATUS=connected, hub 127.0.0.1:{self.hub.port}")
        self.assertEqual(json.loads((agent.state / "status.json").read_text())["hub"]["state"], "connected")

    def test_ready_does_not_wait_for_a_hub(self):
        manager = Manager(self)
        agent = fixture.Agent(self.hub, "alone")
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            agent.flags += ["--hub", "127.0.0.1:%d" % nobody.getsockname()[1], "--uplink-drain", "0s"]
            agent.start(env=manager.env)
            manager.wait_for("READY=1")
            agent.stop()

    def test_the_watchdog_is_fed_while_it_works_and_not_when_it_hangs(self):
        manager = Manager(self, watchdog_us=400000)
        with fixture.Agent(self.hub, "watched") as agent:
            agent.stop()
            agent.start(env=manager.env)
            manager.wait_for("READY=1")
            for _ in range(3):
                manager.wait_for("WATCHDOG=1")
            agent.process.send_signal(signal.SIGSTOP)  # as one that hangs
            fixture.wait_until(lambda: is_silent(manager), "silence")
            agent.process.send_signal(signal.SIGCONT)
            manager.wait_for("WATCHDOG=1")

    def test_one_that_never_ran_says_nothing_and_leaves_with_a_code_that_prevents_a_restart(self):
        manager = Manager(self)
        done = fixture.run(fixture.program("sentinel-agent"), "run", "--hub", "127.0.0.1:1", "--state-dir", fixture.scratch(), check=4,
                           env=manager.env)
        self.assertIn("sentinel-agent enroll", done.stderr)
        manager.socket.setblocking(False)
        self.assertRaises(BlockingIOError, manager.socket.recv, 4096)
        text = (UNITS["sentinel-agent"] / "sentinel-agent.service").read_text()
        self.assertIn("RestartPreventExitStatus=2 4", text)


def is_silent(manager: Manager) -> bool:
    """Nothing is heard for longer than the watchdog's limit."""
    manager.socket.settimeout(manager.watchdog_us / 1e6 * 1.5)
    try:
        manager.socket.recv(4096)
        return False
    except TimeoutError:
        return True
    finally:
        manager.socket.settimeout(fixture.PATIENCE)


class HubIsHeard(unittest.TestCase):
    def test_its_life_is_told(self):
        manager = Manager(self, watchdog_us=400000)
        hub = fixture.Hub()
        hub.start(env=manager.env)
        self.assertEqual(manager.wait_for("READY=1")["STATUS"], "serving")
        manager.wait_for("WATCHDOG=1")
        hub.process.send_signal(signal.SIGHUP)
        manager.wait_for("RELOADING=1")
        manager.wait_for("READY=1")
        hub.process.send_signal(signal.SIGTERM)
        manager.wait_for("STOPPING=1")
        hub.wait_exit(expect=0)

    def test_a_hub_without_a_state_says_nothing_and_leaves_with_a_code_that_prevents_a_restart(self):
        manager = Manager(self)
        code = fixture.run(fixture.program("sentinel-hub"), "run", "--state-dir", fixture.scratch(), check=None, env=manager.env).returncode
        text = (UNITS["sentinel-hub"] / "sentinel-hub.service").read_text()
        prevented = re.search(r"^RestartPreventExitStatus=(.*)$", text, re.M)[1].split()
        self.assertIn(str(code), prevented)


class WhoWorksWhere(unittest.TestCase):
    @unittest.skipUnless(os.geteuid() == 0, "only root can become somebody else")
    def test_root_makes_what_is_the_daemons_users(self):
        """A package makes the state directory for a user; `sudo sentinel-hub init` and `sudo sentinel-agent enroll` keep it theirs."""
        home = fixture.scratch()
        home.chmod(0o755)
        state = home / "hub"
        state.mkdir(mode=0o700)
        os.chown(state, 12345, 12345)
        fixture.run(fixture.program("sentinel-hub"), "init", "--state-dir", state)
        owners = {path.stat().st_uid for path in [state, *state.rglob("*")]}
        self.assertEqual(owners, {12345})


if __name__ == "__main__":
    fixture.main()
