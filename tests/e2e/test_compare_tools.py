# SPDX-License-Identifier: Apache-2.0
"""The agent's values beside those of foreign tools, of the same machine at the same instant: ps, df, ss, free, /proc read by Python,
and node_exporter where bench/peers/build put it. Prints a table; a value that is beyond its tolerance fails, by name.

A tool is asked before and after the agent. What moved in between may be anywhere between the two, and a little beyond."""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import unittest
import urllib.request

import fixture

PEER = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "sentinel" / "peers" / "node_exporter"
MIB = 1 << 20


def read(path: str) -> str:
    return pathlib.Path(path).read_text()


def tool(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}).stdout


def agent_says(*flags: str) -> dict[str, float]:
    told = json.loads(fixture.run(fixture.program("sentinel-agent"), "collect", "--once", "--json", *flags).stdout)
    return {s["name"] + "".join(f",{k}={v}" for k, v in sorted(s["attributes"].items())): s["value"] for s in told["samples"]}


# ---- what the others say: our name -> value ----

def from_meminfo() -> dict[str, float]:
    rows = {k: int(v.split()[0]) * (1024 if v.endswith("kB") else 1) for k, v in (line.split(":") for line in read("/proc/meminfo").splitlines())}
    return {
        "system.memory.limit": rows["MemTotal"],
        "system.memory.usage,system.memory.state=free": rows["MemFree"],
        "system.memory.usage,system.memory.state=cached": rows["Cached"] + rows["SReclaimable"],
        "system.memory.linux.available": rows["MemAvailable"],
        "system.memory.linux.slab.usage,system.memory.linux.slab.state=unreclaimable": rows["SUnreclaim"],
        "system.memory.linux.hugepages.limit": rows["HugePages_Total"],
        "system.linux.memory.committed": rows["Committed_AS"],
    }


def from_free() -> dict[str, float]:
    words = tool("free", "-b").splitlines()[1].split()
    return {"system.memory.limit": int(words[1]), "system.memory.usage,system.memory.state=free": int(words[3]),
            "system.memory.linux.shared": int(words[4]), "system.memory.linux.available": int(words[6])}


def from_stat() -> dict[str, float]:
    hz = os.sysconf("SC_CLK_TCK")
    rows = dict(line.split(None, 1) for line in read("/proc/stat").splitlines())
    ticks = [int(w) / hz for w in rows["cpu"].split()]
    modes = {"user": ticks[0], "nice": ticks[1], "system": ticks[2], "idle": ticks[3], "iowait": ticks[4],
             "interrupt": ticks[5] + ticks[6], "steal": ticks[7]}
    return {**{f"system.cpu.time,cpu.mode={k}": v for k, v in modes.items()}, "system.process.created": int(rows["processes"]),
            "system.cpu.logical.count": os.cpu_count(), "system.uptime": float(read("/proc/uptime").split()[0]),
            "system.linux.file_handle.limit": float(read("/proc/sys/fs/file-nr").split()[2])}  # may be 2^63 - 1


def from_ps() -> dict[str, float]:
    kinds = {"R": "running", "T": "stopped", "t": "stopped", "Z": "defunct", "X": "defunct"}
    counts = dict.fromkeys(("running", "sleeping", "stopped", "defunct"), 0)
    n_threads = 0
    for line in tool("ps", "-eo", "stat=,nlwp=").splitlines():
        state, threads = line.split()
        counts[kinds.get(state[0], "sleeping")] += 1
        n_threads += int(threads)
    return {**{f"system.process.count,process.state={k}": v for k, v in counts.items()}, "system.linux.thread.count": n_threads}


def mount_key(name: str, device: str, kind: str, point: str, mode: str, state: str | None = None) -> str:
    attributes = {"system.device": device, "system.filesystem.mode": mode, "system.filesystem.mountpoint": point,
                  "system.filesystem.type": kind}
    if state:
        attributes["system.filesystem.state"] = state
    return name + "".join(f",{k}={v}" for k, v in sorted(attributes.items()))


def from_df() -> dict[str, float]:
    told = {}
    for inodes in (False, True):
        option = "--output=source,fstype,itotal,iused,iavail,target" if inodes else "--output=source,fstype,size,used,avail,target"
        for line in tool("df", "-x", "tmpfs", "-x", "devtmpfs", "-x", "overlay", *([] if inodes else ["-B1"]), option).splitlines()[1:]:
            device, kind, size, used, free, point = line.split(None, 5)
            mode = "ro" if os.statvfs(point).f_flag & os.ST_RDONLY else "rw"
            metric = "system.filesystem.inodes" if inodes else "system.filesystem"
            told[mount_key(metric + ".limit", device, kind, point, mode)] = int(size)
            told[mount_key(metric + ".usage", device, kind, point, mode, "used")] = int(used)
            told[mount_key(metric + ".usage", device, kind, point, mode, "free")] = int(free)
    return told


def from_ss() -> dict[str, float]:
    names = {"ESTAB": "established", "SYN-SENT": "syn_sent", "SYN-RECV": "syn_received", "FIN-WAIT-1": "fin_wait_1", "FIN-WAIT-2": "fin_wait_2",
             "TIME-WAIT": "time_wait", "UNCONN": "closed", "CLOSE-WAIT": "close_wait", "LAST-ACK": "last_ack", "LISTEN": "listen",
             "CLOSING": "closing"}
    counts = dict.fromkeys(names.values(), 0)
    for line in tool("ss", "-Htan").splitlines():
        counts[names[line.split()[0]]] += 1
    told = {f"system.network.connection.count,network.connection.state={k},network.transport=tcp": v for k, v in counts.items()}
    told["system.network.connection.count,network.transport=udp"] = len(tool("ss", "-Huan").splitlines())
    return told


def from_sysfs_net() -> dict[str, float]:
    told = {}
    for link in pathlib.Path("/sys/class/net").iterdir():
        if link.name.startswith("veth") or not (link / "statistics").is_dir():
            continue
        for direction, short in (("receive", "rx"), ("transmit", "tx")):
            told[f"system.network.io,network.interface.name={link.name},network.io.direction={direction}"] = \
                int((link / "statistics" / f"{short}_bytes").read_text())
            told[f"system.network.packet.count,network.io.direction={direction},system.device={link.name}"] = \
                int((link / "statistics" / f"{short}_packets").read_text())
    return told


def from_sysfs_block() -> dict[str, float]:
    told = {}
    for disk in pathlib.Path("/sys/block").iterdir():
        if re.match(r"(z?ram|loop|fd)\d", disk.name):
            continue
        words = [int(w) for w in (disk / "stat").read_text().split()]
        for direction, at in (("read", 0), ("write", 4)):
            told[f"system.disk.operations,disk.io.direction={direction},system.device={disk.name}"] = words[at]
            told[f"system.disk.io,disk.io.direction={direction},system.device={disk.name}"] = words[at + 2] * 512
        told[f"system.disk.limit,system.device={disk.name}"] = int((disk / "size").read_text()) * 512
    return told


class NodeExporter:
    """The peer as a process; its samples by name and labels."""

    def __enter__(self):
        self.port = free_port()
        self.process = fixture.start([str(PEER), f"--web.listen-address=127.0.0.1:{self.port}", "--collector.processes"],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        fixture.wait_until(self.is_up, "node_exporter")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def is_up(self):
        try:
            return bool(self.text())
        except OSError:
            return False

    def text(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=20) as answer:
            return answer.read().decode()

    def says(self) -> dict[str, float]:
        rows = {}
        for line in self.text().splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                rows[name] = float(value)
        told = {}

        def put(ours, theirs, scale=1.0):
            if theirs in rows:
                told[ours] = rows[theirs] * scale

        put("system.memory.limit", "node_memory_MemTotal_bytes")
        put("system.memory.usage,system.memory.state=free", "node_memory_MemFree_bytes")
        put("system.memory.linux.available", "node_memory_MemAvailable_bytes")
        put("system.memory.linux.shared", "node_memory_Shmem_bytes")
        put("system.memory.linux.slab.usage,system.memory.linux.slab.state=unreclaimable", "node_memory_SUnreclaim_bytes")
        put("system.paging.faults,system.paging.fault.type=major", "node_vmstat_pgmajfault")
        put("system.process.created", "node_forks_total")
        put("system.linux.file_handle.count", "node_filefd_allocated")
        put("system.linux.file_handle.limit", "node_filefd_maximum")
        put("system.linux.conntrack.count", "node_nf_conntrack_entries")
        put("system.linux.conntrack.limit", "node_nf_conntrack_entries_limit")
        put("system.linux.entropy.available", "node_entropy_available_bits")
        put("system.linux.clock.synchronized", "node_timex_sync_status")
        put("system.linux.clock.tai_offset", "node_timex_tai_offset_seconds")
        put("system.linux.clock.frequency_adjustment", "node_timex_frequency_adjustment_ratio", 1.0)
        put("system.linux.tcp.events,system.linux.network.event=retransmitted_segment", "node_netstat_Tcp_RetransSegs")
        put("system.linux.tcp.events,system.linux.network.event=listen_drop", "node_netstat_TcpExt_ListenDrops")
        put("system.linux.tcp.orphan.count", "node_sockstat_TCP_orphan")
        put("system.linux.socket.count", "node_sockstat_sockets_used")
        put("system.network.connection.count,network.connection.state=time_wait,network.transport=tcp", "node_sockstat_TCP_tw")
        put("system.cpu.load_average.15m", "node_load15")
        for resource in ("cpu", "io", "memory"):
            put(f"system.linux.pressure.stall_time,system.linux.pressure.resource={resource},system.linux.pressure.type=some",
                f"node_pressure_{resource}_waiting_seconds_total")
        if "system.linux.clock.frequency_adjustment" in told:
            told["system.linux.clock.frequency_adjustment"] -= 1  # theirs is a ratio, ours what differs from 1
        for metric, ours in (("processed", "processed"), ("dropped", "dropped"), ("times_squeezed", "squeezed")):
            told[f"system.linux.softnet.{ours}"] = sum(v for k, v in rows.items() if k.startswith(f"node_softnet_{metric}_total{{"))
        for mode in ("user", "system", "idle", "iowait", "steal"):
            told[f"system.cpu.time,cpu.mode={mode}"] = sum(v for k, v in rows.items()
                                                           if k.startswith("node_cpu_seconds_total{") and f'mode="{mode}"' in k)
        for name, value in rows.items():
            found = re.fullmatch(r'node_network_(receive|transmit)_bytes_total\{device="([^"]+)"\}', name)
            if found and not found[2].startswith("veth"):
                told[f"system.network.io,network.interface.name={found[2]},network.io.direction={found[1]}"] = value
            found = re.fullmatch(r'node_disk_(read|written)_bytes_total\{device="([^"]+)"\}', name)
            if found:
                told[f"system.disk.io,disk.io.direction={'read' if found[1] == 'read' else 'write'},system.device={found[2]}"] = value
        return told


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# ---- how far apart two looks may be ----

# (name begins with, by how much more than what moved between the tool's two looks, in the metric's unit). What goes up and down may
# have been anywhere meanwhile; what is summed over CPUs is not summed at one instant.
SLACK = [
    ("system.cpu.time", 0.05), ("system.uptime", 0.02), ("system.linux.pressure", 0.05), ("system.cpu.load_average", 0.1),
    ("system.memory.limit", 0), ("system.memory.linux.hugepages", 0), ("system.memory", 16 * MIB), ("system.linux.memory", 16 * MIB),
    ("system.filesystem.inodes.limit", 0), ("system.filesystem.limit", 0), ("system.filesystem.inodes", 100),
    ("system.filesystem", 16 * MIB), ("system.network.connection", 10), ("system.process.count", 5), ("system.linux.thread", 20),
    ("system.linux.file_handle.count", 200), ("system.linux.socket", 20), ("system.linux.tcp.orphan", 5),
    ("system.linux.conntrack.count", 10), ("system.linux.softnet", 100), ("system.paging", 100),
    ("system.linux.clock.frequency", 1e-9), ("", 0),
]
LOOKS = 8


def slack_of(name: str) -> float:
    return next(slack for begin, slack in SLACK if name.startswith(begin))


class Compare(unittest.TestCase):
    def compare(self, who: str, look):
        """A value that is wrong is wrong each time; one that raced is right at the next look."""
        wrong = {}
        for attempt in range(LOOKS):
            before = look()
            ours = agent_says()
            after = look()
            known = set(wrong) if attempt else set(before)
            wrong = {}
            for name in sorted(known & set(before) & set(after)):  # others went meanwhile
                low, high = sorted((before[name], after[name]))
                value, slack = ours.get(name), slack_of(name)
                is_fine = value is not None and low - slack <= value <= high + slack
                verdict = "WRONG" if not is_fine else "" if low <= value <= high else "near"
                print(f"{who:14} {low:20.12g} {high:20.12g} {'absent' if value is None else format(value, '.12g'):>20} {verdict:6} {name}")
                if not is_fine:
                    wrong[name] = f"{name}: the agent says {value}, {who} {low} .. {high} (tolerance {slack})"
            if not wrong:
                return []
        return list(wrong.values())

    def test_the_agent_says_what_other_tools_say(self):
        looks = {"/proc/meminfo": from_meminfo, "/proc/stat": from_stat, "sysfs net": from_sysfs_net, "sysfs block": from_sysfs_block}
        for name, look in (("free", from_free), ("ps", from_ps), ("df", from_df), ("ss", from_ss)):
            if shutil.which(name):
                looks[name] = look
        wrong = []
        print(f"\n{'tool':14} {'before':>20} {'after':>20} {'agent':>20} {'':6} metric")
        for who, look in looks.items():
            wrong += self.compare(who, look)
        self.assertEqual(wrong, [])

    @unittest.skipUnless(PEER.exists(), "no node_exporter; build it with bench/peers/build node_exporter")
    def test_the_agent_says_what_node_exporter_says(self):
        with NodeExporter() as peer:
            print()
            self.assertEqual(self.compare("node_exporter", peer.says), [])

    def test_a_process_at_the_top_has_what_proc_says_of_it(self):
        worker = fixture.start(["sh", "-c", "while :; do :; done"])
        try:
            fixture.wait_until(lambda: sum(of_proc(worker.pid).values()) >= 2, "two seconds of CPU")
            before = of_proc(worker.pid)
            ours = agent_says("--collect-top-processes", "50", "--collect-top-min-age", "0s")
            after = of_proc(worker.pid)
        finally:
            worker.kill()
            worker.wait()
        name = "process.cpu.time,cpu.mode={},process.executable.name=sh,process.pid=" + str(worker.pid)
        for mode in ("user", "system"):
            self.assertIn(name.format(mode), ours)
            self.assertLessEqual(before[mode], ours[name.format(mode)])
            self.assertLessEqual(ours[name.format(mode)], after[mode])


def of_proc(pid: int) -> dict[str, float]:
    words = read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()
    hz = os.sysconf("SC_CLK_TCK")
    return {"user": int(words[11]) / hz, "system": int(words[12]) / hz}


if __name__ == "__main__":
    fixture.main()
