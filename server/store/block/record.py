#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records what this machine says about itself, as block-bench reads it.

usage: record.py AGENT SECONDS [--every SECONDS] [--load] > FILE

  AGENT     the sentinel-agent program; `collect --once --json` is asked each time
  --every   1 unless said
  --load    meanwhile some work of changing weight: processor, disk, loopback

The values of process.* are those of a process that lives for a moment: they are left out.
"""
import argparse
import datetime
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time


def make_load(stop: threading.Event) -> None:
    chance = random.Random(3)
    listener = socket.create_server(("127.0.0.1", 0))
    sender = socket.create_connection(listener.getsockname())
    receiver, _ = listener.accept()
    level = 0.3
    with tempfile.TemporaryFile() as file, sender, receiver, listener:
        while not stop.wait(0.5):
            level = min(1, max(0.02, level + chance.uniform(-0.1, 0.1)))
            end = time.monotonic() + 0.2 * level
            while time.monotonic() < end:
                sum(i * i for i in range(1000))
            for _ in range(int(200 * level * chance.random())):
                sender.sendall(os.urandom(chance.randint(100, 3000)))
                receiver.recv(65536)
            if chance.random() < 0.3:
                file.seek(0)
                file.write(b"x" * int(4e6 * level * chance.random()))
                file.flush()
                os.fsync(file.fileno())


def collect(agent: str) -> tuple[int, dict[str, float]]:
    text = subprocess.run([agent, "collect", "--once", "--json"], check=True, stdout=subprocess.PIPE).stdout
    answer = json.loads(text)
    when = datetime.datetime.fromisoformat(answer["time"].replace("Z", "+00:00"))
    values = {}
    for sample in answer["samples"]:
        if not sample["name"].startswith("process."):
            attributes = "".join(f",{key}={value}" for key, value in sample["attributes"].items())
            values[sample["name"] + attributes] = sample["value"]
    return int(when.timestamp()) * 1000000 + when.microsecond, values


def record(agent: str, seconds: float, every: float) -> None:
    names: list[str] = []
    start = time.monotonic()
    for i in range(int(seconds / every)):
        time.sleep(max(0, start + i * every - time.monotonic()))
        when, values = collect(agent)
        if not set(values) <= set(names):
            names = list(values)
            print("#", *names, sep="\t")
        fields = (repr(float(values[name])) if name in values else "-" for name in names)
        print(when, *fields, sep="\t", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(usage=(__doc__ or "").split("\n\n")[1].removeprefix("usage: "))
    parser.add_argument("agent")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--every", type=float, default=1)
    parser.add_argument("--load", action="store_true")
    options = parser.parse_args()
    stop = threading.Event()
    worker = threading.Thread(target=make_load, args=(stop,), daemon=True)
    if options.load:
        worker.start()
    record(options.agent, options.seconds, options.every)
    stop.set()
    if options.load:
        worker.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
