# SPDX-License-Identifier: Apache-2.0
"""What the agent collects, at the hub: mounts that hang, metrics of other programs, a user without rights."""

import contextlib
import ctypes
import http.server
import json
import os
import pathlib
import socket
import struct
import subprocess
import threading
import unittest

import fixture

FUSE = pathlib.Path("/dev/fuse")
MNT_FORCE, MNT_DETACH = 1, 2
FUSE_INIT, FUSE_STATFS = 26, 17


class HangingMount:
    """A FUSE file system whose only answer is to INIT: statfs() of it never returns, until it is torn down."""

    def __init__(self, point: pathlib.Path):
        self.point = point
        self.asked = threading.Event()
        self.libc = ctypes.CDLL(None, use_errno=True)

    def __enter__(self):
        self.point.mkdir()
        self.fd = os.open(FUSE, os.O_RDWR)
        options = f"fd={self.fd},rootmode=40000,user_id=0,group_id=0".encode()
        if self.libc.mount(b"hang", str(self.point).encode(), b"fuse.hang", 6, options) != 0:
            os.close(self.fd)
            raise unittest.SkipTest(f"FUSE cannot be mounted here: {os.strerror(ctypes.get_errno())}")
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        return self

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                request = os.read(self.fd, 1 << 17)
                _, opcode, unique = struct.unpack_from("=IIQ", request)
                if opcode == FUSE_INIT:
                    body = struct.pack("=IIIIHHIIHHI7I", 7, 31, 65536, 0, 12, 10, 65536, 1, 0, 0, 0, *[0] * 7)
                    os.write(self.fd, struct.pack("=IiQ", 16 + len(body), 0, unique) + body)
                elif opcode == FUSE_STATFS:
                    self.asked.set()

    def __exit__(self, *_):
        self.let_go()
        self.thread.join()
        os.close(self.fd)

    def let_go(self):
        """Ends what hangs with an error."""
        self.libc.umount2(str(self.point).encode(), MNT_FORCE | MNT_DETACH)


class Collectors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub().start()

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    def last(self, agent: str, name: str) -> float | None:
        told = self.hub.grpcurl("sentinel.query.v1.QueryService/QueryMetrics", check=None, data=json.dumps(
            {"name": name, "agents": {"ids": [agent]}, "range": {"from": "-1h", "to": "now"}, "step_text": "1s",
             "aggregation": "AGGREGATION_LAST"}))
        if told.returncode:
            return None
        series = json.loads(told.stdout).get("series", [])
        return float(series[0]["points"][-1].get("value", 0)) if series else None

    def count(self, agent: str, name: str = "system.uptime") -> int:
        return fixture.count_of(self.hub, name, agent)

    @unittest.skipUnless(FUSE.exists() and os.geteuid() == 0, "needs root and FUSE")
    def test_a_statfs_that_never_returns_holds_nothing_back(self):
        with HangingMount(self.hub.home / "hang") as mount, fixture.Agent(self.hub, "hang", interval="200ms") as agent:
            self.assertTrue(mount.asked.wait(fixture.PATIENCE), "nobody asked the mount")
            fixture.wait_until(lambda: self.last("hang", "sentinel.agent.filesystems.stuck") == 1, "the mount to be known as stuck")
            before = self.count("hang")
            root_before = self.count("hang", "system.filesystem.limit")
            fixture.wait_until(lambda: self.count("hang") >= before + 20, "twenty more rounds")
            self.assertGreater(self.count("hang", "system.filesystem.limit"), root_before)
            self.assertEqual(self.last("hang", "sentinel.agent.filesystems.stuck"), 1)
            mount.let_go()
            fixture.wait_until(lambda: self.last("hang", "sentinel.agent.filesystems.stuck") == 0, "the mount to be let go")
            self.assertEqual(agent.stop(), 0)

    def test_metrics_of_other_programs_arrive(self):
        texts = self.hub.home / "texts"
        texts.mkdir()
        (texts / "backup.prom").write_text('# TYPE backups_total counter\nbackups_total{job="db"} 12\n')
        (texts / "broken.prom").write_text("broken{\n")
        program = self.hub.home / "program"
        program.write_text("#!/bin/sh\necho queue.length 3\n")
        program.chmod(0o755)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            config = self.hub.home / "custom.yaml"
            config.write_text(f"collect:\n  textfile: {{directory: {texts}}}\n  statsd: {{listen: '127.0.0.1:{port}'}}\n"
                              f"  exec: {{commands: [{program}]}}\n"
                              f"  scrape: {{targets: ['http://127.0.0.1:{server.server_port}/metrics']}}\n")
            with fixture.Agent(self.hub, "custom", flags=("--config", str(config)), interval="300ms"):
                expected = {"backups_total": 12, "queue.length": 3, "scraped_total": 7}
                for name, value in expected.items():
                    fixture.wait_until(lambda n=name, v=value: self.last("custom", n) == v, name)
                # UDP: nobody tells a sender that it is too early.
                fixture.wait_until(lambda: (say(port, b"hits:2|c|@0.5"), self.last("custom", "hits"))[1] or 0, "hits")
                self.assertEqual(self.last("custom", "hits") % 4, 0)
            server.shutdown()

    def test_a_user_without_rights_is_told_once_for_each_collector(self):
        if os.geteuid() != 0:
            self.skipTest("needs root, to become nobody")
        done = subprocess.run([fixture.program("sentinel-agent"), "collect", "--once", "--json"], capture_output=True, text=True,
                              user=65534, group=65534, extra_groups=[], cwd="/", timeout=fixture.PATIENCE)
        self.assertEqual(done.returncode, 0, done.stderr)
        names = {sample["name"] for sample in json.loads(done.stdout)["samples"]}
        self.assertLessEqual({"system.cpu.time", "system.memory.usage", "system.filesystem.usage", "system.network.connection.count",
                              "process.cpu.time", "system.linux.clock.synchronized"}, names)
        said = [line.split("collector=")[1].split()[0] for line in done.stderr.splitlines() if "collector_denied" in line]
        self.assertEqual(len(said), len(set(said)))


class Metrics(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"# TYPE scraped_total counter\nscraped_total 7\n"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def say(port: int, line: bytes):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        with contextlib.suppress(ConnectionRefusedError):
            sender.sendto(line, ("127.0.0.1", port))


if __name__ == "__main__":
    fixture.main()
