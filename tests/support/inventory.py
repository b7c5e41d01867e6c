# SPDX-License-Identifier: Apache-2.0
"""Inventories as a foreign agent sends them: canonical hashes by proto/sentinel/telemetry/v1/telemetry.proto, uploads."""

import dataclasses
import hashlib
import struct

import fixture


def _value(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<I", len(data)) + data


@dataclasses.dataclass
class Table:
    columns: list[str]
    rows: list[list[str]]

    def __post_init__(self):
        self.rows = sorted(self.rows)  # by code points, which is by the bytes of UTF-8

    def canonical(self) -> bytes:
        return struct.pack("<I", len(self.columns)) + b"".join(map(_value, self.columns)) + \
            b"".join(_value(v) for row in self.rows for v in row)

    def sha256(self) -> bytes:
        return hashlib.sha256(self.canonical()).digest()


def packages(*versions: tuple[str, str]) -> Table:
    return Table(["name", "version"], [list(v) for v in versions])


def header(tables: dict[str, Table], time_us: int | None = None):
    t = fixture.stubs().telemetry
    return t.UploadInventoryRequest(header=t.InventoryHeader(
        time_unix_us=time_us or fixture.now_us(),
        tables=[t.InventoryTableHash(name=n, sha256=table.sha256(), rows=len(table.rows)) for n, table in tables.items()]))


def part(name: str, columns=(), rows=(), is_last=True):
    t = fixture.stubs().telemetry
    return t.UploadInventoryRequest(table=t.InventoryTable(
        name=name, columns=list(columns), rows=[t.InventoryRow(values=r) for r in rows], is_last=is_last))


def messages(name: str, table: Table, rows_each: int = 5000):
    """A table in messages of so many rows."""
    for at in range(0, max(len(table.rows), 1), rows_each):
        yield part(name, table.columns if at == 0 else (), table.rows[at:at + rows_each], at + rows_each >= len(table.rows))


class Client:
    """One agent's end. Counts the bytes that travel."""

    def __init__(self, hub: fixture.Hub, name: str, identity=None):
        self.name = name
        self.identity = identity or hub.issue("agent", name)
        self.hub = hub
        self.sent_bytes = 0
        self.connect()

    def connect(self):
        self.channel = self.hub.channel(self.identity)
        self.stub = fixture.stubs().telemetry_grpc.TelemetryServiceStub(self.channel)

    def close(self):
        self.channel.close()

    def send(self, requests):
        """One call with these messages: the response, or what error() makes of it."""
        import grpc

        def counted():
            for request in requests:
                self.sent_bytes += request.ByteSize()
                yield request
        try:
            return self.stub.UploadInventory(counted(), timeout=fixture.PATIENCE)
        except grpc.RpcError as failure:
            return fixture.rich(failure)

    def upload(self, tables: dict[str, Table], time_us: int | None = None):
        """As an agent does: the header alone, then what is missing. The response, or an error that is another one."""
        first = header(tables, time_us)
        answer = self.send([first])
        if isinstance(answer, dict) and answer["code"] == "FAILED_PRECONDITION":
            answer = self.send([first, *(m for n in answer["missing"] for m in messages(n, tables[n]))])
        return answer
