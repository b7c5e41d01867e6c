# SPDX-License-Identifier: Apache-2.0
"""The Debian packages, installed by dpkg into this machine's system as it would be without them: an overlay that is thrown away."""

import json
import os
import shutil
import socket
import subprocess
import textwrap
import time
import unittest

import fixture

SYSTEMD = "/lib/systemd/systemd"
PACKAGES = ("sentinel-agent", "sentinel-hub", "sentinelctl")


def has_overlay() -> bool:
    """Whether a root of its own can be made here: as root, with mount namespaces and overlayfs."""
    script = "mount -t tmpfs none /mnt && mkdir -p /mnt/u /mnt/w /mnt/r && mount -t overlay o -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w /mnt/r"
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True).returncode == 0


class Packages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.home = fixture.scratch()
        if not shutil.which("dpkg-deb"):
            raise unittest.SkipTest("there is no dpkg-deb")
        fixture.run(fixture.ROOT / "subprojects/make-debs", fixture.BUILD, cls.home, timeout=600)
        cls.debs = {name: next(cls.home.glob(f"{name}_*.deb")) for name in PACKAGES}

    def contents(self, name: str) -> dict:
        lines = fixture.run("dpkg-deb", "--contents", self.debs[name]).stdout.splitlines()
        return {line.split()[5].removeprefix("."): (line.split()[0], line.split()[1]) for line in lines}

    def test_everything_belongs_to_root_and_is_written_by_nobody_else(self):
        for name in PACKAGES:
            for path, (mode, owner) in self.contents(name).items():
                self.assertEqual(owner, "root/root", path)
                self.assertNotIn("w", mode[5] + mode[8], path)
                self.assertNotIn("s", mode, path)

    def test_they_have_units_settings_completions_and_no_key(self):
        agent, hub, ctl = (set(self.contents(name)) for name in PACKAGES)
        for path in ("/usr/bin/sentinel-agent", "/lib/systemd/system/sentinel-agent.service", "/etc/sentinel-agent/config.yaml",
                     "/etc/sentinel-agent/policy.yaml", "/usr/share/bash-completion/completions/sentinel-agent",
                     "/usr/share/sentinel-agent/drop-ins/files.conf"):
            self.assertIn(path, agent)
        for path in ("/usr/bin/sentinel-hub", "/lib/systemd/system/sentinel-hub.service", "/etc/sentinel-hub/config.yaml"):
            self.assertIn(path, hub)
        self.assertIn("/usr/bin/sentinelctl", ctl)
        for name, pages in (("sentinel-agent", ("man8/sentinel-agent.8", "man5/sentinel-agent.yaml.5")), ("sentinelctl", ("man1/sentinelctl.1",)),
                            ("sentinel-hub", ("man8/sentinel-hub.8", "man5/sentinel-hub.yaml.5"))):
            told = {path for path in self.contents(name) if path.startswith("/usr/share/man/") and path.endswith(".gz")}
            self.assertEqual(told, {f"/usr/share/man/{page}.gz" for page in pages})
        self.assertFalse([path for path in agent | hub | ctl if path.endswith(".pem")])
        for name in PACKAGES[:2]:
            told = fixture.run("dpkg-deb", "--info", self.debs[name], "conffiles").stdout.split()
            self.assertEqual(set(told), {path for path in self.contents(name) if path.startswith("/etc/") and path.endswith(".yaml")})

    def test_the_settings_they_bring_are_fine(self):
        agent, hub = fixture.ROOT / "agent/package", fixture.ROOT / "server/package"
        fixture.run(fixture.program("sentinel-agent"), "check-config", agent / "config.yaml")
        fixture.run(fixture.program("sentinel-hub"), "check-config", hub / "config.yaml")
        own = self.home / "policy.yaml"
        own.write_text((agent / "policy.yaml").read_text())
        own.chmod(0o644)
        told = json.loads(fixture.run(fixture.program("sentinel-agent"), "policy", "--policy-file", own, "--json").stdout)
        self.assertEqual(told["state"], "loaded")
        # What is commented out there holds too, for who takes it in.
        own.write_text("\n".join(line[2:] for line in (agent / "policy.yaml").read_text().splitlines() if line.startswith(("# commands:", "# files:"))))
        self.assertEqual(json.loads(fixture.run(fixture.program("sentinel-agent"), "policy", "--policy-file", own, "--json").stdout)["state"], "loaded")

    @unittest.skipUnless(has_overlay(), "no overlay of the root can be made here")
    def test_a_new_user_gets_a_host_into_the_hub(self):
        """Install, init, start, enrol, look; as units would start them, then remove and purge. Prints how long a person's way takes."""
        with socket.create_server(("127.0.0.1", 0)) as a, socket.create_server(("127.0.0.1", 0)) as b:
            grpc, https = a.getsockname()[1], b.getsockname()[1]
        script = self.home / "try.sh"
        script.write_text(textwrap.dedent(f"""\
            set -eu
            over=$(mktemp -d); mount -t tmpfs none $over; mkdir $over/up $over/work $over/root
            mount -t overlay overlay -o lowerdir=/,upperdir=$over/up,workdir=$over/work $over/root
            mount -t proc proc $over/root/proc
            mkdir -p $over/root/debs; cp {self.home}/*.deb $over/root/debs/
            cp {self.home}/inside.sh $over/root/inside.sh
            exec chroot $over/root sh -eu /inside.sh
            """))
        (self.home / "inside.sh").write_text(textwrap.dedent(f"""\
            export GRPC={grpc} HTTPS={https}
            """) + INSIDE)
        begin = time.monotonic()
        done = subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", str(script)], capture_output=True, text=True, timeout=300,
                              stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        print(f"from packages to a host in the hub, looked at, removed and purged: {time.monotonic() - begin:.1f} s")
        facts = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith("FACT_") and "=" in line)
        self.assertEqual(facts["FACT_state"], "sentinel-agent 750")
        self.assertEqual(facts["FACT_hub_state"], "sentinel-hub 700")
        self.assertEqual(facts["FACT_foreign"], "0")
        self.assertEqual(facts["FACT_running_as"], "sentinel-agent")
        self.assertEqual(facts["FACT_connected"], "true")
        self.assertIn(facts["FACT_doctor"], ("0", "6"))
        self.assertEqual(facts["FACT_no_identity"], "4")
        self.assertEqual(facts["FACT_enabled"], "yes")
        self.assertEqual(facts["FACT_config_kept"], "yes")
        self.assertEqual(facts["FACT_purged"], "yes")
        self.assertEqual(facts["FACT_ca_kept"], "yes")

    @unittest.skipUnless(has_overlay() and os.path.exists(SYSTEMD), "no overlay of the root can be made here, or there is no systemd")
    def test_a_service_manager_starts_watches_reloads_and_stops_them(self):
        """A systemd of its own, as process 1 of namespaces of its own, with the units as the packages bring them."""
        shared = self.home / "shared"
        shared.mkdir()
        (self.home / "boot.sh").write_text(f"home={self.home}\nsystemd={SYSTEMD}\n" + BOOT)
        (self.home / "booted.sh").write_text(BOOTED)
        with (shared / "boot.log").open("w") as boot_log:
            machine = subprocess.Popen(["unshare", "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--fork", "--kill-child",
                                        "bash", str(self.home / "boot.sh")], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=boot_log)
        try:
            log, due = shared / "log", time.monotonic() + 240
            while not (shared / "done").exists():
                if machine.poll() is not None or time.monotonic() > due:
                    told = (shared / "boot.log").read_text() + (log.read_text() if log.exists() else "")
                    if not log.exists():
                        self.skipTest("no systemd can be process 1 here: " + told[-300:])
                    self.fail(told)
                time.sleep(0.2)
        finally:
            machine.kill()  # its process 1 goes with it, and all below that
            machine.wait()
        facts = dict(line.split("=", 1) for line in log.read_text().splitlines() if line.startswith("FACT_") and "=" in line)
        self.assertIn(facts.pop("FACT_doctor", None), ("0", "6"))  # 6: a warning, where no message bus runs
        self.assertEqual(facts, {
            "FACT_before_enrolment": "failed 0",  # 4 prevents a restart
            "FACT_hub": "active serving", "FACT_agent": "active connected, hub localhost:8082", "FACT_agents": "booted",
            "FACT_caps": "0000000000000000", "FACT_no_new_privs": "1", "FACT_user": "sentinel-agent",
            "FACT_reload": "0 0", "FACT_bad_reload": "1 active", "FACT_restarted": "1", "FACT_again": "connected",
            "FACT_watchdog": "watchdog", "FACT_stopped": "inactive success inactive success",
        }, log.read_text())


BOOT = r"""
set -eu
over=$(mktemp -d -p $home); mount --make-rprivate /; mount -t tmpfs none $over; mkdir -m 755 $over/up $over/work $over/root; root=$over/root
mount -t overlay overlay -o lowerdir=/,upperdir=$over/up,workdir=$over/work $root
mount -t proc proc $root/proc; mount -t sysfs sysfs $root/sys -o ro; mount -t cgroup2 cgroup2 $root/sys/fs/cgroup
mount -t tmpfs none $root/dev -o mode=755
for name in null zero full random urandom tty; do touch $root/dev/$name; mount --bind /dev/$name $root/dev/$name; done
mkdir $root/dev/pts $root/dev/shm $root/debs $root/shared $root/below
mount -t devpts devpts $root/dev/pts -o newinstance,ptmxmode=0666; ln -s pts/ptmx $root/dev/ptmx
mount -t tmpfs none $root/run -o mode=755
cp $home/*.deb $root/debs/; cp $home/booted.sh $root/booted.sh
mount --bind $home/shared $root/shared; mount -t tmpfs none $root/tmp -o mode=1777
cat > $root/etc/systemd/system/booted.service <<X
[Unit]
DefaultDependencies=no
After=systemd-journald.socket
[Service]
Type=oneshot
ExecStart=/bin/bash /booted.sh
StandardOutput=file:/shared/log
StandardError=inherit
X
cd $root; pivot_root . below
exec env -i container=sentinel PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c "umount -l /below; exec $systemd --system --unit=booted.service --show-status=0"
"""

BOOTED = r"""
trap 'touch /shared/done' EXIT
umask 022
ip link set lo up
show() { systemctl show -P "$2" sentinel-"$1"; }
patient() { n=0; until "$@" >/dev/null 2>&1; do n=$((n + 1)); [ $n -lt 300 ] || { echo "gave up on: $*" >&2; journalctl --no-pager -n 40 >&2; exit 1; }; sleep 0.1; done; }
tells() { [[ $(show "$1" StatusText) == $2* ]]; }
was_restarted() { [ "$(show "$1" NRestarts)" -ge "$2" ]; }
ctl() { setpriv --reuid sentinel-hub --regid sentinel-hub --clear-groups sentinelctl --hub localhost:8082 --identity /var/lib/sentinel-hub/operators/admin "$@"; }
dpkg -i --force-depends /debs/*.deb >&2
systemctl start sentinel-agent; echo "FACT_before_enrolment=$(show agent ActiveState) $(show agent NRestarts)"

printf 'listen:\n  grpc: 127.0.0.1:8082\n  https: 127.0.0.1:8081\n' > /etc/sentinel-hub/conf.d/ports.yaml
sentinel-hub init --name localhost > /tmp/init; grep '^sentinel1/' /tmp/init > /tmp/string
systemctl start sentinel-hub; echo "FACT_hub=$(show hub ActiveState) $(show hub StatusText)"
sentinel-agent enroll --hub localhost:8082 --token-file /tmp/string --id booted >&2
printf 'hub: localhost:8082\n' > /etc/sentinel-agent/conf.d/hub.yaml
systemctl start sentinel-agent; patient tells agent connected
echo "FACT_agent=$(show agent ActiveState) $(show agent StatusText)"
ctl agents list --json > /tmp/agents; echo "FACT_agents=$(grep -o '"agent": *"[^"]*"' /tmp/agents | cut -d'"' -f4)"
pid=$(show agent MainPID)
echo "FACT_caps=$(sed -n 's/^CapEff:\t//p' /proc/$pid/status)"; echo "FACT_no_new_privs=$(sed -n 's/^NoNewPrivs:\t//p' /proc/$pid/status)"
echo "FACT_user=$(stat -c %U /proc/$pid)"

systemctl reload sentinel-agent; a=$?; systemctl reload sentinel-hub; echo "FACT_reload=$a $?"
echo 'interval: soon' > /etc/sentinel-agent/conf.d/bad.yaml
systemctl reload sentinel-agent; echo "FACT_bad_reload=$? $(show agent ActiveState)"; rm /etc/sentinel-agent/conf.d/bad.yaml

systemctl kill -s KILL sentinel-agent; patient was_restarted agent 1; echo "FACT_restarted=$(show agent NRestarts)"
patient tells agent connected; echo "FACT_again=$(show agent StatusText | cut -d, -f1)"
sentinel-agent doctor >&2; echo "FACT_doctor=$?"

# One that hangs is found out.
mkdir /run/systemd/system/sentinel-hub.service.d; printf '[Service]\nWatchdogSec=2s\n' > /run/systemd/system/sentinel-hub.service.d/w.conf
systemctl daemon-reload; systemctl restart sentinel-hub; systemctl kill -s STOP sentinel-hub
patient was_restarted hub 1; journalctl -u sentinel-hub --no-pager | grep -q 'Watchdog timeout' && echo FACT_watchdog=watchdog
patient tells hub serving
systemctl stop sentinel-agent sentinel-hub
echo "FACT_stopped=$(show agent ActiveState) $(show agent Result) $(show hub ActiveState) $(show hub Result)"
"""

INSIDE = r"""
become() { user=$1; shift; exec setpriv --reuid $user --regid $user --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "$@"; }
as() { (become "$@"); }
patient() { n=0; until "$@" >/dev/null 2>&1; do n=$((n + 1)); [ $n -lt 300 ] || { echo "gave up on: $*" >&2; return 1; }; sleep 0.1; done; }
dpkg -i --force-depends /debs/*.deb >&2
echo "FACT_state=$(stat -c '%U %a' /var/lib/sentinel-agent)"
echo "FACT_hub_state=$(stat -c '%U %a' /var/lib/sentinel-hub)"
test -L /etc/systemd/system/multi-user.target.wants/sentinel-agent.service && echo FACT_enabled=yes || echo FACT_enabled=no
set +e; as sentinel-agent sentinel-agent run --hub localhost:$GRPC 2>/dev/null; echo "FACT_no_identity=$?"; set -e

printf 'listen:\n  grpc: 127.0.0.1:%s\n  https: 127.0.0.1:%s\n' $GRPC $HTTPS > /etc/sentinel-hub/conf.d/ports.yaml
sentinel-hub init >&2
become sentinel-hub sentinel-hub run 2>/tmp/hub.log & hub=$!
patient grep -q '^ready' /tmp/hub.log
ctl() { as sentinel-hub sentinelctl --hub localhost:$GRPC --identity /var/lib/sentinel-hub/operators/admin "$@"; }
ctl tokens create --json > /tmp/token.json
sed -n 's/.*"enrolment": *"\([^"]*\)".*/\1/p' /tmp/token.json > /tmp/token
sentinel-agent enroll --hub localhost:$GRPC --token-file /tmp/token --id packaged >&2
echo "FACT_foreign=$(find /var/lib/sentinel-agent ! -user sentinel-agent | wc -l)"
printf 'hub: localhost:%s\n' $GRPC > /etc/sentinel-agent/conf.d/hub.yaml
become sentinel-agent sentinel-agent run 2>/tmp/agent.log & agent=$!
patient sentinel-agent status
echo "FACT_running_as=$(stat -c %U /proc/$agent)"
ctl agents show packaged --json | sed -n 's/.*"connected": *\([a-z]*\).*/FACT_connected=\1/p'
set +e; sentinel-agent doctor >&2; echo "FACT_doctor=$?"; set -e
sentinel-agent reload >&2

echo 'interval: 20s' >> /etc/sentinel-agent/config.yaml
dpkg -i --force-depends --force-confold /debs/sentinel-agent_*.deb >&2
grep -q 'interval: 20s' /etc/sentinel-agent/config.yaml && echo FACT_config_kept=yes || echo FACT_config_kept=no
kill $agent; wait $agent; kill $hub; wait $hub
dpkg -P --force-depends sentinel-agent sentinel-hub sentinelctl >&2
[ ! -e /var/lib/sentinel-agent ] && [ ! -e /usr/bin/sentinel-agent ] && echo FACT_purged=yes || echo FACT_purged=no
[ -e /var/lib/sentinel-hub/certs ] && echo FACT_ca_kept=yes || echo FACT_ca_kept=no
"""


if __name__ == "__main__":
    fixture.main()
