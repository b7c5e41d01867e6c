/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "bench/metrics.h"
#include "bench/print.h"

/* ---- numbers ---- */

/* NaN: not known. */
struct report {
    double duration_s, samples_per_s, hub_cpu_s, own_cpu_s, per_core_s, wire_bytes, disk_bytes,
        resident_bytes, constant_share, varying_bytes, restart_ms, restart_first_ack_ms, tls_ratio;
    uint64_t ack_p50_us, ack_p99_us, ack_max_us;
    uint64_t acknowledged, refused, reconnects, throttles;
};

static void make_report(const struct metrics *metrics, struct report *ret)
{
    const uint64_t measured =
        metrics_samples(metrics, metrics->end.acknowledged - metrics->begin.acknowledged);
    struct histogram *acks = metrics_merge_acks(metrics);
    uint64_t sent = 0, sent_bytes = 0;

    *ret =
        (struct report){ .duration_s = (double) (metrics->end.at.us - metrics->begin.at.us) / 1e6 };
    for (size_t i = 0; i < fleet_n_parts(metrics->fleet); i++) {
        const struct fleet_counters *counters = fleet_counters(metrics->fleet, i);

        sent += atomic_load(&counters->sent);
        sent_bytes += atomic_load(&counters->sent_bytes);
        ret->refused += atomic_load(&counters->refused);
        ret->reconnects += atomic_load(&counters->reconnects);
        ret->throttles += atomic_load(&counters->throttles);
    }
    ret->acknowledged = metrics_samples(metrics, metrics_acknowledged(metrics));
    ret->samples_per_s = ret->duration_s > 0 ? (double) measured / ret->duration_s : NAN;
    ret->own_cpu_s = (double) (metrics->end.own_cpu_us - metrics->begin.own_cpu_us) / 1e6;
    ret->per_core_s = 1e6 / metrics_cpu_per_sample(metrics);
    ret->hub_cpu_s = (double) measured / ret->per_core_s;
    ret->wire_bytes =
        sent > 0 ? (double) sent_bytes / (double) metrics_samples(metrics, sent) : NAN;
    ret->disk_bytes = NAN;
    if (metrics->disk_before >= 0 && metrics->disk_after >= 0 && ret->acknowledged > 0)
        ret->disk_bytes =
            (double) (metrics->disk_after - metrics->disk_before) / (double) ret->acknowledged;
    ret->constant_share = metrics_constant_share(metrics);
    ret->varying_bytes = ret->disk_bytes / (1 - ret->constant_share);
    if (!isfinite(ret->varying_bytes))
        ret->varying_bytes = NAN;
    ret->restart_ms = metrics->restart_us < 0 ? NAN : (double) metrics->restart_us / 1e3;
    ret->restart_first_ack_ms =
        metrics->restart_first_ack_us < 0 ? NAN : (double) metrics->restart_first_ack_us / 1e3;
    ret->tls_ratio = metrics->tls_cpu_ratio > 0 ? metrics->tls_cpu_ratio : NAN;
    ret->resident_bytes = metrics->resident_bytes > 0 ? (double) metrics->resident_bytes : NAN;
    if (acks) {
        ret->ack_p50_us = histogram_quantile(acks, 0.50);
        ret->ack_p99_us = histogram_quantile(acks, 0.99);
        ret->ack_max_us = histogram_max(acks);
    }
    free(acks);
}

static void print_json(const struct metrics *metrics, const struct report *report)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    const struct options *options = &metrics->options;
    struct json_writer json;

    json_begin(&json, &text, true);
    json_open_object(&json);
    json_put_text(&json, "data", options->data ? options->data : "synthetic");
    json_put_bool(&json, "tls", !options->is_insecure);
    json_put_u64(&json, "agents", options->n_agents);
    json_put_u64(&json, "series", options->n_series);
    json_put_u64(&json, "batch_scrapes", options->n_batch_scrapes);
    json_put_u64(&json, "window", options->n_window);
    json_put_u64(&json, "rate", options->samples_per_s);
    print_json_number(&json, "duration_s", report->duration_s, 1000);
    print_json_number(&json, "samples_per_second", report->samples_per_s, 1);
    print_json_number(&json, "samples_per_hub_core_second", report->per_core_s, 1);
    print_json_number(&json, "hub_cpu_s", report->hub_cpu_s, 100);
    print_json_number(&json, "bench_cpu_s", report->own_cpu_s, 100);
    json_put_u64(&json, "ack_p50_us", report->ack_p50_us);
    json_put_u64(&json, "ack_p99_us", report->ack_p99_us);
    json_put_u64(&json, "ack_max_us", report->ack_max_us);
    print_json_number(&json, "wire_bytes_per_sample", report->wire_bytes, 1000);
    print_json_number(&json, "disk_bytes_per_sample", report->disk_bytes, 1000);
    print_json_number(&json, "constant_share", report->constant_share, 1000);
    print_json_number(&json, "disk_bytes_per_varying_sample", report->varying_bytes, 1000);
    print_json_number(&json, "restart_ms", report->restart_ms, 1);
    print_json_number(&json, "restart_first_ack_ms", report->restart_first_ack_ms, 1);
    print_json_number(&json, "tls_cpu_ratio", report->tls_ratio, 1000);
    print_json_number(&json, "hub_rss_bytes", report->resident_bytes, 1);
    json_put_u64(&json, "acknowledged", report->acknowledged);
    json_put_u64(&json, "refused", report->refused);
    json_put_u64(&json, "reconnects", report->reconnects);
    json_put_u64(&json, "throttles", report->throttles);
    json_put_bool(&json, "verified", metrics->was_verified);
    json_put_u64(&json, "verify_missing", metrics->verified.missing);
    json_put_u64(&json, "verify_double", metrics->verified.doubled);
    json_put_u64(&json, "verify_wrong", metrics->verified.wrong);
    json_put_u64(&json, "verify_unsent", metrics->verified.unsent);
    json_close_object(&json);
    printf("%s\n", buf_text(&text));
}

/* Of what only some runs are about. */
static void print_optional(const char *name, double value, int decimals, const char *unit)
{
    if (!isnan(value))
        print_line(name, value, decimals, unit);
}

static void print_text(const struct metrics *metrics, const struct report *report)
{
    const struct verify_result *verified = &metrics->verified;

    printf("%" PRIu64 " agents x %" PRIu64 " series, %s, %.1f s measured\n",
           metrics->options.n_agents, metrics->options.n_series,
           metrics->options.is_insecure ? "plaintext" : "mutual TLS", report->duration_s);
    if (metrics->options.data)
        printf("data: %s, %u series and %u instants recorded\n", metrics->options.data,
               metrics->data.replay.n_series, metrics->data.replay.n_rows);
    printf("\n");
    print_line("samples", report->samples_per_s, 0, "/s, acknowledged: on disk");
    print_line("samples per hub core", report->per_core_s, 0, "/s");
    print_line("hub CPU", report->hub_cpu_s, 2, "s");
    print_line("this program's CPU", report->own_cpu_s, 2, "s");
    print_line("acknowledgement p50", (double) report->ack_p50_us / 1e3, 2,
               "ms, from send to the ack that covers it");
    print_line("acknowledgement p99", (double) report->ack_p99_us / 1e3, 2, "ms");
    print_line("acknowledgement max", (double) report->ack_max_us / 1e3, 2, "ms");
    print_line("on the wire", report->wire_bytes, 2,
               "bytes per sample, messages as sent, before TLS");
    print_line("on the disk", report->disk_bytes, 2, "bytes per sample, growth of db/");
    print_line("constant series", report->constant_share * 100, 1, "% of all");
    print_line("on the disk, without them", report->varying_bytes, 2,
               "bytes per sample, as if constant ones took nothing");
    print_optional("restart after kill -9", report->restart_ms, 0, "ms until it serves");
    print_optional("  to the first ack", report->restart_first_ack_ms, 0,
                   "ms after the kill, back-off of the agents included");
    print_optional("TLS, hub CPU per sample", report->tls_ratio, 2, "times that of plaintext");
    print_line("hub memory", report->resident_bytes / 1048576, 1, "MiB resident");
    print_line("acknowledged", (double) report->acknowledged, 0, "samples in all");
    print_line("refused", (double) report->refused, 0, "batches");
    print_line("reconnects", (double) report->reconnects, 0, "");
    if (metrics->was_verified)
        printf("%-28s %14s all that was acknowledged is there, once, and nothing else\n",
               "verified", "yes");
    else if (metrics->options.verifies)
        printf("%-28s %14s %" PRIu64 " missing, %" PRIu64 " double, %" PRIu64 " wrong, %" PRIu64
               " never sent\n",
               "verified", "NO", verified->missing, verified->doubled, verified->wrong,
               verified->unsent);
}

void report_print(const struct metrics *metrics)
{
    struct report report;

    make_report(metrics, &report);
    if (metrics->options.is_json)
        print_json(metrics, &report);
    else
        print_text(metrics, &report);
}
