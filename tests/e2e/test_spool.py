# SPDX-License-Identifier: Apache-2.0
"""What an agent has collected reaches the hub once, or is counted as dropped: whatever happens to agent, hub, network and disk.

The oracle is two accounts that are kept apart: the agent's ledger (produced = acknowledged + queued + dropped, over all its lives)
and what the hub counts of the agent (samples stored, samples skipped). A sample that was lost, or taken twice, is a difference.
Of log lines it is the lines themselves: each that a program wrote is at the hub, once.

    SENTINEL_SPOOL_KILLS=200    kill -9 so often (a dozen in the suite)
    SENTINEL_SPOOL_SECONDS=432  the schedule of outages: 72 h, 1:600 (some 40 s in the suite)
"""

import json
import os
import random
import resource
import select
import socket
import statistics
import struct
import threading
import time
import unittest

import fixture
import logfile

KILLS = int(os.environ.get("SENTINEL_SPOOL_KILLS", "12"))
SECONDS = float(os.environ.get("SENTINEL_SPOOL_SECONDS", "40"))
SEED = int(os.environ.get("SENTINEL_SPOOL_SEED", "1"))

# 30 s, 15 min, 2 min and 10 s, 1:600 or as near as the settings let one go.
SCALED = """
interval: 100ms
uplink: {{ reconnect_spread: 50ms, backoff: 100ms, max_backoff: 1500ms, backfill_rate: {rate}, prefer_after: 2s }}
spool:
  behind: 1s
  metrics: {{ size: {size}, policy: {policy} }}
collect:
  enable: [self, cpu, memory, load, network, uptime]
  disable: [{disable}]
logs: {{ files: [{files}], rotated_grace: 300ms }}
inventory: {{ interval: 0 }}
"""
SLOW = ("bonding, cgroup, conntrack, disk, entropy, exec, filesystem, hwmon, mdadm, numa, nvme, paging, power, pressure, processes, "
        "scrape, sockets, softnet, statsd, systemd, textfile, thermal, zfs")


class Proxy:
    """Between agent and hub; its mood may change at any time: pass, refuse, freeze (nothing moves), slow (bytes in a second)."""

    def __init__(self, port: int):
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.mood, self.rate, self.delay = "pass", 0, 0.0
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        self.is_over = False
        self.lock = threading.Lock()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while not self.is_over:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.mood == "refuse":
                self.reset(client)
                continue
            try:
                hub = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                self.reset(client)
                continue
            with self.lock:
                self.pairs.append((client, hub))
            for one, other in ((client, hub), (hub, client)):
                threading.Thread(target=self.pump, args=(one, other), daemon=True).start()

    @staticmethod
    def reset(one: socket.socket):
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        one.close()

    def pump(self, one: socket.socket, other: socket.socket):
        try:
            while not self.is_over:
                if self.mood == "freeze":
                    select.select([], [], [], 0.02)
                    continue
                readable, _, _ = select.select([one], [], [], 0.1)
                if not readable or self.mood == "freeze":
                    continue
                some = one.recv(self.rate // 20 if self.rate else 65536)
                if not some:
                    break
                if self.delay or self.rate:
                    select.select([], [], [], self.delay + (len(some) / self.rate if self.rate else 0))
                other.sendall(some)
        except (OSError, ValueError):
            pass
        for end in (one, other):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        """Everything that is open is reset."""
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for end in pair:
                self.reset(end)

    def stop(self):
        self.is_over = True
        self.listener.close()
        self.cut()


class Story(unittest.TestCase):
    def agent(self, hub, name: str, size: str = "64MiB", policy: str = "drop_oldest", rate: str = "0", flags: tuple = (),
              files: str = "") -> fixture.Agent:
        config = hub.home / f"{name}.yaml"
        config.write_text(SCALED.format(size=size, policy=policy, rate=rate, disable=SLOW, files=files))
        return fixture.Agent(hub, name, flags=("--config", str(config), *flags), interval="100ms")

    def programs(self, hub) -> tuple[str, logfile.Programs]:
        """What is followed, and those who write it, once follow() has seen it followed."""
        place = hub.home / "logs"
        place.mkdir()
        return f"{place}/a.log, {place}/b.log", logfile.Programs([logfile.Log(place / name) for name in ("a.log", "b.log")], SEED)

    def expect_lines(self, hub, agent, lines: list[str]):
        """Each once; the agent has stopped, with nothing left to send."""
        self.assertEqual(logfile.differences(lines, logfile.bodies(hub, agent.name)), logfile.NO_DIFFERENCE, agent.log[-3000:])
        logs = self.ledger(agent, "logs")
        self.assertEqual((logs["produced"], logs["acknowledged"], logs["dropped"]), (len(lines), len(lines), 0))

    def ledger(self, agent, signal: str = "metrics") -> dict:
        try:
            return json.loads((agent.state / "status.json").read_text())["spool"][signal]
        except (FileNotFoundError, KeyError):
            return {"produced": 0, "acknowledged": 0, "queued": 0, "dropped": 0, "queued_bytes": 0}

    def logs_status(self, agent) -> dict:
        try:
            return json.loads((agent.state / "status.json").read_text())["logs"]
        except (FileNotFoundError, KeyError):
            return {"files": 0, "behind_bytes": 1}

    def follow(self, agent, programs: logfile.Programs):
        """Lines from now on: what was there at the first look would be passed over."""
        fixture.wait_until(lambda: self.logs_status(agent)["files"] == len(programs.logs), "the files to be followed")
        programs.start()

    def is_up(self, agent) -> bool:
        """It has written its status in this life."""
        try:
            return json.loads((agent.state / "status.json").read_text())["pid"] == agent.process.pid
        except FileNotFoundError:
            return False

    def told(self, hub, agent) -> tuple[int, int]:
        """Samples that the hub stored and skipped."""
        shown = hub.ctl("agents", "show", agent.name, "--json", check=None)
        if shown.returncode:
            return 0, 0
        agent_told = json.loads(shown.stdout)
        return int(agent_told["samples_stored"]), int(agent_told["samples_skipped"])

    def drain(self, agent):
        """Until a stop leaves nothing."""
        def is_almost_through():
            metrics, logs = self.ledger(agent), self.ledger(agent, "logs")
            return (self.is_up(agent) and metrics["runs_waiting"] == logs["runs_waiting"] == 0 and metrics["queued_batches"] < 10 and
                    logs["queued_batches"] == 0 and self.logs_status(agent)["behind_bytes"] == 0)
        for _ in range(60):
            fixture.wait_until(is_almost_through, "the queue to be sent", timeout=fixture.PATIENCE * 3)
            self.assertEqual(agent.stop(), 0)
            if self.ledger(agent)["queued"] == self.ledger(agent, "logs")["queued"] == 0:
                return
            agent.start()
        self.fail(f"something is never acknowledged: {self.ledger(agent)}\n{agent.log[-3000:]}")

    def expect_agreement(self, hub, agent):
        ledger = self.ledger(agent)
        stored, skipped = self.told(hub, agent)
        self.assertEqual(ledger["produced"], ledger["acknowledged"] + ledger["queued"] + ledger["dropped"])
        self.assertEqual((stored, skipped), (ledger["acknowledged"], ledger["dropped"]), agent.log[-3000:])
        self.assertEqual(ledger["dropped"], sum(ledger["dropped_by_reason"].values()))
        return ledger


class Spool(Story):
    def test_kill_9_at_random_loses_and_doubles_nothing(self):
        dice = random.Random(SEED)
        hub = fixture.Hub().start()
        files, programs = self.programs(hub)
        proxy = Proxy(hub.port)  # keeps the port while the hub is away
        agent = self.agent(hub, "victim", files=files)
        agent.flags += ["--hub", f"127.0.0.1:{proxy.port}"]
        agent.start()
        self.follow(agent, programs)
        for i in range(KILLS):
            before = self.ledger(agent)
            if i > 0:
                agent.start()
            fixture.wait_until(lambda: self.ledger(agent)["produced"] > before["produced"], "the agent to go on")
            time.sleep(dice.random() * 0.4)  # at random is what this is about
            if dice.random() < 0.2:
                hub.kill()
                proxy.target = hub.start(port=0).port
            seen = self.ledger(agent)
            agent.kill()
            self.assertGreaterEqual(seen["produced"], before["produced"])
            time.sleep(dice.random() * 0.2)  # lines are written and files rotated meanwhile
        took = [int(line.split("took_us=")[1].split()[0]) for line in agent.log.splitlines() if "event=spool_opened" in line]
        agent.start()
        fixture.wait_until(lambda: self.is_up(agent), "the agent to go on")
        lines = programs.stop()
        self.drain(agent)
        ledger = self.expect_agreement(hub, agent)
        self.assertEqual(ledger["dropped"], 0)
        self.expect_lines(hub, agent, lines)
        n_rotated = sum(log.n_rotated for log in programs.logs)
        print(f"\n{KILLS} kills: {ledger['produced']} samples and {len(lines)} lines in {n_rotated} rotations, each once; "
              f"opening the spool took {statistics.median(took) / 1000:.1f} ms, the slowest {max(took) / 1000:.1f}", flush=True)
        proxy.stop()
        hub.stop(expect=0)

    def test_a_schedule_of_outages_loses_nothing_that_is_not_counted(self):
        """Cuts, refusals, freezes, half the bandwidth, resets, delays, a hub that is killed, an agent that is killed."""
        dice = random.Random(SEED)
        hub = fixture.Hub().start()
        proxy = Proxy(hub.port)
        files, programs = self.programs(hub)
        agent = self.agent(hub, "through", size="1MiB", rate="256KiB", files=files)
        agent.flags += ["--hub", f"127.0.0.1:{proxy.port}"]
        agent.start()
        fixture.wait_until(lambda: self.ledger(agent)["acknowledged"] > 0, "the first samples")
        self.follow(agent, programs)
        end = time.monotonic() + SECONDS
        n = 0
        while time.monotonic() < end:
            what = dice.choice(("refuse", "refuse", "freeze", "slow", "reset", "delay", "hub", "agent", "pass"))
            n += 1
            proxy.mood, proxy.rate, proxy.delay = "pass", 0, 0.0
            if what == "refuse":  # an outage of up to some hours
                proxy.mood = "refuse"
                proxy.cut()
            elif what == "freeze":
                proxy.mood = "freeze"
            elif what == "slow":
                proxy.rate = 4000  # about half of what is collected
            elif what == "reset":
                proxy.cut()
            elif what == "delay":
                proxy.delay = 0.2
            elif what == "hub":
                hub.kill()
                proxy.target = hub.start(port=0).port
            elif what == "agent":
                agent.kill()
                agent.start()
            time.sleep(min(dice.random() * SECONDS / 12, 30))  # the schedule
        proxy.mood, proxy.rate, proxy.delay = "pass", 0, 0.0
        lines = programs.stop()
        self.drain(agent)
        ledger = self.expect_agreement(hub, agent)
        self.expect_lines(hub, agent, lines)
        print(f"\n{n} events in {SECONDS:.0f} s: {ledger['produced']} samples produced, {ledger['acknowledged']} acknowledged, "
              f"dropped {ledger['dropped_by_reason']}; {len(lines)} lines, each once", flush=True)
        proxy.stop()
        hub.stop(expect=0)

    def test_what_is_new_goes_first_after_an_outage(self):
        hub = fixture.Hub().start()
        port = hub.port
        agent = self.agent(hub, "first", rate="4KiB")
        agent.start()
        fixture.wait_until(lambda: self.ledger(agent)["acknowledged"] > 0, "the first samples")
        hub.stop(expect=0)
        fixture.wait_until(lambda: self.ledger(agent)["queued_batches"] > 40, "a backlog")
        hub.port = port
        hub.start()
        fixture.wait_until(lambda: self.ledger(agent)["runs_waiting"] > 0 and "hub_connected" in agent.log.split("hub_unreachable")[-1],
                           "the backlog to wait beside")
        waiting = self.ledger(agent)["queued"]

        def is_live():
            runs = [run for run in json.loads(hub.ctl("agents", "show", "first", "--json").stdout)["runs"] if run["signal"] == "METRICS"]
            return len(runs) > 1 and sum(run["connected"] for run in runs) > 1
        fixture.wait_until(is_live, "two lanes")
        self.assertGreater(waiting, 0)
        agent.stop()
        agent.flags.append("--uplink-backfill-rate=0")
        agent.start()
        fixture.wait_until(lambda: self.ledger(agent)["produced"] > 0, "the agent to go on")
        self.drain(agent)
        self.expect_agreement(hub, agent)
        hub.stop(expect=0)

    def test_the_next_hub_is_used_while_the_first_is_away_and_then_the_first_again(self):
        hub = fixture.Hub().start()
        proxy, other = Proxy(hub.port), Proxy(hub.port)  # two ways to one hub: the ledger stays one
        agent = self.agent(hub, "moves", flags=("--hub-fallback", f"127.0.0.1:{other.port}"))
        agent.flags += ["--hub", f"127.0.0.1:{proxy.port}"]
        agent.start()

        def is_on(way):
            told = json.loads((agent.state / "status.json").read_text())["hub"]
            return told["target"].endswith(f":{way.port}") and told["state"] == "connected"
        fixture.wait_until(lambda: (agent.state / "status.json").exists() and is_on(proxy), "the first hub")
        proxy.mood = "refuse"
        proxy.cut()
        fixture.wait_until(lambda: is_on(other), "the second hub")
        proxy.mood = "pass"
        fixture.wait_until(lambda: is_on(proxy), "the first hub again")
        self.drain(agent)
        self.expect_agreement(hub, agent)
        for way in (proxy, other):
            way.stop()
        hub.stop(expect=0)

    def test_a_disk_that_is_full_is_said_and_samples_still_reach_the_hub(self):
        hub = fixture.Hub().start()
        agent = self.agent(hub, "full-disk")
        agent.start()
        fixture.wait_until(lambda: self.ledger(agent)["acknowledged"] > 0, "the first samples")
        # From now on no file of it grows: as on a full disk, but for this process alone.
        resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY))
        fixture.wait_until(lambda: "event=spool_unwritable" in agent.log, "the disk to be missed")
        before = self.told(hub, agent)[0]
        fixture.wait_until(lambda: self.told(hub, agent)[0] > before + 1000, "samples to arrive all the same")
        resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        self.drain(agent)
        ledger = self.expect_agreement(hub, agent)
        self.assertEqual(ledger["dropped"], 0)
        hub.stop(expect=0)

    def test_the_status_shows_the_ledger_and_a_second_agent_is_refused(self):
        hub = fixture.Hub().start()
        agent = self.agent(hub, "shown")
        agent.start()
        fixture.wait_until(lambda: self.ledger(agent)["acknowledged"] > 0, "the first samples")
        text = fixture.run(fixture.program("sentinel-agent"), "status", "--state-dir", agent.state).stdout
        for word in ("metrics ", "samples produced", "logs "):
            self.assertIn(word, text)
        second = fixture.run(fixture.program("sentinel-agent"), "run", "--hub", f"127.0.0.1:{hub.port}", "--identity", agent.identity,
                             "--state-dir", agent.state, check=1)
        self.assertIn("another agent", second.stderr)
        agent.stop()
        hub.stop(expect=0)


if __name__ == "__main__":
    unittest.main()
