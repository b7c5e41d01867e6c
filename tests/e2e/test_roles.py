# SPDX-License-Identifier: Apache-2.0
"""Who may call what: every method of our protos, called by everybody, compared with what its proto says."""

import importlib
import queue
import unittest

import fixture

# What each role may call besides what anyone may.
MAY = {
    "nobody": set(),
    "agent": {"KNOWN", "AGENT"},
    "viewer": {"KNOWN", "VIEWER"},
    "operator": {"KNOWN", "VIEWER", "OPERATOR"},
    "admin": {"KNOWN", "VIEWER", "OPERATOR", "ADMIN"},
    "exporter": {"KNOWN", "EXPORTER"},
}
SERVICES = {
    "sentinel.telemetry.v1.telemetry", "sentinel.query.v1.query", "sentinel.admin.v1.admin", "sentinel.enrollment.v1.enrollment",
    "sentinel.control.v1.control",
}
DENIALS = {"CERTIFICATE_MISSING", "ROLE_MISSING"}


def methods() -> list[tuple[str, str]]:
    """(path, role) of every method."""
    fixture.stubs()
    options = importlib.import_module("sentinel.options.v1.options_pb2")
    found = []
    for module in sorted(SERVICES):
        descriptor = importlib.import_module(module + "_pb2").DESCRIPTOR
        for service in descriptor.services_by_name.values():
            for method in service.methods:
                role = options.Role.Name(method.GetOptions().Extensions[options.role]).removeprefix("ROLE_")
                found.append((f"/{service.full_name}/{method.name}", role))
    found += [(f"/grpc.health.v1.Health/{name}", "ANYONE") for name in ("Check", "List", "Watch")]
    found += [(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo", "KNOWN") for version in ("v1", "v1alpha")]
    return found


def call(channel, path: str) -> str | None:
    """Calls with one empty message; the reason of a refusal, None for an answer, or when it goes on without one."""
    import grpc
    outgoing: queue.Queue = queue.Queue()
    outgoing.put(b"")
    waits = path.rsplit("/", 1)[-1] in ("TailLogs", "Watch")  # these have no end
    if not waits:
        outgoing.put(None)
    answers = channel.stream_stream(path, request_serializer=bytes, response_deserializer=bytes)(
        iter(outgoing.get, None), timeout=2 if waits else fixture.PATIENCE)
    try:
        next(answers, None)
    except grpc.RpcError as error:
        return fixture.rich(error)["reason"]
    finally:
        outgoing.put(None)
        answers.cancel()
    return None


class Roles(unittest.TestCase):
    def test_every_method_is_for_whom_its_proto_says(self):
        with fixture.Hub() as hub:
            identities = {"nobody": None, "agent": hub.issue("agent", "someone")}
            for role in ("viewer", "operator", "admin", "exporter"):
                identities[role] = fixture.scratch() / role
                hub.ctl("operators", "add", "some-" + role, "--role", role, "--out", identities[role])
            wrong = []
            for who, identity in identities.items():
                channel = hub.channel(identity)
                for path, role in methods():
                    self.assertNotEqual(role, "UNSPECIFIED", path)
                    is_allowed = role == "ANYONE" or role in MAY[who]
                    reason = call(channel, path)
                    denied = "CERTIFICATE_MISSING" if who == "nobody" else "ROLE_MISSING"
                    if (reason == denied) if is_allowed else (reason != denied):
                        wrong.append((who, path, role, reason))
                channel.close()
            self.assertEqual(wrong, [])
            self.assertGreater(len(methods()), 50)
            for event in ("authorisation.denied", "authentication.failed"):
                fixture.wait_until(lambda: '"' + event + '"' in hub.ctl("audit", "search", "--event", event, "--json").stdout, event)


if __name__ == "__main__":
    fixture.main()
