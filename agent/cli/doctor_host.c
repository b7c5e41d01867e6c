/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "agent/cli/doctor.h"
#include "agent/policy/policy.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "common/json/json.h"
#include "common/tls/tls.h"

#define MAX_ROOTS 16
#define ROOT_SOON_US (INT64_C(90) * 86400 * 1000000)
#define ROOTS_BYTES (256u << 10)

static int64_t number_at(const struct json *object, const char *key)
{
    return json_get_i64(json_member(object, key), 0);
}

static const char *text_at(const struct json *object, const char *key)
{
    return json_get_text(json_member(object, key), "");
}

/* ---- files ---- */

static void check_policy(struct doctor *doctor)
{
    const char *file = doctor->settings->policy_file;
    struct policy policy;

    if (policy_load(file, &policy)) {
        (void) doctor_add(doctor, "policy", DOCTOR_FAILED, "no memory to look at it");
        return;
    }
    if (policy.state == POLICY_CLOSED)
        doctor_advise(doctor_add(doctor, "policy", DOCTOR_FAILED, "%s", policy.problem),
                      "until it is mended the hub may ask nothing; then `sentinel-agent reload`");
    else
        (void) doctor_add(doctor, "policy", DOCTOR_OK, "%s: %s", file,
                          policy.state == POLICY_LOADED ? "loaded" : "not there: nothing risky");
    policy_free(&policy);
}

static void check_root(struct doctor *doctor, const struct tls_cert *cert)
{
    char until[TEXT_TIME_BYTES];
    struct doctor_line *line;
    struct tls_facts facts;
    int64_t left_us;

    if (tls_cert_read(cert, &facts))
        return;
    left_us = facts.not_after.us - clock_wall().us;
    line = doctor_add(doctor, "root",
                      left_us < 0              ? DOCTOR_FAILED
                      : left_us < ROOT_SOON_US ? DOCTOR_WARNING
                                               : DOCTOR_OK,
                      "%s, until %s", facts.common_name, text_of_time(facts.not_after, until));
    if (left_us < ROOT_SOON_US)
        doctor_advise(line, "%s",
                      left_us < 0 ? "the hub has a new one: `sentinel-agent enroll`"
                                  : "`sentinelctl certs rotate-ca` makes the next one");
}

static void check_roots(struct doctor *doctor)
{
    CLEANUP(buf_deinit) struct buf path = { 0 }, pem = { 0 };
    struct tls_cert *certs[MAX_ROOTS];
    size_t n = 0;

    buf_printf(&path, "%s/ca-cert.pem", doctor->settings->identity);
    if (file_read(buf_text(&path), ROOTS_BYTES, &pem) != 0)
        return; /* the identity's line says it */
    if (tls_chain_split(buf_span(&pem), certs, MAX_ROOTS, &n) != 0) {
        doctor_advise(
            doctor_add(doctor, "root", DOCTOR_FAILED, "%s has no certificates", buf_text(&path)),
            "`sentinel-agent enroll` again");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        check_root(doctor, certs[i]);
        (void) tls_cert_free(certs[i]);
    }
}

static bool check_directory(struct doctor *doctor)
{
    const char *path = doctor->settings->state_dir;
    struct stat st;

    if (stat(path, &st) < 0) {
        doctor_advise(doctor_add(doctor, "state", DOCTOR_FAILED, "%s: %s", path, strerror(errno)),
                      errno == EACCES ? "look as root"
                                      : "`sentinel-agent run` and `enroll` make it; a package "
                                        "makes it for the user sentinel-agent");
        return false;
    }
    if (st.st_mode & S_IWOTH)
        doctor_advise(
            doctor_add(doctor, "state", DOCTOR_FAILED, "%s may be written by everybody", path),
            "chmod 750 %s", path);
    else if (access(path, W_OK) < 0)
        doctor_advise(doctor_add(doctor, "state", DOCTOR_FAILED,
                                 "%s belongs to user %u, and user %u may not write there", path,
                                 (unsigned) st.st_uid, (unsigned) geteuid()),
                      "look as root, or chown %u %s", (unsigned) geteuid(), path);
    else
        (void) doctor_add(doctor, "state", DOCTOR_OK, "%s, user %u, mode %04o", path,
                          (unsigned) st.st_uid, (unsigned) st.st_mode & 07777);
    return true;
}

/* What the spool may still take must be there. */
static void check_disk(struct doctor *doctor)
{
    const struct json *spool = json_member(doctor->status, "spool");
    const uint64_t limit = doctor->settings->spool_metrics_size + doctor->settings->spool_logs_size;
    const uint64_t used = (uint64_t) (number_at(json_member(spool, "metrics"), "queued_bytes") +
                                      number_at(json_member(spool, "logs"), "queued_bytes"));
    const uint64_t wanted = limit > used ? limit - used : 0;
    char texts[2][TEXT_SIZE_BYTES];
    struct statvfs fs;
    uint64_t free_bytes;

    if (statvfs(doctor->settings->state_dir, &fs) < 0)
        return;
    free_bytes = (uint64_t) fs.f_bavail * fs.f_frsize;
    if (fs.f_flag & ST_RDONLY)
        doctor_advise(doctor_add(doctor, "disk", DOCTOR_FAILED, "%s is mounted read-only",
                                 doctor->settings->state_dir),
                      "mount it to be written; until then what waits is in memory alone");
    else if (free_bytes < wanted)
        doctor_advise(
            doctor_add(doctor, "disk", DOCTOR_WARNING, "%s free, but the spool may take %s more",
                       text_of_size(free_bytes, texts[0]), text_of_size(wanted, texts[1])),
            "make room, or lower spool.metrics.size and spool.logs.size");
    else if (fs.f_files > 0 && fs.f_favail < 100)
        doctor_advise(doctor_add(doctor, "disk", DOCTOR_WARNING, "%llu inodes are free",
                                 (unsigned long long) fs.f_favail),
                      "remove files there");
    else
        (void) doctor_add(doctor, "disk", DOCTOR_OK, "%s free, the spool may take %s more",
                          text_of_size(free_bytes, texts[0]), text_of_size(wanted, texts[1]));
}

/* ---- the running agent ---- */

static void check_agent(struct doctor *doctor)
{
    const struct json *reload = json_member(doctor->status, "reload");

    if (!doctor->is_running) {
        doctor_advise(doctor_add(doctor, "agent", DOCTOR_WARNING, "%s",
                                 doctor->status ? "it ran, and no longer does"
                                                : "it does not run, or its status may not be read"),
                      "systemctl start sentinel-agent, or `sentinel-agent run`");
        return;
    }
    if (text_at(reload, "error")[0])
        doctor_advise(doctor_add(doctor, "agent", DOCTOR_WARNING,
                                 "runs with old settings: the reload was refused: %.300s",
                                 text_at(reload, "error")),
                      "mend the settings, then `sentinel-agent reload`");
    else if (text_at(reload, "restart_needed")[0])
        doctor_advise(doctor_add(doctor, "agent", DOCTOR_WARNING, "runs; %s as before",
                                 text_at(reload, "restart_needed")),
                      "systemctl restart sentinel-agent");
    else
        (void) doctor_add(doctor, "agent", DOCTOR_OK, "runs as process %lld, version %s",
                          (long long) number_at(doctor->status, "pid"),
                          text_at(doctor->status, "version"));
}

static void check_renewal(struct doctor *doctor)
{
    const struct json *identity = json_member(doctor->status, "identity");
    const char *state = text_at(identity, "state");
    struct doctor_line *line;

    if (!doctor->is_running || !identity)
        return;
    line = doctor_add(
        doctor, "renewal",
        number_at(identity, "failed_attempts") > 0 ? DOCTOR_WARNING
        : text_at(identity, "remedy")[0]           ? DOCTOR_FAILED
                                                   : DOCTOR_OK,
        "%s, next at %s, %lld attempts failed%s%s", state, text_at(identity, "next_renewal"),
        (long long) number_at(identity, "failed_attempts"),
        text_at(identity, "last_message")[0] ? ": " : "", text_at(identity, "last_message"));
    doctor_advise(line, "%s", text_at(identity, "remedy"));
}

static void check_ledger(struct doctor *doctor, const char *signal)
{
    const struct json *ledger = json_member(json_member(doctor->status, "spool"), signal);
    struct doctor_line *line;

    if (!ledger)
        return;
    line = doctor_add(doctor, "spool", DOCTOR_OK, "%s: %lld wait, %lld dropped, %lld damaged parts",
                      signal, (long long) number_at(ledger, "queued"),
                      (long long) number_at(ledger, "dropped"),
                      (long long) number_at(ledger, "damaged_segments"));
    if (json_get_bool(json_member(ledger, "in_memory"), false)) {
        line->verdict = DOCTOR_FAILED;
        doctor_advise(line,
                      "the disk cannot be written, what waits is in memory alone: see `state` "
                      "and `disk`");
    } else if (number_at(ledger, "dropped") > 0) {
        line->verdict = DOCTOR_WARNING;
        doctor_advise(line,
                      "spool.%s.size more, or see why the hub could not be had: "
                      "`sentinel-agent status`",
                      signal);
    } else if (number_at(ledger, "damaged_segments") > 0) {
        line->verdict = DOCTOR_WARNING;
        doctor_advise(line, "look at the disk: `sentinel-agent spool check` names the files");
    }
}

void doctor_check_host(struct doctor *doctor)
{
    check_policy(doctor);
    if (check_directory(doctor))
        check_disk(doctor);
    check_agent(doctor);
    if (doctor->status) {
        check_ledger(doctor, "metrics");
        check_ledger(doctor, "logs");
    }
    check_roots(doctor);
    check_renewal(doctor);
}
