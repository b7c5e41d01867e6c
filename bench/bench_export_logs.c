/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The command `export-logs`: the lines that `logs` would send, as OTLP for other systems, encoded
 * beforehand. Little-endian, on stdout, a request each:
 *
 *   u32 agent   u32 lines   u32 length   ExportLogsServiceRequest
 *
 * At the end, on stderr, {"lines": N, "raw_bytes": N}: the bytes of the bodies.
 */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "bench/metrics.h"
#include "common/wire/wire.h"

/* Numbers of fields, all of length-delimited ones unless said otherwise. */
enum { REQUEST_RESOURCE_LOGS = 1, RESOURCE_LOGS_RESOURCE = 1, RESOURCE_LOGS_SCOPE = 2 };
enum { RESOURCE_ATTRIBUTES = 1, PAIR_KEY = 1, PAIR_VALUE = 2, ANY_STRING = 1, SCOPE_RECORDS = 2 };
enum { RECORD_TIME = 1 /* fixed64 */, RECORD_SEVERITY = 2 /* varint */, RECORD_BODY = 5 };

struct export_logs {
    const char *agents, *lines, *batch_lines, *seed;
    bool wants_help;
    uint64_t n_agents, n_lines, n_batch_lines, seed_number;
    uint64_t n_sent, n_raw_bytes;
    struct lines grammar;
    struct buf batch, resource, scope, whole, request;
};

static void put_varint(struct buf *to, uint64_t value)
{
    uint8_t bytes[10];
    size_t n = 0;

    for (; value >= 0x80; value >>= 7)
        bytes[n++] = (uint8_t) (value | 0x80);
    bytes[n++] = (uint8_t) value;
    buf_append(to, bytes, n);
}

static size_t varint_bytes(uint64_t value)
{
    size_t n = 1;

    while (value >>= 7)
        n++;
    return n;
}

static void put_head(struct buf *to, uint32_t field, size_t len)
{
    put_varint(to, field << 3 | 2);
    put_varint(to, len);
}

static void put_bytes(struct buf *to, uint32_t field, struct span bytes)
{
    put_head(to, field, bytes.len);
    buf_append_span(to, bytes);
}

static void put_attribute(struct buf *to, const char *key, struct span value)
{
    const size_t any_bytes = 1 + varint_bytes(value.len) + value.len;
    const struct span name = span_of_text(key);

    put_head(to, RESOURCE_ATTRIBUTES,
             1 + varint_bytes(name.len) + name.len + 1 + varint_bytes(any_bytes) + any_bytes);
    put_bytes(to, PAIR_KEY, name);
    put_head(to, PAIR_VALUE, any_bytes);
    put_bytes(to, ANY_STRING, value);
}

static void put_record(struct buf *to, const struct wire_log_record *record)
{
    const uint64_t time_ns = (uint64_t) record->time_us * 1000;
    const size_t any_bytes = 1 + varint_bytes(record->body.len) + record->body.len;

    put_head(to, SCOPE_RECORDS, 1 + 8 + 1 + 1 + 1 + varint_bytes(any_bytes) + any_bytes);
    put_varint(to, RECORD_TIME << 3 | 1);
    buf_append(to, &time_ns, sizeof(time_ns));
    put_varint(to, RECORD_SEVERITY << 3);
    put_varint(to, record->severity);
    put_head(to, RECORD_BODY, any_bytes);
    put_bytes(to, ANY_STRING, record->body);
}

/* The batch of Sentinel's stream as a request of OTLP. */
static int encode(struct export_logs *export, uint32_t agent, uint64_t sequence)
{
    struct wire_log_record record;
    struct wire_problem problem;
    struct wire_logs logs;
    char host[32];

    export->n_raw_bytes += lines_batch(&export->grammar, agent, sequence, &export->batch);
    export->n_sent += export->n_batch_lines;
    buf_clear(&export->resource);
    buf_clear(&export->scope);
    buf_clear(&export->whole);
    buf_clear(&export->request);
    if (buf_failed(&export->batch) || wire_logs_open(buf_span(&export->batch), &logs, &problem))
        return bench_say(BENCH_FAILED, "out of memory");
    (void) snprintf(host, sizeof(host), "bench-%" PRIu32, agent);
    put_attribute(&export->resource, "host.name", span_of_text(host));
    put_attribute(&export->resource, "log.file.path", logs.source_name);
    for (size_t i = 0; i < logs.n_records; i++) {
        if (wire_logs_next(&logs, &record, &problem))
            return bench_say(BENCH_FAILED, "a line of our own is unreadable: %s",
                             problem.description);
        put_record(&export->scope, &record);
    }
    put_bytes(&export->whole, RESOURCE_LOGS_RESOURCE, buf_span(&export->resource));
    put_bytes(&export->whole, RESOURCE_LOGS_SCOPE, buf_span(&export->scope));
    put_bytes(&export->request, REQUEST_RESOURCE_LOGS, buf_span(&export->whole));
    return buf_failed(&export->resource) || buf_failed(&export->scope) ||
                   buf_failed(&export->whole) || buf_failed(&export->request)
               ? bench_say(BENCH_FAILED, "out of memory")
               : BENCH_OK;
}

static int put_request(struct export_logs *export, uint32_t agent)
{
    const uint32_t head[3] = { agent, (uint32_t) export->n_batch_lines,
                               (uint32_t) export->request.len };

    if (fwrite(head, sizeof(head), 1, stdout) == 1 &&
        fwrite(export->request.data, export->request.len, 1, stdout) == 1)
        return BENCH_OK;
    return bench_say(BENCH_FAILED, "cannot write: %s", strerror(errno));
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are written as they lie");

static int run(struct export_logs *export)
{
    const uint64_t n_batches =
        (export->n_lines + export->n_batch_lines - 1) / export->n_batch_lines;
    const int64_t now_us = clock_wall().us;
    int exit_code = BENCH_OK;

    export->grammar = (struct lines){ .seed = export->seed_number,
                                      .batch_lines = (uint32_t) export->n_batch_lines,
                                      .first_us = now_us - now_us % 1000000,
                                      .interval_us = 100 };
    for (uint64_t sequence = 1; sequence <= n_batches; sequence++) {
        for (uint32_t agent = 0; agent < export->n_agents && exit_code == BENCH_OK; agent++) {
            exit_code = encode(export, agent, sequence);
            if (exit_code == BENCH_OK)
                exit_code = put_request(export, agent);
        }
        if (exit_code == BENCH_OK && bench_is_interrupted())
            exit_code = bench_say(BENCH_FAILED, "interrupted");
        if (exit_code != BENCH_OK)
            break;
    }
    return exit_code;
}

static struct export_logs given = { .n_agents = 40,
                                    .n_lines = 250000,
                                    .n_batch_lines = 500,
                                    .seed_number = 1 };

static const struct conf_option rows[] = {
    { .flag = "--agents", .metavar = "N", .value = &given.agents, .help = "resources; 40" },
    { .flag = "--lines", .metavar = "N", .value = &given.lines, .help = "of each; 250000" },
    { .flag = "--batch-lines",
      .metavar = "N",
      .value = &given.batch_lines,
      .help = "lines in a request; 500" },
    { .flag = "--seed", .metavar = "N", .value = &given.seed, .help = "of the lines; 1" },
    { .flag = "--help", .is_set = &given.wants_help, .help = "this text" },
    { .flag = "-h", .is_set = &given.wants_help },
    { .flag = NULL },
};

int cmd_export_logs(int argc, char **argv)
{
    struct export_logs *export = &given;
    int exit_code = options_read_flags(argc, argv, rows, &given.wants_help,
                                       "Writes the lines of `logs` as OTLP requests, for "
                                       "bench/peers.\n\nExample:\n  sentinel-bench export-logs "
                                       "--agents 40 >payloads\n");

    if (exit_code >= 0)
        return exit_code;
    exit_code = options_read_count("--agents", export->agents, 1, 10000, &export->n_agents);
    if (exit_code == BENCH_OK)
        exit_code = options_read_count("--batch-lines", export->batch_lines, 1, LINES_MAX_BATCH,
                                       &export->n_batch_lines);
    if (exit_code == BENCH_OK)
        exit_code = options_read_count("--lines", export->lines, 1, 30000000, &export->n_lines);
    if (exit_code == BENCH_OK)
        exit_code = options_read_count("--seed", export->seed, 0, UINT64_MAX, &export->seed_number);
    if (exit_code == BENCH_OK)
        exit_code = run(export);
    if (exit_code == BENCH_OK)
        fprintf(stderr, "{\"lines\": %" PRIu64 ", \"raw_bytes\": %" PRIu64 "}\n", export->n_sent,
                export->n_raw_bytes);
    buf_deinit(&export->batch);
    buf_deinit(&export->resource);
    buf_deinit(&export->scope);
    buf_deinit(&export->whole);
    buf_deinit(&export->request);
    return fflush(stdout) ? BENCH_FAILED : exit_code;
}
