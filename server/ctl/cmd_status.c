/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/clock.h"
#include "sentinel/admin/v1/admin.pb-c.h"
#include "server/ctl/convert.h"

#define GET_STATUS "/sentinel.admin.v1.AdminService/GetStatus"

typedef Sentinel__Admin__V1__GetStatusResponse status_message;

static void status_json(const status_message *status)
{
    struct json_writer json;
    struct buf out = { 0 };

    json_begin(&json, &out, true);
    json_open_object(&json);
    json_put_text(&json, "version", status->version);
    json_put_text(&json, "state", status->state);
    json_put_text(&json, "security", status->security);
    json_put_i64(&json, "started_us", convert_time_us(status->started));
    json_put_i64(&json, "now_us", convert_time_us(status->now));
    json_put_u64(&json, "agents_known", status->agents_known);
    json_put_u64(&json, "agents_connected", status->agents_connected);
    json_put_u64(&json, "streams", status->streams);
    json_put_u64(&json, "samples_stored", status->samples_stored);
    json_put_u64(&json, "batches_stored", status->batches_stored);
    json_put_u64(&json, "batches_duplicate", status->batches_duplicate);
    json_put_u64(&json, "batches_refused", status->batches_refused);
    json_put_u64(&json, "series_definitions", status->series_definitions);
    json_put_u64(&json, "layouts", status->layouts);
    json_put_u64(&json, "database_bytes", status->database_bytes);
    json_put_u64(&json, "disk_free_bytes", status->disk_free_bytes);
    json_put_u64(&json, "resident_bytes", status->resident_bytes);
    json_put_i64(&json, "cpu_time_us", convert_duration_us(status->cpu_time));
    json_put_i64(&json, "commit_p50_us", convert_duration_us(status->commit_p50));
    json_put_i64(&json, "commit_p99_us", convert_duration_us(status->commit_p99));
    json_put_u64(&json, "handshakes_failed", status->handshakes_failed);
    json_put_u64(&json, "connections", status->connections);
    json_put_u64(&json, "handshakes_under_way", status->handshakes_under_way);
    json_put_u64(&json, "connections_refused", status->connections_refused);
    json_put_u64(&json, "connections_delayed", status->connections_delayed);
    json_key(&json, "handshakes");
    json_open_object(&json);
    for (size_t i = 0; i < status->n_handshakes; i++)
        json_put_u64(&json, status->handshakes[i]->result, status->handshakes[i]->count);
    json_close_object(&json);
    json_put_u64(&json, "audit_entries", status->audit_entries);
    json_put_u64(&json, "audit_anchored", status->audit_anchored);
    json_put_i64(&json, "audit_anchor_time_us", convert_time_us(status->audit_anchor_time));
    json_put_u64(&json, "audit_left_out", status->audit_left_out);
    json_put_u64(&json, "audit_failed", status->audit_failed);
    json_put_u64(&json, "limits_refused", status->limits_refused);
    json_put_i64(&json, "certificate_expires_us", convert_time_us(status->certificate_expires));
    json_put_u64(&json, "certificates_expiring", status->certificates_expiring);
    json_put_u64(&json, "registry_generation", status->registry_generation);
    json_put_i64(&json, "settings_loaded_us", convert_time_us(status->settings_loaded));
    json_put_text(&json, "settings_sha256", status->settings_sha256);
    json_close_object(&json);
    printf("%s\n", buf_text(&out));
    buf_deinit(&out);
}

static void status_people(struct ctl *ctl, const status_message *status)
{
    int64_t now_us = clock_wall().us;
    struct table table;

    table_begin(&table, (const char *const[]){ "hub", status->state, NULL });
#define FACT(name, ...) (table_add(&table, name), table_printf(&table, __VA_ARGS__))
    FACT("version", "%s", status->version);
    FACT("security", "%s", status->security);
    FACT("started", "%s", format_ago(ctl, convert_time_us(status->started), now_us));
    FACT("agents", "%u known, %u connected, %u streams", status->agents_known,
         status->agents_connected, status->streams);
    FACT("stored", "%s samples in %s batches", format_number(ctl, (double) status->samples_stored),
         format_number(ctl, (double) status->batches_stored));
    FACT("duplicates", "%llu batches, acknowledged again and not stored",
         (unsigned long long) status->batches_duplicate);
    FACT("refused", "%llu batches and hellos", (unsigned long long) status->batches_refused);
    FACT("series", "%llu definitions, %llu layouts",
         (unsigned long long) status->series_definitions, (unsigned long long) status->layouts);
    FACT("database", "%s", format_value(ctl, (double) status->database_bytes, "By"));
    FACT("disk free", "%s", format_value(ctl, (double) status->disk_free_bytes, "By"));
    FACT("memory", "%s resident", format_value(ctl, (double) status->resident_bytes, "By"));
    FACT("cpu time", "%.1f s", (double) convert_duration_us(status->cpu_time) / 1e6);
    FACT("audit", "%llu entries, %llu of them signed; %llu only counted",
         (unsigned long long) status->audit_entries, (unsigned long long) status->audit_anchored,
         (unsigned long long) status->audit_left_out);
    FACT("limits", "%llu refusals", (unsigned long long) status->limits_refused);
    FACT("commit", "p50 %lld us, p99 %lld us", (long long) convert_duration_us(status->commit_p50),
         (long long) convert_duration_us(status->commit_p99));
    FACT("connections", "%llu open, %llu in a handshake, %llu refused, %llu held back",
         (unsigned long long) status->connections,
         (unsigned long long) status->handshakes_under_way,
         (unsigned long long) status->connections_refused,
         (unsigned long long) status->connections_delayed);
    FACT("handshakes", "%llu failed", (unsigned long long) status->handshakes_failed);
    FACT("certificate", "expires %s",
         format_ago(ctl, convert_time_us(status->certificate_expires), now_us));
    if (status->certificates_expiring > 0)
        FACT("expiring", "%llu certificates of agents and operators end soon; see `certs list`",
             (unsigned long long) status->certificates_expiring);
    FACT("settings", "loaded %s, %.12s",
         format_ago(ctl, convert_time_us(status->settings_loaded), now_us),
         status->settings_sha256);
#undef FACT
    table_end(&table, stdout);
}

int cmd_status(struct ctl *ctl)
{
    Sentinel__Admin__V1__GetStatusRequest request = SENTINEL__ADMIN__V1__GET_STATUS_REQUEST__INIT;
    ProtobufCMessage *message;
    int r;

    r = ctl_call(ctl, GET_STATUS, &request.base, &message);
    if (r)
        return r;
    if (ctl->is_json)
        status_json((const void *) message);
    else
        status_people(ctl, (const void *) message);
    return CTL_OK;
}
