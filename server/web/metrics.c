/* SPDX-License-Identifier: Apache-2.0 */

/* /metrics: the hub's own figures, by the rows of metrics.tbl. */

#include <inttypes.h>
#include <stddef.h>

#include "common/base/usage.h"
#include "server/prom/prom.h"
#include "server/web/inside.h"

#define PREFIX "sentinel_hub_"

struct figures {
#define M(name, type, help) double name;
#include "server/web/metrics.tbl"
#undef M
};

static const struct row {
    const char *name;
    enum prom_type type;
    size_t offset; /* in struct figures */
    const char *help;
} rows[] = {
#define M(row_name, row_type, row_help) \
    { PREFIX #row_name, PROM_##row_type, offsetof(struct figures, row_name), (row_help) },
#include "server/web/metrics.tbl"
#undef M
};

static double seconds(int64_t us)
{
    return (double) us / 1e6;
}

static void fill_store(struct store *store, struct figures *to)
{
    struct store_stats stats = { 0 };

    store_get_stats(store, &stats);
    to->store_full = stats.is_full;
    to->store_failed = stats.has_failed;
    to->agents_known = (double) stats.n_agents;
    to->series_definitions = (double) stats.n_definitions;
    to->layouts = (double) stats.n_layouts;
    to->samples_stored_total = (double) stats.n_samples;
    to->batches_stored_total = (double) stats.n_batches;
    to->batches_duplicate_total = (double) stats.n_duplicates;
    to->commits_total = (double) stats.n_commits;
    to->commit_p50_seconds = seconds(stats.commit_p50_us);
    to->commit_p99_seconds = seconds(stats.commit_p99_us);
    to->journal_segments = (double) stats.n_segments;
    to->journal_damaged_chunks = (double) stats.n_damaged;
    to->journal_bytes = (double) stats.journal_bytes;
    to->days = (double) stats.n_days;
    to->days_bytes = (double) stats.day_bytes;
    to->days_gone_total = (double) stats.n_days_gone;
    to->sealed_blocks_total = (double) stats.n_sealed_blocks;
    to->sealed_samples_total = (double) stats.n_sealed_samples;
    to->sealed_bytes_total = (double) stats.n_sealed_bytes;
    to->seal_damaged_rows_total = (double) stats.n_seal_damaged;
    to->seal_seconds_total = seconds(stats.seal_busy_us);
    to->compacted_blocks_total = (double) stats.n_compacted;
    to->log_records_stored_total = (double) stats.n_log_records;
    to->log_bytes_stored_total = (double) stats.n_log_bytes;
    to->log_days = (double) stats.n_log_days;
    to->log_days_bytes = (double) stats.log_day_bytes;
    to->sealed_log_blocks_total = (double) stats.n_sealed_log_blocks;
    to->sealed_log_records_total = (double) stats.n_sealed_log_records;
    to->sealed_log_raw_bytes_total = (double) stats.n_sealed_log_raw_bytes;
    to->sealed_log_bytes_total = (double) stats.n_sealed_log_bytes;
    to->compacted_log_blocks_total = (double) stats.n_logs_compacted;
    to->rollup_minutes_bytes = (double) stats.rolled_1m_bytes;
    to->rollup_hours_bytes = (double) stats.rolled_1h_bytes;
    to->rollup_records_total = (double) stats.n_rolled;
    to->rollup_cpu_seconds_total = seconds(stats.roll_cpu_us);
    to->database_bytes = (double) stats.database_bytes;
    to->disk_free_bytes = (double) stats.disk_free_bytes;
}

static void fill_uploads(struct store *store, struct figures *to)
{
    struct store_object_stats stats;

    store_get_object_stats(store, &stats);
    to->uploads = (double) stats.n_uploads;
    to->uploads_unfinished = (double) stats.n_unfinished;
    to->uploads_content_bytes = (double) stats.content_bytes;
    to->uploads_finished_total = (double) stats.n_finished;
    to->uploads_shared_total = (double) stats.n_shared;
    to->uploads_received_bytes_total = (double) stats.n_bytes;
    to->uploads_refused_total = (double) stats.n_refused;
    to->uploads_expired_total = (double) stats.n_expired;
    to->uploads_retained_out_total = (double) stats.n_retained;
    to->uploads_damaged_total = (double) stats.n_damaged;
}

static void fill_audit(struct audit *audit, struct figures *to)
{
    struct audit_stats stats;
    struct audit_anchor anchor;

    if (!audit)
        return;
    audit_get_stats(audit, &stats);
    to->audit_entries_total = (double) stats.head;
    to->audit_left_out_total = (double) stats.n_left_out;
    to->audit_failed_total = (double) stats.n_failed;
    if (audit_get_anchor(audit, &anchor) == AUDIT_OK)
        to->audit_anchor_time_seconds = seconds(anchor.time.us);
}

static void fill_web(const struct web *web, struct figures *to)
{
    struct web_stats stats;

    web_get_stats(web, &stats);
    to->https_handshakes_failed_total = (double) stats.n_handshakes_failed;
    to->https_connections = (double) stats.n_connections;
    to->https_connections_accepted_total = (double) stats.n_accepted;
    to->https_connections_refused_total = (double) stats.n_refused;
    to->https_connections_delayed_total = (double) stats.n_delayed;
    to->https_timeouts_total = (double) stats.n_timeouts;
    to->https_requests_total = (double) stats.n_requests;
    to->https_requests_failed_total = (double) stats.n_failed;
}

static void fill_grpc(const struct rpc_accept_stats *from, struct figures *to)
{
    to->grpc_connections = (double) from->n_connections_now;
    to->grpc_handshakes = (double) from->n_handshakes_now;
    to->grpc_connections_accepted_total = (double) from->n_accepted;
    to->grpc_connections_delayed_total = (double) from->n_delayed;
    to->grpc_descriptors_exhausted_total = (double) from->n_no_descriptors;
    to->grpc_handshakes_failed_total = (double) rpc_accept_failed(from);
}

static void fill_remote_write(const struct web_remote_write *from, struct figures *to)
{
    to->remote_write_up = from->is_up;
    to->remote_write_samples_total = (double) from->n_samples;
    to->remote_write_requests_total = (double) from->n_requests;
    to->remote_write_bytes_total = (double) from->n_bytes;
    to->remote_write_failed_network_total = (double) from->n_failed_network;
    to->remote_write_failed_server_total = (double) from->n_failed_server;
    to->remote_write_failed_throttled_total = (double) from->n_failed_throttled;
    to->remote_write_failed_denied_total = (double) from->n_failed_denied;
    to->remote_write_dropped_bad_samples_total = (double) from->n_dropped_bad;
    to->remote_write_dropped_large_samples_total = (double) from->n_dropped_large;
    to->remote_write_dropped_other_samples_total = (double) from->n_dropped_other;
    to->remote_write_unreadable_rows_total = (double) from->n_unreadable;
    to->remote_write_lag_chunks = (double) from->n_lag_chunks;
    to->remote_write_lag_seconds = seconds(from->lag_us);
    to->remote_write_lost_chunks_total = (double) from->n_lost_chunks;
}

static void fill(const struct web *web, const struct web_status *status, struct figures *to)
{
    const struct web_options *options = &web->options;
    struct ingest_stats ingest = { 0 };

    fill_store(options->store, to);
    fill_uploads(options->store, to);
    fill_audit(options->audit, to);
    fill_web(web, to);
    fill_remote_write(&status->remote_write, to);
    ingest_get_stats(options->ingest, &ingest);
    to->agents_connected = ingest.n_agents;
    to->streams = ingest.n_streams;
    to->batches_refused_total = (double) ingest.n_refused;
    to->start_time_seconds = seconds(status->started.us);
    to->certificate_expiry_time_seconds = seconds(status->certificate_expires.us);
    to->certificates_expiring = (double) status->certificates_expiring;
    fill_grpc(&status->grpc, to);
    to->serving = atomic_load(&web->state) == WEB_SERVING;
    to->registry_generation = options->pki ? (double) pki_generation(options->pki) : 0;
    to->resident_memory_bytes = (double) usage_resident_bytes();
    to->cpu_seconds_total = seconds(usage_cpu_us());
}

static void put_info(struct buf *to, const struct web_status *status)
{
    prom_put_family(to, PREFIX "info", PROM_GAUGE, "Always 1; the labels say what runs.");
    buf_append_text(to, PREFIX "info{");
    prom_put_label(to, "security", status->security);
    buf_append_text(to, ",");
    prom_put_label(to, "version", SENTINEL_VERSION);
    buf_append_text(to, "} 1\n");
}

static void put_limits(struct buf *to, struct quota *quota)
{
    static const char refused[] = PREFIX "limits_refused_total";
    struct quota_stats stats;

    if (!quota)
        return;
    quota_get_stats(quota, &stats);
    prom_put_family(to, refused, PROM_COUNTER, "What limits by rate refused, by limit.");
    for (int i = 0; i < QUOTA_N_LIMITS; i++) {
        buf_printf(to, "%s{", refused);
        prom_put_label(to, "limit", quota_limit_name((enum quota_limit) i));
        buf_printf(to, "} %" PRIu64 "\n", stats.n_refused[i]);
    }
}

/* The families with labels. */
static void put_labelled(struct buf *to, const struct web *web, const struct web_status *status)
{
    static const char handshakes[] = PREFIX "grpc_handshakes_total";
    static const char refused[] = PREFIX "connections_refused_total";
    struct web_stats stats;

    web_get_stats(web, &stats);
    const struct {
        const char *listener, *reason;
        uint64_t n;
    } refusals[] = {
        { "grpc", "max_connections", status->grpc.n_refused_limit },
        { "grpc", "address", status->grpc.n_refused_address },
        { "https", "max_connections", stats.n_refused },
        { "https", "address", stats.n_refused_address },
    };

    prom_put_family(to, handshakes, PROM_COUNTER,
                    "Handshakes on the gRPC listener that ended, by how: finished, or why not.");
    for (int i = 0; i < RPC_N_HANDSHAKE_RESULTS; i++) {
        buf_printf(to, "%s{", handshakes);
        prom_put_label(to, "result", rpc_handshake_name((enum rpc_handshake_result) i));
        buf_printf(to, "} %" PRIu64 "\n", status->grpc.n_results[i]);
    }
    prom_put_family(to, refused, PROM_COUNTER,
                    "Connections that were closed at once: of the listener as many as are allowed, "
                    "or of the address.");
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        buf_printf(to, "%s{", refused);
        prom_put_label(to, "listener", refusals[i].listener);
        buf_append_text(to, ",");
        prom_put_label(to, "reason", refusals[i].reason);
        buf_printf(to, "} %" PRIu64 "\n", refusals[i].n);
    }
}

int web_make_metrics(struct web_job *job)
{
    const struct web_options *options = &job->web->options;
    struct figures figures = { 0 };
    struct web_status status = { .security = "" };

    options->get_status(options->ctx, &status);
    fill(job->web, &status, &figures);
    job->content_type = "text/plain; version=0.0.4; charset=utf-8";
    put_info(&job->body, &status);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const double *value = (const void *) ((const char *) &figures + rows[i].offset);

        prom_put_family(&job->body, rows[i].name, rows[i].type, rows[i].help);
        buf_printf(&job->body, "%s ", rows[i].name);
        prom_put_value(&job->body, *value);
        buf_append_text(&job->body, "\n");
    }
    put_labelled(&job->body, job->web, &status);
    put_limits(&job->body, options->quota);
    job->is_last = true;
    return 0;
}
