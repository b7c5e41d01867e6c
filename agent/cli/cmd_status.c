/* SPDX-License-Identifier: Apache-2.0 */
/* sentinel-agent status [--state-dir D] [--json]: reads status.json, which a running agent writes
 * each interval. */
#include <errno.h>
#include <signal.h>
#include <sys/types.h>

#include "agent/agent.h"
#include "agent/cli/cmd.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "common/json/json.h"

#define MAX_STATUS_BYTES (64u << 10)

/* Rounds that may be missing before an agent counts as gone. */
#define LATE_ROUNDS 3

/* Clocks that are further apart are worth a line. */
#define CLOCK_APART_S 60

static const char *text_at(const struct json *object, const char *key)
{
    return json_get_text(json_member(object, key), "-");
}

static long long number_at(const struct json *object, const char *key)
{
    return (long long) json_get_i64(json_member(object, key), 0);
}

bool cmd_status_is_alive(const struct json *status)
{
    int64_t interval_us =
        (int64_t) (json_get_f64(json_member(status, "interval_s"), 10) * 1000000.0);
    int64_t pid = json_get_i64(json_member(status, "pid"), 0);
    wall_us time;

    if (pid <= 0 || (kill((pid_t) pid, 0) < 0 && errno == ESRCH))
        return false;
    if (text_to_time(text_at(status, "time"), clock_wall(), &time))
        return false;
    return clock_wall().us - time.us <= LATE_ROUNDS * interval_us + 5000000;
}

static void print_hub(const struct json *hub, struct buf *to)
{
    const struct json *error = json_member(hub, "last_error");
    double offset_s = json_get_f64(json_member(hub, "clock_offset_s"), 0);

    buf_printf(to, "hub        %s %s since %s\n", text_at(hub, "target"), text_at(hub, "state"),
               text_at(hub, "since"));
    if (json_get_bool(json_member(hub, "insecure"), false))
        buf_append_text(to, "           INSECURE: plaintext, nobody is authenticated\n");
    if (text_at(hub, "peer")[0])
        buf_printf(to, "           at %s, version %s, clock %+.3f s\n", text_at(hub, "peer"),
                   text_at(hub, "version"), offset_s);
    buf_printf(to, "last ack   %s\n", text_at(hub, "last_ack"));
    if (json_member(error, "code"))
        buf_printf(to, "last error %s %s: %s%s\n", text_at(error, "code"), text_at(error, "reason"),
                   text_at(error, "message"),
                   json_get_bool(json_member(error, "needs_attention"), false)
                       ? " (does not get better by itself)"
                       : "");
    if (json_get_text(json_member(hub, "next_attempt"), NULL))
        buf_printf(to, "next try   %s\n", text_at(hub, "next_attempt"));
}

static void print_logs(const struct json *logs, struct buf *to)
{
    char size[TEXT_SIZE_BYTES];

    buf_printf(to, "logs       %lld files, %lld records, %s not read yet; journald %s, kmsg %s\n",
               number_at(logs, "files"), number_at(logs, "records"),
               text_of_size((uint64_t) number_at(logs, "behind_bytes"), size),
               text_at(logs, "journald"), text_at(logs, "kmsg"));
    if (json_get_bool(json_member(logs, "is_blocked"), false))
        buf_append_text(to, "           BLOCKED: the spool of logs is full (spool.logs.size)\n");
    if (number_at(logs, "truncated_with_loss") > 0)
        buf_printf(to, "           %lld files were truncated before all of them was read\n",
                   number_at(logs, "truncated_with_loss"));
    if (text_at(logs, "last_error")[0])
        buf_printf(to, "           %s\n", text_at(logs, "last_error"));
}

static void print_inventory(const struct json *inventory, struct buf *to)
{
    const char *error = json_get_text(json_member(inventory, "last_error"), "");

    buf_printf(to, "inventory  %lld tables, %lld rows, read %s, stored %s as revision %lld\n",
               number_at(inventory, "tables"), number_at(inventory, "rows"),
               text_at(inventory, "read"), text_at(inventory, "stored"),
               number_at(inventory, "revision"));
    if (error[0])
        buf_printf(to, "           last error: %s\n", error);
}

static void print_identity(const struct json *identity, struct buf *to)
{
    double offset_s = json_get_f64(json_member(identity, "clock_offset_s"), 0);
    char apart[TEXT_DURATION_BYTES];

    if (!identity)
        return;
    buf_printf(to, "identity   %s as %s, serial %s\n", text_at(identity, "state"),
               text_at(identity, "agent_id"), text_at(identity, "serial"));
    buf_printf(to, "           until %s, %lld %% of its life left; next renewal %s\n",
               text_at(identity, "not_after"), number_at(identity, "percent_left"),
               text_at(identity, "next_renewal"));
    if (text_at(identity, "problem")[0])
        buf_printf(to, "           %s\n", text_at(identity, "problem"));
    if (number_at(identity, "failed_attempts") > 0)
        buf_printf(to, "           renewal failed %lld times, last at %s: %s %s\n",
                   number_at(identity, "failed_attempts"), text_at(identity, "last_attempt"),
                   text_at(identity, "last_reason"), text_at(identity, "last_message"));
    if (offset_s < -CLOCK_APART_S || offset_s > CLOCK_APART_S)
        buf_printf(
            to, "           this machine's clock is %s the hub's by %s: set it\n",
            offset_s > 0 ? "behind" : "ahead of",
            text_of_duration_us((int64_t) (offset_s < 0 ? -offset_s : offset_s) * 1000000, apart));
    if (text_at(identity, "remedy")[0])
        buf_printf(to, "           %s\n", text_at(identity, "remedy"));
}

static void
print_ledger(const char *name, const char *records, const struct json *ledger, struct buf *to)
{
    static const char *const reasons[] = { "queue_full", "too_old", "refused", "damaged", NULL };
    const struct json *dropped = json_member(ledger, "dropped_by_reason");
    char used[TEXT_SIZE_BYTES], limit[TEXT_SIZE_BYTES], age[TEXT_DURATION_BYTES];
    wall_us oldest;

    buf_printf(to, "%-10s %lld %s produced, %lld acknowledged, %lld queued, %lld dropped", name,
               number_at(ledger, "produced"), records, number_at(ledger, "acknowledged"),
               number_at(ledger, "queued"), number_at(ledger, "dropped"));
    for (size_t i = 0; reasons[i]; i++)
        if (number_at(dropped, reasons[i]) > 0)
            buf_printf(to, ", %s %lld", reasons[i], number_at(dropped, reasons[i]));
    buf_printf(to, "\n           %lld batches, %s of %s", number_at(ledger, "queued_batches"),
               text_of_size((uint64_t) number_at(ledger, "queued_bytes"), used),
               text_of_size((uint64_t) number_at(ledger, "limit_bytes"), limit));
    if (number_at(ledger, "queued") > 0 &&
        text_to_time(text_at(ledger, "oldest"), clock_wall(), &oldest) == 0)
        buf_printf(to, ", oldest %s ago",
                   text_of_duration_us((clock_wall().us - oldest.us) / 1000000 * 1000000, age));
    if (number_at(ledger, "runs_waiting") > 0)
        buf_printf(to, ", %lld runs wait", number_at(ledger, "runs_waiting"));
    if (json_get_bool(json_member(ledger, "in_memory"), false))
        buf_append_text(to, ", IN MEMORY ALONE: the disk cannot be written");
    buf_append_text(to, "\n");
}

static void print_uploads(const struct json *uploads, struct buf *to)
{
    if (number_at(uploads, "done") + number_at(uploads, "failed") + number_at(uploads, "waiting") ==
        0)
        return;
    buf_printf(to, "uploads    %lld done, %lld failed, %lld wait, last at %s\n",
               number_at(uploads, "done"), number_at(uploads, "failed"),
               number_at(uploads, "waiting"), text_at(uploads, "last_done"));
    if (text_at(uploads, "last_error")[0])
        buf_printf(to, "           last error: %s\n", text_at(uploads, "last_error"));
}

static void print_life(const struct json *status, struct buf *to)
{
    const struct json *reload = json_member(status, "reload"),
                      *policy = json_member(status, "policy");

    if (text_at(reload, "error")[0] && number_at(reload, "count") > 0)
        buf_printf(to, "reload     REFUSED at %s: %s\n", text_at(reload, "time"),
                   text_at(reload, "error"));
    else if (number_at(reload, "count") > 0)
        buf_printf(to, "reload     taken at %s%s%s\n", text_at(reload, "time"),
                   text_at(reload, "restart_needed")[0] ? "; after a restart: " : "",
                   text_at(reload, "restart_needed"));
    buf_printf(to, "policy     %s%s%s\n", text_at(policy, "state"),
               text_at(policy, "problem")[0] ? ": " : "", text_at(policy, "problem"));
}

static void print_text(const struct json *status, bool is_alive, struct buf *to)
{
    const struct json *spool = json_member(status, "spool");
    const struct json *collect = json_member(status, "collect");

    buf_printf(to, "agent      %s version %s, pid %lld, as of %s\n",
               is_alive ? "running," : "NOT RUNNING,", text_at(status, "version"),
               number_at(status, "pid"), text_at(status, "time"));
    print_hub(json_member(status, "hub"), to);
    print_identity(json_member(status, "identity"), to);
    print_ledger("metrics", "samples", json_member(spool, "metrics"), to);
    print_ledger("logs", "records", json_member(spool, "logs"), to);
    buf_printf(to, "collect    %lld series, %lld rounds, %lld errors, last round %.1f ms\n",
               number_at(collect, "series"), number_at(collect, "rounds"),
               number_at(collect, "errors"),
               json_get_f64(json_member(collect, "last_round_s"), 0) * 1000);
    print_inventory(json_member(status, "inventory"), to);
    print_logs(json_member(status, "logs"), to);
    print_uploads(json_member(status, "uploads"), to);
    print_life(status, to);
}

int cmd_read_status(const char *state_directory,
                    struct buf *content,
                    struct json **ret,
                    int *ret_exit)
{
    CLEANUP(buf_deinit) struct buf path = { 0 };
    struct json_error error;
    int r;

    buf_printf(&path, "%s/" AGENT_STATUS_FILE, state_directory);
    r = file_read(buf_text(&path), MAX_STATUS_BYTES, content);
    if (r == FILE_ABSENT)
        *ret_exit =
            cmd_fail(CLI_NOT_FOUND, "%s is not there: no agent runs with this state directory",
                     buf_text(&path));
    else if (r == FILE_DENIED)
        *ret_exit = cmd_fail(CLI_DENIED, "%s may not be read; try as root", buf_text(&path));
    else if (r || json_parse(ret, buf_span(content), &error))
        *ret_exit = cmd_fail(CLI_FAILURE, "%s is damaged", buf_text(&path));
    else
        return CMD_OK;
    return CMD_DONE;
}

int cmd_status(int argc, char **argv)
{
    static const struct cmd cmd = {
        .usage = "status [--state-dir D] [--json]",
        .help =
            "What the running agent says about itself. Exits with 3 when there is no status, with "
            "5 when the agent no longer runs or has no stream to the hub.",
        .has_json = true,
        .has_settings = true,
    };
    CLEANUP(cmd_line_deinit) struct cmd_line line = { 0 };
    CLEANUP(buf_deinit) struct buf content = { 0 }, text = { 0 };
    CLEANUP(json_freep) struct json *status = NULL;
    bool is_alive;
    int code = CLI_FAILURE;
    int r;

    if (cmd_parse(argc, argv, &cmd, &line, &code))
        return code;
    if (cmd_read_status(line.settings.state_dir, &content, &status, &code))
        return code;

    is_alive = cmd_status_is_alive(status);
    if (!line.is_json)
        print_text(status, is_alive, &text);
    r = cmd_print(line.is_json ? &content : &text);
    if (r)
        return r;
    if (!is_alive)
        return cmd_fail(CLI_UNAVAILABLE, "the agent does not run");
    return strcmp(text_at(json_member(status, "hub"), "state"), "connected") == 0 ? CLI_OK
                                                                                  : CLI_UNAVAILABLE;
}
