# SPDX-License-Identifier: Apache-2.0
"""The registry comes from yesterday's backup, and the whole fleet has renewed its certificates since: nobody is stranded, and who was
thrown out in between stays out."""

import json
import unittest

import fixture
from test_enrol import Machine, certificates, token

LIFE = ("--identity-agent-life", "40s")
NAMES = ("north", "south", "west")


class Restored(unittest.TestCase):
    def fleet(self, hub) -> list[Machine]:
        machines = [Machine(hub, name) for name in (*NAMES, "thrown-out")]
        for machine in machines:
            machine.enroll(token(hub))
            machine.start()
            self.addCleanup(machine.stop)
        for machine in machines:
            machine.wait_streaming()
        return machines

    def events(self, hub, event: str) -> list[dict]:
        return json.loads(hub.ctl("audit", "search", "--event", event, "--limit", "1000", "--json").stdout)["entries"]

    def acknowledged(self, machine: Machine) -> int:
        return machine.status().get("spool", {}).get("acknowledged_samples", 0)

    def test_a_fleet_that_renewed_since_the_backup_streams_on(self):
        hub = fixture.Hub(flags=LIFE).start()
        self.addCleanup(hub.stop)
        machines = self.fleet(hub)
        *honest, thrown_out = machines
        hub.ctl("backup", hub.home / "copy")
        before = {machine.name: machine.serial() for machine in machines}

        def has_renewed(machine) -> bool:
            serial = machine.serial()
            return serial != before[machine.name] and certificates(hub, machine.name).get(serial) == "active"
        for machine in machines:
            fixture.wait_until(lambda m=machine: has_renewed(m), f"{machine.name} to renew", 2 * fixture.PATIENCE)
        hub.ctl("agents", "revoke", "thrown-out", "--yes")
        fixture.wait_until(lambda: thrown_out.state_is("revoked"), "the one to be thrown out")
        hub.stop(expect=0)

        restored = hub.home / "restored"
        restore = (fixture.program("sentinel-hub"), "restore", "--from", hub.home / "copy", "--state-dir", restored)
        for bad in (hub.state / "no-such", hub.admin / "ca-cert.pem"):
            self.assertIn("state directory", fixture.run(*restore, "--revoked", bad, check=2).stderr)
            self.assertFalse(restored.exists())
        told = fixture.run(*restore, "--json", "--revoked", hub.state / "revoked")
        self.assertGreaterEqual(json.loads(told.stdout)["n_revocations_merged"], 2)  # the agent, and its certificates
        again = fixture.Hub(flags=LIFE, state=restored).start(port=hub.port)
        self.addCleanup(again.stop)
        for machine in honest:
            have = self.acknowledged(machine)
            fixture.wait_until(lambda m=machine, n=have: m.streams() and self.acknowledged(m) > n,
                               f"{machine.name} to stream again; its log:\n{machine.log[-1500:]}")
            fixture.wait_until(lambda m=machine: certificates(again, m.name).get(m.serial()) == "active", f"{machine.name}'s to be active")
            self.assertEqual(list(certificates(again, machine.name).values()).count("active"), 1)
        adopted = {entry["actor"] for entry in self.events(again, "certificate.adopted")}
        self.assertEqual(adopted, {f"agent/{name}" for name in NAMES})
        self.assertEqual(self.events(again, "lineage.forked"), [])
        self.assertNotIn("active", certificates(again, "thrown-out").values())
        fixture.wait_until(lambda: thrown_out.state_is("revoked"), "the one to hear it again")
        self.assertTrue(json.loads(again.ctl("audit", "verify", "--json").stdout)["is_whole"])
        # And they renew as ever.
        serial = honest[0].serial()
        fixture.wait_until(lambda: honest[0].serial() != serial and honest[0].streams(), "a renewal", 2 * fixture.PATIENCE)


if __name__ == "__main__":
    fixture.main()
