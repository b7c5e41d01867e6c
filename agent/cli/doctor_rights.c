/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/cli/doctor.h"
#include "agent/collect/collect.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "common/json/json.h"

#define DROP_INS "/usr/share/sentinel-agent/drop-ins"
#define UNIT "sentinel-agent.service"

/* capabilities(7) */
enum { CAP_DAC_READ_SEARCH = 2, CAP_SYS_PTRACE = 19, CAP_SYS_ADMIN = 21, CAP_SYSLOG = 34 };

struct right {
    const char *drop_in;
    int capability;
};
static const struct right files = { "files.conf", CAP_DAC_READ_SEARCH };
static const struct right processes = { "processes.conf", CAP_SYS_PTRACE };
static const struct right smart = { "smart.conf", CAP_SYS_ADMIN };
static const struct right kmsg = { "kmsg.conf", CAP_SYSLOG };

/* Whether the agent that runs has a capability that we who look have not: it came from a drop-in.
 */
static bool agent_has(const struct doctor *doctor, int capability)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    const int64_t pid = json_get_i64(json_member(doctor->status, "pid"), 0);
    const char *at;
    char path[64];

    if (!doctor->is_running)
        return false;
    snprintf(path, sizeof(path), "/proc/%lld/status", (long long) pid);
    if (file_read(path, 16384, &text) != 0)
        return false;
    at = strstr(buf_text(&text), "\nCapEff:");
    return at && (strtoull(at + strlen("\nCapEff:"), NULL, 16) >> capability & 1);
}

static void advise_right(struct doctor_line *line, const struct right *right)
{
    doctor_advise(line,
                  "if it is wanted: mkdir -p /etc/systemd/system/" UNIT ".d && ln -s " DROP_INS
                  "/%s /etc/systemd/system/" UNIT ".d/ && systemctl daemon-reload && systemctl "
                  "restart sentinel-agent",
                  right->drop_in);
}

static void
say_denied(struct doctor *doctor, const char *name, const char *what, const struct right *right)
{
    struct doctor_line *line;

    if (agent_has(doctor, right->capability)) {
        (void) doctor_add(doctor, name, DOCTOR_OK, "%s: the running agent may, by %s", what,
                          right->drop_in);
        return;
    }
    line = doctor_add(doctor, name, DOCTOR_WARNING, "%s: user %u may not read it", what,
                      (unsigned) geteuid());
    advise_right(line, right);
}

/* ---- collectors ---- */

static int check_collectors(struct doctor *doctor)
{
    CLEANUP(collect_freep) struct collect *collect = NULL;
    struct collect_options options;
    struct collect_report report;
    struct spool_scrape sample;
    size_t n_on = 0;
    int r;

    settings_collect(doctor->settings, &options);
    /* What asks others is not started for a look. */
    options.texts[COLLECT_STATSD_LISTEN] = "";
    options.lists[COLLECT_EXEC_COMMANDS].n_items = 0;
    r = collect_new(&collect, &options);
    if (r > 0) {
        doctor_advise(doctor_add(doctor, "collectors", DOCTOR_FAILED, "%s cannot be opened",
                                 doctor->settings->collect_root),
                      "correct collect.root");
        return 0;
    }
    for (int i = 0; i < 2 && r == 0; i++) /* the slow ones may be a round late */
        r = collect_run(collect, &sample);
    if (r)
        return pass(r);
    for (size_t i = 0; collect_get_report(collect, i, &report); i++) {
        const struct right *right = strcmp(report.collector, "processes") == 0 ? &processes
                                    : strcmp(report.collector, "nvme") == 0    ? &smart
                                                                               : &files;
        char name[40], what[256];

        n_on += report.is_on;
        if (!report.is_on || report.n_denied == 0)
            continue;
        snprintf(name, sizeof(name), "%.39s", report.collector);
        snprintf(what, sizeof(what), "%.180s and %llu more", report.denied,
                 (unsigned long long) (report.n_denied - 1));
        say_denied(doctor, name, what, right);
    }
    (void) doctor_add(doctor, "collectors", DOCTOR_OK, "%zu are on", n_on);
    return 0;
}

/* ---- logs ---- */

static void check_pattern(struct doctor *doctor, const char *pattern)
{
    const char *denied = NULL;
    size_t n_denied = 0;
    glob_t found;
    char what[256];

    if (glob(pattern, GLOB_NOSORT, NULL, &found) != 0) {
        doctor_advise(doctor_add(doctor, "logs", DOCTOR_WARNING, "%s: no such file", pattern),
                      "correct logs.files, or see whether its directory may be searched");
        return;
    }
    for (size_t i = 0; i < found.gl_pathc; i++) {
        if (access(found.gl_pathv[i], R_OK) == 0)
            continue;
        n_denied++;
        denied = found.gl_pathv[i];
    }
    if (denied) {
        snprintf(what, sizeof(what), "%.150s and %zu more of %.60s", denied, n_denied - 1, pattern);
        say_denied(doctor, "logs", what, &files);
    } else {
        (void) doctor_add(doctor, "logs", DOCTOR_OK, "%s: %zu files", pattern, found.gl_pathc);
    }
    globfree(&found);
}

static void check_logs(struct doctor *doctor)
{
    static const char *const journals[] = { "/var/log/journal", "/run/log/journal", NULL };
    const struct settings *settings = doctor->settings;
    bool is_readable = false;

    for (size_t i = 0; i < settings->logs_files.n_items && i < 32; i++)
        check_pattern(doctor, settings->logs_files.items[i]);
    for (size_t i = 0; settings->logs_journald && journals[i]; i++)
        is_readable = is_readable || access(journals[i], R_OK | X_OK) == 0;
    if (settings->logs_journald && access(settings->logs_journalctl, X_OK) < 0)
        doctor_advise(doctor_add(doctor, "journald", DOCTOR_FAILED, "%s: %s",
                                 settings->logs_journalctl, strerror(errno)),
                      "correct logs.journalctl, or turn logs.journald off");
    else if (settings->logs_journald && !is_readable)
        doctor_advise(doctor_add(doctor, "journald", DOCTOR_WARNING,
                                 "user %u may not read the system's journal", (unsigned) geteuid()),
                      "usermod -aG systemd-journal sentinel-agent, or the drop-in journal.conf of "
                      "%s; then restart",
                      DROP_INS);
    if (settings->logs_kmsg) {
        CLEANUP(fd_closep) int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

        if (fd < 0 && errno != ENOENT)
            say_denied(doctor, "kmsg", "/dev/kmsg", &kmsg);
        else
            (void) doctor_add(doctor, "kmsg", fd < 0 ? DOCTOR_WARNING : DOCTOR_OK, "/dev/kmsg%s",
                              fd < 0 ? " is not there" : "");
    }
}

/* ---- the service manager ---- */

static bool is_there(const char *path)
{
    return access(path, F_OK) == 0;
}

/* By what lies in files, so that nothing need be asked, or run. */
static void check_unit(struct doctor *doctor)
{
    static const char *const places[] = { "/etc/systemd/system/" UNIT,
                                          "/usr/lib/systemd/system/" UNIT,
                                          "/lib/systemd/system/" UNIT, NULL };
    const char *unit = NULL;
    struct doctor_line *line;
    bool is_enabled, is_up;

    if (!is_there("/run/systemd/system")) {
        (void) doctor_add(doctor, "unit", DOCTOR_SKIPPED, "systemd does not run here");
        return;
    }
    for (size_t i = 0; places[i] && !unit; i++)
        unit = is_there(places[i]) ? places[i] : NULL;
    if (!unit) {
        doctor_advise(doctor_add(doctor, "unit", DOCTOR_WARNING, UNIT " is not installed"),
                      "install the package; without it nothing starts the agent after a boot");
        return;
    }
    is_enabled = is_there("/etc/systemd/system/multi-user.target.wants/" UNIT);
    is_up = is_there("/sys/fs/cgroup/system.slice/" UNIT) ||
            is_there("/sys/fs/cgroup/systemd/system.slice/" UNIT);
    line =
        doctor_add(doctor, "unit", is_enabled && is_up ? DOCTOR_OK : DOCTOR_WARNING, "%s: %s, %s",
                   unit, is_enabled ? "enabled" : "not enabled", is_up ? "up" : "not up");
    if (!is_enabled || !is_up)
        doctor_advise(line, "systemctl enable --now sentinel-agent; why it ended: journalctl -u "
                            "sentinel-agent");
}

int doctor_check_rights(struct doctor *doctor)
{
    int r = check_collectors(doctor);

    if (r)
        return pass(r);
    check_logs(doctor);
    check_unit(doctor);
    return 0;
}
