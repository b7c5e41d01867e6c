# SPDX-License-Identifier: Apache-2.0
"""Fails when an include points the wrong way, or a file outgrows the house. The tables below are the architecture."""

import pathlib
import re
import sys

# module: what it may include besides itself. The arrows of the README's picture, in words.
COMMON = [
    "base", "log", "loop", "notify", "conf", "json", "logblock", "crypto", "tls", "tls/stream", "identity", "http", "peer", "wire", "regex", "rpc", "rpc/server",
    "rpc/client", "send",
]
ALL_COMMON = {f"common/{name}" for name in COMMON}

AGENT = {
    f"agent/{name}" for name in ("policy", "identity", "spool", "collect", "logs", "inventory", "uplink")
}

MAY_USE = {
    "common/base": set(),
    "common/log": {"common/base"},
    "common/loop": {"common/base"},
    "common/notify": {"common/base", "common/loop"},
    "common/conf": {"common/base"},
    "common/json": {"common/base"},
    "common/logblock": {"common/base"},
    "common/crypto": {"common/base"},
    "common/tls": {"common/base", "common/crypto"},
    "common/tls/stream": {"common/base", "common/tls"},
    "common/identity": {"common/base", "common/crypto"},
    "common/http": {"common/base"},
    "common/peer": {"common/base"},
    "common/wire": {"common/base"},
    "common/regex": {"common/base"},
    "common/rpc": {"common/base", "common/log", "common/tls"},
    "common/rpc/server": {"common/base", "common/log", "common/loop", "common/peer", "common/rpc"},
    "common/rpc/client": {"common/base", "common/log", "common/loop", "common/rpc"},
    "common/send": {"common/base", "common/crypto", "common/loop", "common/wire", "common/rpc", "common/rpc/client"},
    "server/store/codec": {"common/base"},
    "server/store/block": {"common/base", "server/store/codec"},
    "server/store": ALL_COMMON | {"server/store/codec", "server/store/block"},
    "server/audit": ALL_COMMON | {"server/store"},
    "server/quota": ALL_COMMON | {"server/store"},
    "server/pki/sealed": ALL_COMMON,
    "server/pki": ALL_COMMON | {"server/store", "server/audit", "server/pki/sealed"},
    "server/ingest": ALL_COMMON | {"server/store"},
    "server/upload": ALL_COMMON | {"server/store"},
    "server/query": ALL_COMMON | {"server/store"},
    "server/prom": {"common/base", "common/json", "server/store"},
    "server/front": ALL_COMMON | {"server/store", "server/audit", "server/quota", "server/pki", "server/ingest", "server/upload", "server/query"},
    "server/web": ALL_COMMON | {"server/store", "server/audit", "server/quota", "server/pki", "server/ingest", "server/query", "server/prom"},
    "server/export": ALL_COMMON | {"server/store", "server/prom"},
    "server": ALL_COMMON
    | {"server/store", "server/audit", "server/quota", "server/pki", "server/ingest", "server/upload", "server/query", "server/prom"}
    | {"server/front", "server/web", "server/export"}
    | {"server/ops"},
    "server/ops": ALL_COMMON | {"server", "server/store", "server/audit", "server/quota", "server/pki", "server/pki/sealed"},
    "server/ctl": ALL_COMMON,
    "agent/policy": ALL_COMMON,
    "agent/identity": ALL_COMMON,
    "agent/spool": ALL_COMMON,
    "agent/collect": ALL_COMMON | {"agent/spool"},
    "agent/logs": ALL_COMMON | {"agent/spool"},
    "agent/inventory": ALL_COMMON | {"agent/spool"},
    "agent/uplink": ALL_COMMON | {"agent/policy", "agent/identity", "agent/spool", "agent/collect", "agent/logs", "agent/inventory"},
    "agent": ALL_COMMON | AGENT | {"agent/cli"},
    "agent/cli": ALL_COMMON | AGENT | {"agent"},
    "bench": ALL_COMMON,
}

# Headers beside a composition root that other modules may include.
ROOT_HEADERS = {
    "server": {"server/hub.h", "server/settings.h"},
    "agent": {"agent/agent.h", "agent/settings.h"},
}

# foreign header: the only modules that may include it
FOREIGN = {
    r"lmdb\.h": {"server/store"},
    r"zstd\.h": {"server/store", "server/store/codec", "server/store/block", "common/logblock", "server/audit", "agent/spool"},
    r"snappy.*\.h": {"server/export"},
    r"openssl/.*": {"common/crypto", "common/tls", "common/tls/stream", "server/pki"},
    r"llhttp\.h": {"common/http"},
    r"jansson\.h": {"common/json"},
    r"yaml\.h": {"common/conf"},
    r"re2/.*": {"common/regex"},
    r"(grpc|absl)/.*": {"common/rpc", "common/rpc/server", "common/rpc/client"},
    r"protobuf-c/.*": {"common/wire", "common/send", "server/front", "server/ctl", "agent/uplink", "agent/identity", "bench"},
}
GENERATED = {"common/wire", "common/send", "server/front", "server/ctl", "agent/uplink", "agent/identity", "bench"}

MAX_LINES = {".c": 800, ".cc": 800, ".h": 300, ".py": 800}


def module_of(path: str) -> str:
    parts = path.split("/")[:-1]
    for depth in range(len(parts), 0, -1):
        name = "/".join(parts[:depth])
        if name in MAY_USE:
            return name
    return "/".join(parts)


def is_public(target: str, module: str) -> bool:
    if module == "common/base":
        return True
    if module in ROOT_HEADERS:
        return target in ROOT_HEADERS[module]
    return target == f"{module}/{module.split('/')[-1]}.h"


def check(rel: str, text: str) -> list[str]:
    bad = []
    here = module_of(rel)
    if here not in MAY_USE:
        return [f"{rel}: {here} has no row in the table of layers"]
    for target in re.findall(r'^#include "([^"]+)"', text, re.M):
        if target.endswith(".pb-c.h"):
            if here not in GENERATED:
                bad.append(f"{rel}: {here} may not use generated messages ({target})")
            continue
        to = module_of(target)
        if to == here:
            continue
        if to not in MAY_USE[here]:
            bad.append(f"{rel}: {here} may not use {to}")
        elif not is_public(target, to) and not here.startswith(to + "/"):
            bad.append(f"{rel}: {target} is private to {to}")
    for target in re.findall(r"^#include <([^>]+)>", text, re.M):
        for pattern, allowed in FOREIGN.items():
            if re.fullmatch(pattern, target) and here not in allowed:
                bad.append(f"{rel}: <{target}> is only for {', '.join(sorted(allowed))}")
    return bad


def main(root: pathlib.Path) -> int:
    bad = []
    rooms = ("common", "server", "agent", "bench")
    files = [path for room in rooms for path in sorted((root / room).rglob("*")) if path.suffix in (".c", ".h", ".cc")]
    for path in files:
        rel = path.relative_to(root).as_posix()
        bad += check(rel, path.read_text())
    for path in files + [p for p in sorted((root / "tests").rglob("*")) if p.suffix in MAX_LINES]:
        text = path.read_text()
        rel = path.relative_to(root).as_posix()
        if text.count("\n") > MAX_LINES.get(path.suffix, 800):
            bad.append(f"{rel}: {text.count(chr(10))} lines, at most {MAX_LINES[path.suffix]}")
        if path.suffix in (".c", ".h", ".cc") and "SPDX-License-Identifier: Apache-2.0" not in text[:200]:
            bad.append(f"{rel}: no SPDX line")
    print("\n".join(bad) or f"{len(files)} files keep the layers")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
