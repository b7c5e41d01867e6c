# SPDX-License-Identifier: Apache-2.0
"""Real hubs, agents and clients for the stories in tests/e2e.

A story is a unittest file. It makes a Hub in a temporary directory, with certificates made by the product's own commands, and
talks to it with the real grpcurl, with Python's grpcio (a foreign client), and with our own programs. Everything a story
starts is stopped when it ends, pass or fail; nothing else is ever signalled.

    SENTINEL_BUILD    the build whose programs are run (the plain one)
    SENTINEL_FAULTS   a build with fault points, for the stories that kill the hub at one
    SENTINEL_GRPCURL, SENTINEL_PYTHON   from subprojects/bootstrap --print-env
"""

import atexit
import contextlib
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ["SENTINEL_BUILD"])
FAULTS = pathlib.Path(os.environ.get("SENTINEL_FAULTS") or BUILD)
GRPCURL = os.environ.get("SENTINEL_GRPCURL", "grpcurl")
PATIENCE = 60.0  # how long anything may take before a story gives up; never a claim about speed

_processes: list[subprocess.Popen] = []


@atexit.register
def _stop_everything():
    for process in _processes:
        if process.poll() is None:
            process.kill()
            process.wait()


def is_sanitized() -> bool:
    """Whether the programs under test carry AddressSanitizer, whose memory is not theirs."""
    return b"libasan" in subprocess.run(["ldd", program("sentinel-hub")], capture_output=True).stdout


def program(name: str, build: pathlib.Path = BUILD) -> str:
    room = {"sentinel-hub": "server", "sentinelctl": "server/ctl", "sentinel-agent": "agent", "sentinel-bench": "bench"}[name]
    path = build / room / name
    if not path.exists():
        raise FileNotFoundError(f"{path}: build first")
    return str(path)


def start(argv: list[str], **options) -> subprocess.Popen:
    process = subprocess.Popen(argv, text=True, **options)
    _processes.append(process)
    return process


def run(*argv, check: int | None = 0, stdin: str = "", env: dict | None = None, timeout: float = PATIENCE) -> subprocess.CompletedProcess:
    """Runs to the end; fails the story when the exit code is not `check` (None: any)."""
    done = subprocess.run([str(a) for a in argv], input=stdin, capture_output=True, text=True, errors="replace", timeout=timeout,
                          env={**os.environ, **(env or {})})
    if check is not None and done.returncode != check:
        raise AssertionError(f"{' '.join(map(str, argv))}\nexit {done.returncode}, expected {check}\n{done.stdout}\n{done.stderr}")
    return done


def wait_until(condition, what: str, timeout: float = PATIENCE):
    """Polls until condition() is true and returns what it returned."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:.0f} s for {what}")
        time.sleep(0.05)


def scratch() -> pathlib.Path:
    path = pathlib.Path(tempfile.mkdtemp(prefix="sentinel-test."))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


class Hub:
    """A hub with its own state directory. `with Hub() as hub:` runs it."""

    def __init__(self, build: pathlib.Path = BUILD, flags: tuple = (), init: tuple = (), state: pathlib.Path | None = None):
        self.build = build
        self.flags = list(flags)
        self.home = scratch()
        self.state = state or self.home / "hub"
        self.process = None
        self.address = None
        self.port = 0
        self.https = None  # ADDRESS:PORT, None where it is off
        self.https_port = 0
        self.log = ""
        if not (self.state / "certs").exists():
            run(program("sentinel-hub", build), "init", "--state-dir", self.state, *init)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def start(self, env: dict | None = None, port: int | None = None, wait: bool = True):
        """Port None: the one of the last start, so that agents find the hub again."""
        port = self.port if port is None else port
        self.process = start(
            [program("sentinel-hub", self.build), "run", "--state-dir", str(self.state),
             "--listen-grpc", f"127.0.0.1:{port}", "--listen-https", "127.0.0.1:0", *self.flags],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read_log, args=(self.process,), daemon=True)
        self._reader.start()
        if wait:
            self.wait_ready()
        return self

    def _read_log(self, process):
        for line in process.stderr:
            self.log += line
            found = re.match(r"ready grpc=(\S+:(\d+)) https=(?:off|(\S+:(\d+)))$", line)
            if found:
                self.address, self.port = found[1], int(found[2])
                self.https, self.https_port = found[3], int(found[4] or 0)
                self._ready.set()

    def wait_ready(self):
        def is_ready():
            if self.process.poll() is not None and not self._ready.is_set():
                self._reader.join(5)
                raise AssertionError(f"the hub ended with {self.process.returncode} before it was ready:\n{self.log[-4000:]}")
            return self._ready.is_set()
        wait_until(is_ready, "the hub to be ready")

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self, expect: int | None = None) -> int:
        """SIGTERM and the exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait_exit(expect)

    def wait_exit(self, expect: int | None = None) -> int:
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the hub did not end:\n{self.log[-4000:]}")
        self._reader.join(5)
        self.process.stderr.close()
        self.process = None
        if expect is not None and code != expect:
            raise AssertionError(f"the hub ended with {code}, expected {expect}:\n{self.log[-4000:]}")
        return code

    def kill(self):
        """kill -9, as a power switch for the process."""
        self.process.kill()
        self.process.wait()
        self._reader.join(5)
        self.process.stderr.close()
        self.process = None

    def issue(self, kind: str, name: str, *flags) -> pathlib.Path:
        directory = self.home / f"{kind}-{name}-{len(list(self.home.iterdir()))}"
        run(program("sentinel-hub", self.build), "issue", kind, name, "--out", directory, "--state-dir", self.state, *flags)
        return directory

    @property
    def admin(self) -> pathlib.Path:
        return self.state / "operators" / "admin"

    def grpcurl(self, *words, identity: pathlib.Path | None = None, data: str | None = None, check: int | None = 0):
        """grpcurl with an identity directory; data goes to -d @. Returns the finished process."""
        identity = identity or self.admin
        argv = [GRPCURL, "-cacert", identity / "ca-cert.pem", "-cert", identity / "client-cert.pem", "-key",
                identity / "client-key.pem", "-max-time", "30"]
        if data is not None:
            argv += ["-d", "@"]
        return run(*argv, f"127.0.0.1:{self.port}", *words, stdin=data or "", check=check)

    def ask(self, method: str, question: dict | None = None, **options) -> dict:
        """One unary call through grpcurl, as JSON."""
        return json.loads(self.grpcurl(method, data=json.dumps(question or {}), **options).stdout,
                          parse_int=lambda text: -0.0 if text == "-0" else int(text))

    def ctl(self, *words, check: int | None = 0, identity: pathlib.Path | None = None):
        return run(program("sentinelctl"), "--hub", f"127.0.0.1:{self.port}", "--identity", identity or self.admin, *words,
                   check=check)

    def channel(self, identity: pathlib.Path | None = None, roots: pathlib.Path | None = None):
        """A grpcio channel; identity None: no client certificate."""
        import grpc
        roots_pem = (roots or self.admin / "ca-cert.pem").read_bytes()
        pair = {}
        if identity is not None:
            pair = {"private_key": (identity / "client-key.pem").read_bytes(),
                    "certificate_chain": (identity / "client-cert.pem").read_bytes()}
        return grpc.secure_channel(f"127.0.0.1:{self.port}", grpc.ssl_channel_credentials(roots_pem, **pair),
                                   options=[("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1),
                                            ("grpc.max_metadata_size", 65536)])


def sign(hub: Hub, ca: str, directory: pathlib.Path, name: str, days: int, usage: str):
    """A key and certificate of the hub's own CA (agents or hubs) that the hub did not make, by openssl: client-*.pem in `directory`."""
    work, certs = scratch(), hub.state / "certs"
    (work / "ext").write_text(f"subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage={usage}\n"
                              "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n")
    run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", work / "raw.pem")
    run("openssl", "pkcs8", "-topk8", "-nocrypt", "-in", work / "raw.pem", "-out", work / "key.pem")
    run("openssl", "req", "-new", "-key", work / "key.pem", "-subj", f"/CN={name}", "-out", work / "csr.pem")
    run("openssl", "x509", "-req", "-in", work / "csr.pem", "-CA", certs / f"{ca}-ca-cert.pem", "-CAkey", certs / f"{ca}-ca-key.pem",
        "-CAcreateserial", "-CAserial", work / "serial", "-days", days, "-extfile", work / "ext", "-out", work / "cert.pem")
    (directory / "client-key.pem").write_bytes((work / "key.pem").read_bytes())
    (directory / "client-cert.pem").write_bytes((work / "cert.pem").read_bytes() + (certs / f"{ca}-ca-cert.pem").read_bytes())


class Agent:
    """A sentinel-agent process that streams to a hub."""

    def __init__(self, hub: Hub, name: str, flags: tuple = (), interval: str = "1s"):
        self.hub, self.name = hub, name
        self.identity = hub.issue("agent", name)
        self.state = hub.home / f"state-{name}"
        self.flags = ["--interval", interval, *flags]
        self.process = None
        self.log_path = hub.home / f"agent-{name}.log"

    def start(self, env: dict | None = None):
        with open(self.log_path, "a") as log:
            self.process = start(
                [program("sentinel-agent"), "run", "--hub", f"127.0.0.1:{self.hub.port}", "--identity", str(self.identity),
                 "--state-dir", str(self.state), *self.flags],
                stderr=log, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})
        return self

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def stop(self) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE)
        self.process = None
        return code

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process = None


# ---- Python's grpcio as a foreign client ----

_stubs = None


def stubs():
    """The generated modules of our protos, made once per process. Returns an object with telemetry, query, admin, ..."""
    global _stubs
    if _stubs:
        return _stubs
    from grpc_tools import protoc
    import importlib
    out = scratch()
    protos = sorted((ROOT / "proto").rglob("*.proto"))
    include = pathlib.Path(protoc.__file__).parent / "_proto"
    code = protoc.main(["protoc", f"-I{ROOT / 'proto'}", f"-I{include}", f"--python_out={out}", f"--grpc_python_out={out}",
                        *map(str, protos)])
    assert code == 0, "protoc failed"
    sys.path.insert(0, str(out))
    # grpcio's own package is called grpc too: ours of proto/grpc is found beside it.
    import grpc
    grpc.__path__.append(str(out / "grpc"))
    with contextlib.suppress(ImportError):
        import google
        google.__path__.append(str(out / "google"))

    class Stubs:
        pass
    _stubs = Stubs()
    for name in ("telemetry", "query", "admin", "enrollment", "control"):
        setattr(_stubs, name, importlib.import_module(f"sentinel.{name}.v1.{name}_pb2"))
        setattr(_stubs, name + "_grpc", importlib.import_module(f"sentinel.{name}.v1.{name}_pb2_grpc"))
    _stubs.status = importlib.import_module("google.rpc.status_pb2")
    _stubs.details = importlib.import_module("google.rpc.error_details_pb2")
    _stubs.health = importlib.import_module("grpc.health.v1.health_pb2")
    _stubs.health_grpc = importlib.import_module("grpc.health.v1.health_pb2_grpc")
    return _stubs


def rich(error) -> dict:
    """The details of an RpcError: code, message, reason, field, retry_s, quota, missing (subjects of a precondition)."""
    s = stubs()
    told = {"code": error.code().name, "message": error.details(), "reason": None, "field": None, "retry_s": None, "quota": None,
            "missing": []}
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        status = s.status.Status.FromString(value)
        for detail in status.details:
            name = detail.type_url.rsplit("/", 1)[-1]
            message = getattr(s.details, name.removeprefix("google.rpc."))()
            detail.Unpack(message)
            if name == "google.rpc.ErrorInfo":
                told["reason"], told["domain"] = message.reason, message.domain
            elif name == "google.rpc.BadRequest":
                told["field"] = message.field_violations[0].field
                told["field_description"] = message.field_violations[0].description
            elif name == "google.rpc.RetryInfo":
                told["retry_s"] = message.retry_delay.seconds + message.retry_delay.nanos / 1e9
            elif name == "google.rpc.QuotaFailure":
                told["quota"] = message.violations[0].subject
            elif name == "google.rpc.PreconditionFailure":
                told["missing"] = [v.subject for v in message.violations]
    return told


class Stream:
    """One StreamMetrics (or StreamLogs) call of a foreign agent, driven message by message."""

    def __init__(self, hub: Hub, identity: pathlib.Path, method: str = "StreamMetrics"):
        s = stubs()
        self.channel = hub.channel(identity)
        self.outgoing: queue.Queue = queue.Queue()
        self.request = getattr(s.telemetry, method + "Request")
        self.call = getattr(s.telemetry_grpc.TelemetryServiceStub(self.channel), method)(iter(self.outgoing.get, None), timeout=PATIENCE)

    def send(self, **message):
        self.outgoing.put(self.request(**message))

    def receive(self):
        """The next response, or raises grpc.RpcError, or StopIteration at the end."""
        return next(self.call)

    def hello(self, spool: bytes, first: int = 1, last: int | None = None, crc: int = 0, **fields):
        s = stubs()
        self.send(hello=s.telemetry.StreamHello(
            spool_id=spool, first_sequence=first, last_sequence=first - 1 if last is None else last, crc32c_before_first=crc,
            instance=fields.pop("instance", os.urandom(16)), time_unix_us=now_us(), agent_version="test", **fields))
        return self

    def welcome(self):
        response = self.receive()
        assert response.WhichOneof("message") == "welcome", response
        return response.welcome

    def ack(self, through: int):
        """Reads until everything up to `through` is acknowledged."""
        while True:
            response = self.receive()
            if response.WhichOneof("message") == "ack" and response.ack.sequence >= through:
                return response.ack.sequence

    def error(self) -> dict:
        """Reads until the call fails and returns how."""
        import grpc
        try:
            while True:
                self.receive()
        except grpc.RpcError as failure:
            return rich(failure)
        except StopIteration:
            return {"code": "OK", "message": "", "reason": None, "field": None}

    def end(self):
        """Half-closes and reads to the end."""
        self.outgoing.put(None)
        for _ in self.call:
            pass
        self.close()

    def close(self):
        self.outgoing.put(None)
        self.call.cancel()
        self.channel.close()


def crc32c(data: bytes) -> int:
    """CRC32C bit by bit: slow, and nobody else's."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def crc_of(sent) -> int:
    """What a batch is known by (StreamHello.crc32c_before_first)."""
    summed = struct.pack("<Q", sent.sequence)
    for scrape in sent.scrapes:
        summed += b"".join(struct.pack("<d", v) for v in scrape.values) + b"".join(struct.pack("<I", a) for a in scrape.absent)
    return crc32c(summed)


def crc_of_logs(sent) -> int:
    """The same of a batch of logs."""
    summed = struct.pack("<Q", sent.sequence)
    for record in sent.records:
        body = record.raw if record.WhichOneof("body") == "raw" else record.text.encode()
        summed += struct.pack("<II", len(body), record.severity_number) + body
    return crc32c(summed)


def now_us() -> int:
    return time.time_ns() // 1000


def gauge(series_id: int, name: str, **attributes):
    t = stubs().telemetry
    return t.Series(id=series_id, name=name, unit="1", kind=t.KIND_GAUGE,
                    attributes=[t.Attribute(key=k, value=v) for k, v in attributes.items()])


def batch(sequence: int, series=(), layouts=(), scrapes=()):
    """layouts: (id, [series ids]); scrapes: (time_us, layout id, [values]) with an optional list of absent places."""
    t = stubs().telemetry
    return t.MetricBatch(
        sequence=sequence, series=list(series), layouts=[t.Layout(id=i, series_ids=ids) for i, ids in layouts],
        scrapes=[t.Scrape(time_unix_us=s[0], layout_id=s[1], values=s[2], absent=s[3] if len(s) > 3 else []) for s in scrapes])


def points(hub: Hub, name: str, agent: str, **question) -> list[tuple[str, float]]:
    """The points of one series through grpcurl: (time, value)."""
    answer = hub.ask("sentinel.query.v1.QueryService/QueryMetrics",
                     {"name": name, "agents": {"ids": [agent]}, "range": {"from": "-1d", "to": "now"},
                      "step_text": "1s", "aggregation": "AGGREGATION_LAST", **question})
    return [(p["time"], float(p.get("value", 0))) for s in answer.get("series", []) for p in s["points"]]


def day_name(age: int) -> str:
    """The directory of the day (UTC) that was so many days ago."""
    return time.strftime("%Y%m%d", time.gmtime(time.time() - age * 86400))


def count_of(hub: Hub, name: str, agent: str) -> int:
    """How many samples of a metric the hub holds of an agent."""
    answer = hub.ask("sentinel.query.v1.QueryService/QueryMetrics",
                     {"name": name, "agents": {"ids": [agent]}, "range": {"from": "-2d", "to": "2100-01-01"},
                      "step_text": "365d", "aggregation": "AGGREGATION_COUNT", "group_aggregation": "AGGREGATION_SUM",
                      "group_all": True})
    return int(sum(float(p["value"]) for s in answer.get("series", []) for p in s["points"]))


def main():
    unittest.main(verbosity=2)
