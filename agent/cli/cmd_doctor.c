/* SPDX-License-Identifier: Apache-2.0 */
/* sentinel-agent doctor [--json] */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/cli/cmd.h"
#include "agent/cli/doctor.h"
#include "agent/uplink/uplink.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/owner.h"
#include "common/base/text.h"
#include "common/json/json.h"
#include "common/log/log.h"
#include "common/rpc/rpc.h"

#define MAX_STATUS_BYTES (64u << 10)
/* Samples of a clock that is further off are stamped with the hub's. */
#define CLOCK_FAR_US INT64_C(3600000000)
#define CLOCK_APART_US INT64_C(60000000)

struct doctor_line *doctor_add(struct doctor *doctor,
                               const char *name,
                               enum doctor_verdict verdict,
                               const char *fmt,
                               ...)
{
    struct doctor_line *line = &doctor->lines[doctor->n_lines];
    va_list args;

    ensure(doctor->n_lines < DOCTOR_MAX_LINES);
    doctor->n_lines++;
    *line = (struct doctor_line){ .verdict = verdict };
    snprintf(line->name, sizeof(line->name), "%s", name);
    va_start(args, fmt);
    vsnprintf(line->detail, sizeof(line->detail), fmt, args);
    va_end(args);
    return line;
}

void doctor_advise(struct doctor_line *line, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(line->remedy, sizeof(line->remedy), fmt, args);
    va_end(args);
}

/* ---- the way to the hub ---- */

static void take_probe(struct doctor *doctor, const struct uplink_probe *probe)
{
    static const enum doctor_verdict verdicts[] = {
        [UPLINK_PASSED] = DOCTOR_OK,
        [UPLINK_WARNED] = DOCTOR_WARNING,
        [UPLINK_FAILED] = DOCTOR_FAILED,
        [UPLINK_NOT_TRIED] = DOCTOR_SKIPPED,
    };

    for (size_t i = 0; i < probe->n_checks; i++) {
        const struct uplink_check *check = &probe->checks[i];

        doctor_advise(
            doctor_add(doctor, check->name, verdicts[check->verdict], "%s", check->detail), "%s",
            check->remedy);
    }
}

static void check_clock(struct doctor *doctor, const struct uplink_probe *probe)
{
    const int64_t apart_us =
        probe->clock_offset_us < 0 ? -probe->clock_offset_us : probe->clock_offset_us;
    char text[TEXT_DURATION_BYTES];
    struct doctor_line *line;

    if (!probe->is_clock_known) {
        (void) doctor_add(doctor, "clock", DOCTOR_SKIPPED, "the hub did not say its time");
        return;
    }
    line = doctor_add(doctor, "clock", apart_us < CLOCK_APART_US ? DOCTOR_OK : DOCTOR_WARNING,
                      "this machine's is %s %s the hub's",
                      text_of_duration_us(apart_us / 1000 * 1000, text),
                      probe->clock_offset_us >= 0 ? "behind" : "ahead of");
    if (apart_us >= CLOCK_APART_US)
        doctor_advise(line, "set the clock, for example: timedatectl set-ntp true%s",
                      apart_us >= CLOCK_FAR_US ? "; samples are stamped with the hub's until then"
                                               : "");
}

static int check_hub(struct doctor *doctor)
{
    const struct settings *settings = doctor->settings;
    struct uplink_probe probe;
    struct collect_host host;
    int r;

    if (!settings->hub[0]) {
        doctor_advise(doctor_add(doctor, "hub", DOCTOR_FAILED, "no hub is known"),
                      "`sentinel-agent enroll`, or `hub: HOST:8082` in %s", SETTINGS_DEFAULT_FILE);
        return 0;
    }
    collect_read_host(settings->collect_root, &host);
    r = rpc_init();
    if (r)
        return fold(r);
    r = uplink_probe(
        &(struct uplink_options){
            .hub = settings->hub,
            .server_name = settings->server_name[0] ? settings->server_name : NULL,
            .identity = settings->identity,
            .is_tls13_only = settings->tls_min_version == SETTINGS_TLS_1_3,
            .interval_us = settings->interval,
            .host = &host,
        },
        &probe);
    rpc_deinit();
    if (r)
        return pass(r);
    take_probe(doctor, &probe);
    check_clock(doctor, &probe);
    return 0;
}

/* ---- all of it ---- */

static void read_status(struct doctor *doctor)
{
    CLEANUP(buf_deinit) struct buf path = { 0 }, content = { 0 };
    struct json_error error;

    buf_printf(&path, "%s/" AGENT_STATUS_FILE, doctor->settings->state_dir);
    if (file_read(buf_text(&path), MAX_STATUS_BYTES, &content) != 0 ||
        json_parse(&doctor->status, buf_span(&content), &error) != 0)
        doctor->status = NULL;
    doctor->is_running = doctor->status && cmd_status_is_alive(doctor->status);
}

int doctor_run(struct doctor *doctor)
{
    char digest[65];
    int r = settings_digest(doctor->settings, digest);

    if (r)
        return pass(r);
    (void) doctor_add(doctor, "settings", DOCTOR_OK, "they are fine, sha256 %.16s", digest);
    read_status(doctor);
    doctor_check_host(doctor);
    r = check_hub(doctor);
    if (r)
        return pass(r);
    return pass(doctor_check_rights(doctor));
}

void doctor_deinit(struct doctor *doctor)
{
    doctor->status = json_free(doctor->status);
}

static const char *verdict_name(enum doctor_verdict verdict)
{
    static const char *const names[] = { "ok", "warning", "failed", "skipped" };

    return names[verdict];
}

int doctor_exit(const struct doctor *doctor)
{
    int code = CLI_OK;

    for (size_t i = 0; i < doctor->n_lines; i++) {
        if (doctor->lines[i].verdict == DOCTOR_FAILED)
            return CLI_FAILURE;
        if (doctor->lines[i].verdict == DOCTOR_WARNING)
            code = CLI_PARTIAL;
    }
    return code;
}

static void print_json(const struct doctor *doctor, struct buf *to)
{
    struct json_writer json;

    json_begin(&json, to, true);
    json_open_object(&json);
    json_put_bool(&json, "ok", doctor_exit(doctor) == CLI_OK);
    json_key(&json, "checks");
    json_open_array(&json);
    for (size_t i = 0; i < doctor->n_lines; i++) {
        const struct doctor_line *line = &doctor->lines[i];

        json_open_object(&json);
        json_put_text(&json, "name", line->name);
        json_put_text(&json, "result", verdict_name(line->verdict));
        json_put_text(&json, "detail", line->detail);
        json_put_text(&json, "remedy", line->remedy);
        json_close_object(&json);
    }
    json_close_array(&json);
    json_close_object(&json);
    buf_append_text(to, "\n");
}

void doctor_print(const struct doctor *doctor, bool is_json, struct buf *to)
{
    if (is_json) {
        print_json(doctor, to);
        return;
    }
    for (size_t i = 0; i < doctor->n_lines; i++) {
        const struct doctor_line *line = &doctor->lines[i];
        CLEANUP(buf_deinit) struct buf text = { 0 };

        buf_printf(&text, "%-8s %-12s %s%s%s", verdict_name(line->verdict), line->name,
                   line->detail, line->remedy[0] ? " -- " : "", line->remedy);
        text_append_printable(to, buf_span(&text)); /* names of files, and what the hub said */
        buf_append_text(to, "\n");
    }
}

int cmd_doctor(int argc, char **argv)
{
    static const struct cmd cmd = {
        .usage = "doctor [--hub HOST:PORT] [--state-dir D] [--json]",
        .help = "Looks at everything that the agent needs here, and says what to do: settings, "
                "policy, files, disk, the way to the hub, clock, certificates, rights, the unit. "
                "As root it looks as the agent's user does. Exits with 1 when something fails, "
                "with 6 when there are warnings only.",
        .has_json = true,
        .has_settings = true,
    };
    CLEANUP(cmd_line_deinit) struct cmd_line line = { 0 };
    CLEANUP(doctor_deinit) struct doctor doctor = { .settings = &line.settings };
    CLEANUP(buf_deinit) struct buf text = { 0 };
    int code = CLI_FAILURE;

    if (cmd_parse(argc, argv, &cmd, &line, &code))
        return code;
    /* Its own lines say what core's and the collectors' would. */
    log_init(&(struct log_options){ .level = LOG_ERROR, .format = LOG_LOGFMT, .fd = 2 });
    if (owner_become(line.settings.state_dir) || doctor_run(&doctor))
        return CLI_FAILURE;
    doctor_print(&doctor, line.is_json, &text);
    code = cmd_print(&text);
    return code ? code : doctor_exit(&doctor);
}
