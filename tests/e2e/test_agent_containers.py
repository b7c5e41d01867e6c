# SPDX-License-Identifier: Apache-2.0
"""docker_containers and docker_images: what an engine answers over its UNIX socket is a table, whole or not at all."""

import contextlib
import http.server
import json
import os
import socketserver
import threading
import unittest

import fixture

ID = "4f1c0b7e9a6d2c3f8e5b1a0d9c7f6e4b3a2d1c0f9e8b7a6d5c4f3e2b1a0d9c8f"
OTHER = "9" * 64
IMAGE = "sha256:" + "ab" * 32
# As Docker 24 answers GET /containers/json?all=1, and Podman 4 with the fields it has besides.
CONTAINERS = [
    {"Id": ID, "Names": ["/other/alias", "/web"], "Image": "nginx:1.25", "ImageID": IMAGE, "Command": "/docker-entrypoint.sh nginx -g 'daemon off;'",
     "Created": 1700000000, "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}],
     "Labels": {"com.example.note": "a } in a \"text\" ends \\ nothing ["}, "State": "running", "Status": "Up 3 hours",
     "HostConfig": {"NetworkMode": "default"}, "NetworkSettings": {"Networks": {"bridge": {"IPAMConfig": None, "Gateway": "172.17.0.1"}}}, "Mounts": []},
    {"Id": OTHER, "Names": ["/job"], "Image": IMAGE, "ImageID": IMAGE, "Command": "sleep 1", "Created": 1700000001, "Ports": [], "Labels": {},
     "State": "exited", "Status": "Exited (0) 2 days ago", "IsInfra": False, "Pod": "", "PodName": ""},
]
IMAGES = [
    {"Id": IMAGE, "ParentId": "", "RepoTags": ["nginx:1.25", "nginx:latest"], "RepoDigests": None, "Created": 1690000000, "Size": 187000000,
     "SharedSize": -1, "Labels": None, "Containers": -1},
    {"Id": "sha256:" + "cd" * 32, "RepoTags": None, "Created": 1, "Size": 2},
]


class Engine(http.server.BaseHTTPRequestHandler):
    """Answers what the test says: a list of pieces, each a chunk."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append(self.path)
        pieces = self.server.answers.get(self.path)
        if pieces is None:
            self.send_error(404)
            return
        if callable(pieces):
            pieces(self)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # who refuses hangs up
            for piece in pieces:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")

    def address_string(self):
        return "unix"

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class AgentContainers(unittest.TestCase):
    def setUp(self):
        self.root = fixture.scratch()
        self.root.chmod(0o755)
        (self.root / "run").mkdir()
        self.server = Server(str(self.root / "run/docker.sock"), Engine)
        self.server.asked, self.server.answers = [], {}
        self.answer("/containers/json?all=1", json.dumps(CONTAINERS).encode())
        self.answer("/images/json", json.dumps(IMAGES).encode())
        self.over = threading.Event()
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.addCleanup(self.over.set)

    def answer(self, path: str, *pieces: bytes):
        self.server.answers[path] = pieces

    def inventory(self, *words, check=0):
        return fixture.run(fixture.program("sentinel-agent"), "inventory", *words, "--collect-root", self.root, check=check)

    def rows(self, table: str) -> list:
        return json.loads(self.inventory(table, "--json").stdout)[table]

    def refused(self, *words) -> str:
        """Why there is no table; and that there is none of it, not even a part."""
        told = self.inventory("docker_containers", "--json", *words, check=5)
        self.assertEqual(told.stdout, "")
        overview = self.inventory(*words)
        line = next(line for line in overview.stdout.splitlines() if line.startswith("docker_containers"))
        self.assertEqual(line.split()[1], "failed")
        return told.stderr

    def test_containers_and_images_are_rows(self):
        rows = self.rows("docker_containers")
        self.assertEqual(self.server.asked, ["/containers/json?all=1"])
        self.assertEqual([row["name"] for row in rows], ["web", "job"])
        self.assertEqual(rows[0], {"id": ID, "name": "web", "image": "nginx:1.25", "image_id": IMAGE,
                                   "command": "/docker-entrypoint.sh nginx -g 'daemon off;'", "created": "1700000000", "state": "running"})
        self.assertEqual(self.rows("docker_images")[0], {"id": IMAGE, "created": "1690000000", "size_bytes": "187000000", "tags": "nginx:1.25,nginx:latest"})

    def test_pieces_may_end_anywhere(self):
        whole = self.rows("docker_containers")
        text = json.dumps(CONTAINERS, indent=1).encode()
        self.answer("/containers/json?all=1", *(text[at:at + 1] for at in range(len(text))))
        self.assertEqual(self.rows("docker_containers"), whole)

    def test_an_engine_without_containers_has_an_empty_table(self):
        self.answer("/containers/json?all=1", b" [ ]\n")
        self.assertEqual(self.rows("docker_containers"), [])

    def test_without_a_socket_there_is_no_table_and_no_error(self):
        os.unlink(self.root / "run/docker.sock")
        self.assertIn("this machine has no docker_containers", self.inventory("docker_containers").stderr)
        self.assertIn("/run/docker.sock: No such file", self.refused("--inventory-engine-socket", "/run/docker.sock"))

    def test_the_socket_may_be_named(self):
        os.rename(self.root / "run/docker.sock", self.root / "run/mine.sock")
        told = self.inventory("docker_containers", "--inventory-engine-socket", "/run/mine.sock").stdout
        self.assertIn("web", told)
        self.assertIn("a path from / on", self.refused("--inventory-engine-socket", "run/mine.sock"))
        self.assertIn("a path from / on", self.refused("--inventory-engine-socket", "/" + "x" * 106))

    def test_broken_json_leaves_no_table(self):
        text = json.dumps(CONTAINERS).encode()
        for pieces, words in (((text[:-1],), "ends in the middle"), ((text[:400],), "ends in the middle"), ((b'{"message":"no"}',), "no list of objects"),
                              ((text[:-1] + b",]",), "no list of objects"), ((text + b"x",), "no list of objects"), ((b"[1]",), "no list of objects"),
                              ((text[:-1] + b',{"Id":nul}]',), "object 3 of the answer"), ((text[:-1] + b',{"Name":"x"}]',), "object 3 of the answer has no Id"),
                              ((), "ends in the middle")):
            self.answer("/containers/json?all=1", *pieces)
            with self.subTest(words=words, text=pieces[0][-20:] if pieces else b""):
                self.assertIn(words, self.refused())

    def test_an_answer_that_is_too_large_leaves_no_table(self):
        long = dict(CONTAINERS[0], Labels={"x": "y" * (300 << 10)})
        self.answer("/containers/json?all=1", json.dumps([CONTAINERS[1], long]).encode())
        self.assertIn("longer than 256 KiB", self.refused())
        many = json.dumps([dict(CONTAINERS[0], Labels={"x": "y" * (200 << 10)})] * 100).encode()
        self.answer("/containers/json?all=1", many)
        self.assertIn("the body is over 16777216 bytes", self.refused())

    def test_an_engine_that_hangs_leaves_no_table(self):
        def hang_at_once(_):
            self.over.wait(fixture.PATIENCE)

        def hang_in_the_middle(handler):
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            handler.wfile.write(b"5\r\n[{\"Id\r\n")
            self.over.wait(fixture.PATIENCE)

        for hang in (hang_at_once, hang_in_the_middle):
            self.server.answers["/containers/json?all=1"] = hang
            with self.subTest(hang.__name__):
                told = self.inventory("docker_containers", "--inventory-command-timeout", "1s", check=5)
                self.assertIn("no whole answer within inventory.command_timeout", told.stderr)

    def test_an_engine_that_says_no_leaves_no_table(self):
        del self.server.answers["/containers/json?all=1"]
        self.assertIn("the engine answers 404 Not Found", self.refused())

    def test_one_who_may_not_use_the_socket_has_no_table(self):
        """Nothing is said where nobody asked for it; the reason where the settings name it."""
        sock = self.root / "run/docker.sock"
        sock.chmod(0o600)
        become = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups") if os.geteuid() == 0 else ()
        if not become:
            sock.chmod(0)
        command = (*become, fixture.program("sentinel-agent"), "inventory", "docker_containers", "--collect-root", self.root)
        self.assertIn("this machine has no docker_containers", fixture.run(*command).stderr)
        told = fixture.run(*command, "--inventory-engine-socket", "/run/docker.sock", check=5)
        self.assertIn("/run/docker.sock: Permission denied", told.stderr)
        self.assertIn("containers.conf", told.stderr)
        self.assertEqual(self.server.asked, [])

    def test_the_hub_keeps_what_it_had_while_the_engine_is_away(self):
        def names() -> list | None:
            answer = hub.grpcurl("sentinel.query.v1.QueryService/GetInventory", check=None,
                                 data=json.dumps({"agent_id": "box", "tables": ["docker_containers"]}))
            tables = json.loads(answer.stdout).get("tables", []) if answer.returncode == 0 else []
            return sorted(row["values"][1] for row in tables[0].get("rows", [])) if tables else None

        def status() -> dict:
            told = fixture.run(fixture.program("sentinel-agent"), "status", "--state-dir", agent.state, "--json", check=None)
            return json.loads(told.stdout or "{}").get("inventory", {})

        flags = ("--collect-root", str(self.root), "--inventory-interval", "1s")
        broken = json.dumps(CONTAINERS).encode()[:-9]
        self.answer("/containers/json?all=1", broken)
        with fixture.Hub() as hub, fixture.Agent(hub, "box", flags=flags) as agent:
            fixture.wait_until(lambda: status().get("revision", 0) > 0 and status().get("tables_not_read") == 1, "an inventory without that table")
            self.assertIsNone(names())
            self.answer("/containers/json?all=1", json.dumps(CONTAINERS).encode())
            fixture.wait_until(lambda: names() == ["job", "web"], "the containers at the hub")
            self.answer("/containers/json?all=1", broken)
            fixture.wait_until(lambda: status().get("tables_not_read") == 1, "the reading that failed")
            self.assertEqual(names(), ["job", "web"])
            # The same where the first reading of a start is the one that fails.
            self.answer("/containers/json?all=1", json.dumps(CONTAINERS).encode())
            fixture.wait_until(lambda: status().get("tables_not_read") == 0, "a reading that went well")
            agent.stop()
            self.answer("/containers/json?all=1", broken)
            agent.start()
            fixture.wait_until(lambda: status().get("tables_not_read") == 1 and status().get("revision", 0) > 0, "the inventory of the next start")
            self.assertEqual(names(), ["job", "web"])
            # And what is known is not believed for ever.
            self.answer("/containers/json?all=1", b"[]")
            fixture.wait_until(lambda: names() == [], "the engine without containers")


if __name__ == "__main__":
    fixture.main()
