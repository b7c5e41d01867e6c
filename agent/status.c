/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/status.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/agent.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "common/json/json.h"
#include "common/rpc/rpc.h"

static void put_time(struct json_writer *json, const char *key, wall_us time)
{
    char text[TEXT_TIME_BYTES];

    json_key(json, key);
    if (time.us)
        json_text(json, text_of_time(time, text));
    else
        json_null(json);
}

static void put_hub(struct json_writer *json, const struct status_facts *facts)
{
    const struct uplink_status *hub = &facts->uplink;

    json_key(json, "hub");
    json_open_object(json);
    json_put_text(json, "target", hub->hub[0] ? hub->hub : facts->hub);
    json_put_bool(json, "insecure", facts->is_insecure);
    json_put_text(json, "state", uplink_state_name(hub->state));
    put_time(json, "since", hub->since);
    put_time(json, "next_attempt", hub->next_attempt);
    json_put_text(json, "peer", hub->peer);
    json_put_text(json, "version", hub->hub_version);
    json_put_u64(json, "attempts", hub->attempts);
    json_put_u64(json, "streams", hub->streams);
    json_put_u64(json, "unacknowledged_batches", hub->unacknowledged);
    put_time(json, "last_ack", hub->last_ack);
    json_put_f64(json, "clock_offset_s", (double) hub->clock_offset_us / 1e6);
    json_key(json, "last_error");
    if (hub->attempts > 0 && (hub->error_code != 0 || hub->error_message[0])) {
        json_open_object(json);
        json_put_text(json, "code", rpc_code_name(hub->error_code));
        json_put_text(json, "reason", hub->error_reason);
        json_put_text(json, "message", hub->error_message);
        json_put_bool(json, "needs_attention", hub->is_slow);
        json_close_object(json);
    } else {
        json_null(json);
    }
    json_close_object(json);
}

static void put_identity(struct json_writer *json, const struct keeper_status *identity)
{
    json_key(json, "identity");
    json_open_object(json);
    json_put_text(json, "state", keeper_state_name(identity->state));
    json_put_text(json, "remedy", keeper_state_remedy(identity->state));
    json_put_text(json, "problem", identity->problem);
    json_put_text(json, "agent_id", identity->agent_id);
    json_put_text(json, "serial", identity->serial);
    put_time(json, "not_before", identity->not_before);
    put_time(json, "not_after", identity->not_after);
    json_put_i64(json, "percent_left", identity->percent_left);
    put_time(json, "next_renewal", identity->next_renewal);
    put_time(json, "last_renewal", identity->last_renewal);
    put_time(json, "last_attempt", identity->last_attempt);
    json_put_u64(json, "failed_attempts", identity->n_failed);
    json_put_text(json, "last_reason", identity->last_reason);
    json_put_text(json, "last_message", identity->last_message);
    put_time(json, "grace_ends", identity->grace_ends);
    json_put_u64(json, "registry_generation", identity->generation);
    json_key(json, "clock_offset_s");
    if (identity->is_clock_known)
        json_f64(json, (double) identity->clock_offset_us / 1e6);
    else
        json_null(json);
    json_close_object(json);
}

static void put_ledger(struct json_writer *json, const struct spool_ledger *ledger)
{
    json_put_u64(json, "produced", ledger->produced);
    json_put_u64(json, "acknowledged", ledger->acknowledged);
    json_put_u64(json, "queued", ledger->queued);
    json_put_u64(json, "dropped", ledger->dropped[0]);
    json_key(json, "dropped_by_reason");
    json_open_object(json);
    for (unsigned i = 1; i < SPOOL_REASONS; i++)
        json_put_u64(json, spool_reason_name((enum spool_reason) i), ledger->dropped[i]);
    json_close_object(json);
    json_put_u64(json, "queued_batches", ledger->queued_batches);
    json_put_u64(json, "queued_bytes", ledger->queued_bytes);
    json_put_u64(json, "limit_bytes", ledger->limit_bytes);
    json_put_u64(json, "runs_waiting", ledger->runs);
    put_time(json, "oldest", ledger->oldest);
    json_put_u64(json, "damaged_segments", ledger->damaged_segments);
    json_put_bool(json, "in_memory", ledger->is_volatile);
}

/* The ledger of each signal; that of metrics once more under the names of old. */
static void put_spool(struct json_writer *json, const struct spool_ledger ledgers[SPOOL_SIGNALS])
{
    const struct spool_ledger *metrics = &ledgers[SPOOL_METRICS];

    json_key(json, "spool");
    json_open_object(json);
    json_put_u64(json, "produced_samples", metrics->produced);
    json_put_u64(json, "acknowledged_samples", metrics->acknowledged);
    json_put_u64(json, "queued_samples", metrics->queued);
    json_put_u64(json, "dropped_samples", metrics->dropped[0]);
    json_put_u64(json, "refused_samples", metrics->dropped[SPOOL_REFUSED]);
    json_put_u64(json, "queued_batches", metrics->queued_batches);
    json_put_u64(json, "queued_bytes", metrics->queued_bytes);
    json_put_u64(json, "limit_bytes", metrics->limit_bytes);
    for (unsigned i = 0; i < SPOOL_SIGNALS; i++) {
        json_key(json, spool_signal_name((enum spool_signal) i));
        json_open_object(json);
        put_ledger(json, &ledgers[i]);
        json_close_object(json);
    }
    json_close_object(json);
}

static void put_collect(struct json_writer *json, const struct collect_totals *collect)
{
    json_key(json, "collect");
    json_open_object(json);
    json_put_u64(json, "rounds", collect->rounds);
    json_put_u64(json, "series", collect->n_series);
    json_put_u64(json, "refused_series", collect->refused_series);
    json_put_u64(json, "errors", collect->errors);
    json_put_f64(json, "last_round_s", (double) collect->last_round_us / 1e6);
    json_close_object(json);
}

static void put_inventory(struct json_writer *json, const struct stock_status *stock)
{
    json_key(json, "inventory");
    json_open_object(json);
    put_time(json, "read", stock->read);
    put_time(json, "stored", stock->stored);
    put_time(json, "next", stock->next);
    json_put_u64(json, "revision", stock->revision);
    json_put_u64(json, "tables", stock->n_tables);
    json_put_u64(json, "rows", stock->n_rows);
    json_put_u64(json, "tables_not_read", stock->n_stale);
    json_put_u64(json, "tables_cut", stock->n_cut);
    json_put_f64(json, "duration_s", (double) stock->duration_us / 1e6);
    json_put_u64(json, "failures", stock->n_failed);
    json_put_text(json, "last_error", stock->error);
    json_close_object(json);
}

static void put_uploads(struct json_writer *json, const struct folder_status *folder)
{
    json_key(json, "uploads");
    json_open_object(json);
    json_put_u64(json, "done", folder->n_done);
    json_put_u64(json, "failed", folder->n_failed);
    json_put_u64(json, "bytes", folder->n_bytes);
    json_put_u64(json, "waiting", folder->n_waiting);
    put_time(json, "last_done", folder->last_done);
    json_put_text(json, "last_error", folder->error);
    json_close_object(json);
}

static void put_reload(struct json_writer *json, const struct status_reload *reload)
{
    json_key(json, "reload");
    json_open_object(json);
    json_put_u64(json, "count", reload->n);
    put_time(json, "time", reload->time);
    json_put_text(json, "error", reload->error);
    json_put_text(json, "restart_needed", reload->restart_needed);
    json_close_object(json);
}

static void put_policy(struct json_writer *json, const struct status_facts *facts)
{
    json_key(json, "policy");
    json_open_object(json);
    json_put_text(json, "file", facts->policy_file);
    json_put_text(json, "state", policy_state_name(facts->policy->state));
    json_put_text(json, "sha256", facts->policy->sha256);
    json_put_text(json, "problem", facts->policy->problem);
    json_close_object(json);
}

static void put_logs(struct json_writer *json, const struct logs_status *logs)
{
    json_key(json, "logs");
    json_open_object(json);
    json_put_u64(json, "files", logs->n_files);
    json_put_u64(json, "records", logs->n_records);
    json_put_u64(json, "bytes", logs->n_bytes);
    json_put_u64(json, "behind_bytes", logs->behind_bytes);
    json_put_u64(json, "filtered", logs->n_filtered);
    json_put_u64(json, "redacted", logs->n_redacted);
    json_put_u64(json, "parts", logs->n_parts);
    json_put_u64(json, "rotated", logs->n_rotated);
    json_put_u64(json, "truncated", logs->n_truncated);
    json_put_u64(json, "truncated_with_loss", logs->n_truncated_lost);
    json_put_u64(json, "kernel_lost", logs->n_kernel_lost);
    json_put_u64(json, "unreadable_files", logs->n_unreadable);
    json_put_bool(json, "is_blocked", logs->is_blocked);
    json_put_text(json, "journald", logs->journal_state);
    json_put_text(json, "kmsg", logs->kernel_state);
    json_put_text(json, "last_error", logs->error);
    json_close_object(json);
}

void status_print(const struct status_facts *facts, struct buf *to)
{
    struct json_writer json;

    json_begin(&json, to, true);
    json_open_object(&json);
    json_put_text(&json, "version", SENTINEL_VERSION);
    json_put_i64(&json, "pid", getpid());
    put_time(&json, "time", clock_wall());
    put_time(&json, "started", facts->started);
    json_put_f64(&json, "interval_s", (double) facts->interval_us / 1e6);
    json_put_text(&json, "settings_sha256", facts->settings_digest);
    put_reload(&json, facts->reload);
    put_policy(&json, facts);
    put_hub(&json, facts);
    if (!facts->is_insecure)
        put_identity(&json, &facts->identity);
    put_spool(&json, facts->spool);
    put_collect(&json, &facts->collect);
    put_inventory(&json, &facts->stock);
    put_uploads(&json, &facts->folder);
    put_logs(&json, &facts->logs);
    json_close_object(&json);
    buf_append_text(to, "\n");
}

static int write_file(const char *path, const struct buf *text)
{
    CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    size_t done = 0;

    if (fd < 0)
        return -errno;
    while (done < text->len) {
        ssize_t n = write(fd, text->data + done, text->len - done);

        if (n < 0 && errno != EINTR)
            return -errno;
        done += n > 0 ? (size_t) n : 0;
    }
    return 0;
}

int status_write(const char *directory, const struct status_facts *facts)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    char path[4096], beside[4096];
    int r;

    status_print(facts, &text);
    if (buf_failed(&text))
        return -ENOMEM;
    if (snprintf(path, sizeof(path), "%s/" AGENT_STATUS_FILE, directory) >= (int) sizeof(path) ||
        snprintf(beside, sizeof(beside), "%s/." AGENT_STATUS_FILE, directory) >=
            (int) sizeof(beside))
        return -ENAMETOOLONG;
    r = write_file(beside, &text);
    if (r)
        return r;
    return rename(beside, path) < 0 ? -errno : 0;
}
