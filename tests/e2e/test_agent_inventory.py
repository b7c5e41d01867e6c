# SPDX-License-Identifier: Apache-2.0
"""The agent's inventory: what a machine has is at the hub, once, with its history, also after the hub was away or forgot it."""

import json
import pathlib
import unittest

import fixture

PACKAGE = "Package: {}\nStatus: install ok installed\nInstalled-Size: 1\nArchitecture: amd64\nVersion: {}\n\n"


def packages(*rows) -> str:
    return "".join(PACKAGE.format(*row) for row in rows)


class AgentInventory(unittest.TestCase):
    def setUp(self):
        self.hub = fixture.Hub().start()
        self.root = self.hub.home / "machine"
        for path, text in {"etc/passwd": "anna:x:1000:1000:Anna:/home/anna:/bin/sh\n", "etc/os-release": "NAME=Test\nID=test\n",
                           "etc/crontab": "17 * * * * root date\n", "var/lib/dpkg/status": packages(("vim", "1"), ("six", "2"))}.items():
            self.put(path, text)

    def tearDown(self):
        self.hub.stop(expect=0)

    def put(self, path: str, text: str):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def agent(self, name: str = "box") -> fixture.Agent:
        return fixture.Agent(self.hub, name, flags=(
            "--collect-root", str(self.root), "--inventory-interval", "1s", "--uplink-reconnect-spread", "100ms",
            "--uplink-backoff", "200ms"))

    def versions(self) -> dict | None:
        """Of the packages at the hub; None: it has no inventory yet."""
        answer = self.hub.grpcurl("sentinel.query.v1.QueryService/GetInventory", check=None,
                                  data=json.dumps({"agent_id": "box", "tables": ["deb_packages"]}))
        if answer.returncode:
            return None
        table = json.loads(answer.stdout)["tables"][0]
        at = [table["columns"].index(c) for c in ("name", "version")]
        return {row["values"][at[0]]: row["values"][at[1]] for row in table.get("rows", [])}

    def history(self) -> list:
        return self.hub.ask("sentinel.query.v1.QueryService/ListInventoryHistory", {"agent_id": "box"})["revisions"]

    def status(self, agent) -> dict:
        return json.loads(fixture.run(fixture.program("sentinel-agent"), "status", "--state-dir", agent.state, "--json",
                                      check=None).stdout or "{}").get("inventory", {})

    def test_what_a_machine_has_arrives_and_a_change_is_a_revision(self):
        with self.agent() as agent:
            fixture.wait_until(lambda: self.versions() == {"vim": "1", "six": "2"}, "the packages")
            printed = json.loads(fixture.run(fixture.program("sentinel-agent"), "inventory", "deb_packages", "--collect-root", self.root,
                                             "--json").stdout)
            self.assertEqual({r["name"]: r["version"] for r in printed["deb_packages"]}, self.versions())
            self.put("var/lib/dpkg/status", packages(("vim", "9"), ("six", "2")))
            fixture.wait_until(lambda: self.versions() == {"vim": "9", "six": "2"}, "the update")
            found = self.hub.ask("sentinel.query.v1.QueryService/FindInventory",
                                 {"table": "deb_packages", "match": [{"column": "name", "pattern": "vim"}, {"column": "version", "pattern": "9"}]})
            self.assertIn("box", json.dumps(found))
            fixture.wait_until(lambda: self.status(agent).get("revision", 0) >= 2, "the revision in the agent's status")
            self.assertEqual(self.status(agent)["last_error"], "")

    def test_a_hub_that_was_away_gets_what_changed_meanwhile(self):
        with self.agent():
            fixture.wait_until(lambda: self.versions() is not None, "the first inventory")
            self.hub.kill()
            self.put("var/lib/dpkg/status", packages(("vim", "3")))
            self.hub.start()
            fixture.wait_until(lambda: self.versions() == {"vim": "3"}, "what changed meanwhile")

    def test_a_table_that_cannot_be_read_is_no_change(self):
        with self.agent() as agent:
            fixture.wait_until(lambda: self.versions() is not None, "the first inventory")
            status = pathlib.Path(self.root, "var/lib/dpkg/status")
            status.unlink()
            status.mkdir()  # not even root can read it
            fixture.wait_until(lambda: self.status(agent).get("tables_not_read") == 1, "the reading that failed")
            self.assertEqual(self.versions(), {"vim": "1", "six": "2"})

    def test_a_table_that_is_wanted_but_unknown_is_refused_with_the_nearest(self):
        refused = fixture.run(fixture.program("sentinel-agent"), "check-config", "--inventory-enable", "arp_cash", check=2)
        self.assertIn("arp_cache", refused.stderr)
        unknown = fixture.run(fixture.program("sentinel-agent"), "inventory", "usres", check=3)
        self.assertIn("users", unknown.stderr)


if __name__ == "__main__":
    unittest.main()
