/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the audit of a day costs, by hand:
 *
 *   ninja -C .build/plain tests/unit/bench_audit && .build/plain/tests/unit/bench_audit
 *
 * usage: bench_audit [--agents N] [--connections N]
 *
 * The day of a fleet (10,000 agents): each opens four connections (itself restarted, the network
 * cut, the hub restarted, a new certificate), whose first call is an entry; each renews its
 * certificate every 3.85 days (life of 7, at 55 %), in one entry; one machine a minute is refused;
 * 500 known ones are denied something; operators do 2,000 things; 200 machines are enrolled, in two
 * entries; 24 lists of revoked certificates; the head is signed every ten minutes. With names,
 * digests and fields as the hub writes them.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/base/ensure.h"
#include "common/base/file.h"
#include "common/base/rand.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "server/audit/audit.h"
#include "server/store/store.h"

#define DAY_US (INT64_C(86400) * 1000000)
#define MB 1e6

static char state[64], database[128], directory[128];
static struct store *store;
static struct audit *audit;
static struct rand random_source;
static int64_t now_us = 20000 * DAY_US;
static uint64_t n_agents = 10000, n_connections = 4;

static wall_us fake_wall(void)
{
    return (wall_us){ now_us };
}

/* Notes have their rates by the minute of this one. */
static mono_us fake_mono(void)
{
    return (mono_us){ now_us };
}

static int64_t kernel_us(clockid_t clock)
{
    struct timespec at;

    clock_gettime(clock, &at);
    return at.tv_sec * INT64_C(1000000) + at.tv_nsec / 1000;
}

static uint64_t below(uint64_t n)
{
    return rand_u64(&random_source) % n;
}

static void fill(uint8_t *to, size_t len)
{
    for (size_t i = 0; i < len; i++)
        to[i] = (uint8_t) below(256);
}

static int sign(void *ctx, struct span data, struct buf *to)
{
    uint8_t mac[CRYPTO_SHA256_BYTES];

    (void) ctx;
    crypto_hmac_sha256(span_of_text("key"), data, mac);
    buf_append(to, mac, sizeof(mac));
    buf_append(to, mac, sizeof(mac)); /* an ECDSA signature has about 70 bytes */
    return 0;
}

static bool check(void *ctx, struct span data, struct span signature)
{
    uint8_t mac[CRYPTO_SHA256_BYTES];

    (void) ctx;
    crypto_hmac_sha256(span_of_text("key"), data, mac);
    return span_equal(span_of(signature.data, 32), span_of(mac, sizeof(mac)));
}

/* ---- entries ---- */

struct texts {
    char actor[80], source[64], object[96], correlation[40], digest[65], other[65];
};

static void make_texts(struct texts *texts, uint64_t agent)
{
    uint8_t bytes[32];

    snprintf(texts->actor, sizeof(texts->actor), "agent/web-%05" PRIu64 ".dc3.example.com", agent);
    snprintf(texts->source, sizeof(texts->source), "10.%u.%u.%u:%u", (unsigned) (agent >> 16 & 255),
             (unsigned) (agent >> 8 & 255), (unsigned) (agent & 255),
             (unsigned) (32768 + below(28000)));
    fill(bytes, sizeof(bytes));
    text_of_hex(bytes, sizeof(bytes), texts->digest);
    fill(bytes, sizeof(bytes));
    text_of_hex(bytes, sizeof(bytes), texts->other);
    fill(bytes, sizeof(bytes));
    text_of_hex(bytes, 8, texts->correlation);
    snprintf(texts->object, sizeof(texts->object), "certificate/%s", texts->digest);
}

static void say(enum audit_event event, bool is_note, const struct audit_field *fields, size_t n)
{
    struct texts texts;
    struct audit_field mine[4];

    make_texts(&texts, below(n_agents));
    for (size_t i = 0; i < n; i++) {
        mine[i] = fields[i];
        if (!mine[i].value)
            mine[i].value = texts.other;
    }
    const struct audit_entry entry = { .event = event,
                                       .actor = texts.actor,
                                       .source = texts.source,
                                       .object = texts.object,
                                       .correlation = texts.correlation,
                                       .fields = mine,
                                       .n_fields = n };
    if (is_note)
        audit_note(audit, &entry);
    else
        ensure(audit_put(audit, &entry) == 0);
}

/* So many of a kind in the day, spread evenly. */
struct kind {
    enum audit_event event;
    bool is_note;
    struct audit_field fields[3];
    size_t n_fields;
    uint64_t n, n_done;
};

static uint64_t write_day(void)
{
    struct kind kinds[] = {
        { AUDIT_AUTH_OK, true, { { "role", "agent" } }, 1, n_agents * n_connections, 0 },
        { AUDIT_RENEWED,
          false,
          { { "renews", NULL },
            { "serial", "4667ef18323901a54dbf22e80e76f714" },
            { "ends", "2026-12-05T10:00:00.000Z" } },
          3,
          n_agents * 100 / 385,
          0 },
        { AUDIT_AUTH_FAILED, true, { { "reason", "CERTIFICATE_EXPIRED" } }, 1, 1440, 0 },
        { AUDIT_DENIED,
          true,
          { { "method", "/sentinel.admin.v1.AdminService/GetStatus" }, { "role", "agent" } },
          2,
          500,
          0 },
        { AUDIT_AGENT_LABELLED, false, { { "set", "site=dc3" } }, 1, 2000, 0 },
        { AUDIT_TOKEN_USED, false, { { "left", "37" } }, 1, 200, 0 },
        { AUDIT_ENROLLED, false, { { "sha256", NULL }, { "token", "k7mq2h5x" } }, 2, 200, 0 },
        { AUDIT_CRL_SIGNED, false, { { "number", "4711" }, { "revoked", "12" } }, 2, 24, 0 },
    };
    const uint64_t n_steps = 1440;
    int64_t begin_us = now_us;
    uint64_t n = 0;

    for (uint64_t step = 1; step <= n_steps; step++) {
        now_us = begin_us + (int64_t) step * (DAY_US / (int64_t) n_steps) - 1;
        for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
            struct kind *kind = &kinds[i];

            for (; kind->n_done < kind->n * step / n_steps; kind->n_done++, n++)
                say(kind->event, kind->is_note, kind->fields, kind->n_fields);
        }
        ensure(audit_tick(audit, (wall_us){ now_us }) == 0);
    }
    return n;
}

/* ---- what it takes ---- */

static double file_mb(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (double) st.st_size / MB : 0;
}

static bool add_bytes(void *ctx, struct span key, struct span value)
{
    uint64_t *n = ctx;

    *n += key.len + value.len;
    return true;
}

static void verify(const char *what)
{
    struct audit_verdict verdict;
    int64_t wall = kernel_us(CLOCK_MONOTONIC), cpu = kernel_us(CLOCK_PROCESS_CPUTIME_ID);
    int r = audit_verify(audit, NULL, 0, check, NULL, &verdict);

    printf("verify %-6s %.3f s, CPU %.3f s: %s, %" PRIu64 " entries, %" PRIu64 " anchors\n", what,
           (double) (kernel_us(CLOCK_MONOTONIC) - wall) / 1e6,
           (double) (kernel_us(CLOCK_PROCESS_CPUTIME_ID) - cpu) / 1e6,
           r == 0 ? "whole" : verdict.why, verdict.n_entries, verdict.n_anchors);
}

static void open_all(void)
{
    struct store_why why;
    const struct store_options options = { .directory = database,
                                           .is_shared = true,
                                           .allow_any_filesystem = true };
    const struct audit_options audited = {
        .store = store, .directory = directory, .sign = sign, .limits = { .hot_us = DAY_US }
    };

    snprintf(state, sizeof(state), "bench_audit.XXXXXX");
    ensure(mkdtemp(state));
    snprintf(database, sizeof(database), "%s/db", state);
    snprintf(directory, sizeof(directory), "%s/audit", state);
    ensure(file_make_directories(database, 0700) == 0);
    ensure(file_make_directories(directory, 0700) == 0);
    ensure(store_create(database) == 0);
    ensure(store_open(&store, &options, &why) == 0);
    struct audit_options mine = audited;
    mine.store = store;
    ensure(audit_open(&audit, &mine) == 0);
}

static void read_args(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--agents") == 0)
            ensure(text_to_u64(argv[i + 1], &n_agents) == 0 && n_agents > 0);
        else if (strcmp(argv[i], "--connections") == 0)
            ensure(text_to_u64(argv[i + 1], &n_connections) == 0);
    }
}

int main(int argc, char **argv)
{
    char data[256], day[256];
    uint64_t n_bytes = 0, n;
    struct audit_stats stats;

    read_args(argc, argv);
    rand_init(&random_source, 1);
    clock_set_source(fake_wall, fake_mono);
    open_all();
    snprintf(data, sizeof(data), "%s/state/data.mdb", database);
    double before = file_mb(data);
    int64_t wall = kernel_us(CLOCK_MONOTONIC), cpu = kernel_us(CLOCK_PROCESS_CPUTIME_ID);
    n = write_day();
    printf("written: %" PRIu64 " entries and anchors in %.1f s, CPU %.2f s\n", n,
           (double) (kernel_us(CLOCK_MONOTONIC) - wall) / 1e6,
           (double) (kernel_us(CLOCK_PROCESS_CPUTIME_ID) - cpu) / 1e6);
    audit_get_stats(audit, &stats);
    ensure(store_state_each(store, STORE_TABLE_AUDIT, add_bytes, &n_bytes) == 0);
    printf("hot:     %.1f MB of the database's file, %.1f MB of keys and values, %" PRIu64
           " entries, %" PRIu64 " left out\n",
           file_mb(data) - before, (double) n_bytes / MB, stats.head, stats.n_left_out);
    verify("hot");
    now_us += 3 * DAY_US;
    say(AUDIT_HUB_STARTED, false, NULL, 0);
    wall = kernel_us(CLOCK_MONOTONIC);
    ensure(audit_tick(audit, (wall_us){ now_us }) == 0);
    snprintf(day, sizeof(day), "%s/20241004", directory);
    printf("closed:  %.1f MB, in %.2f s\n", file_mb(day),
           (double) (kernel_us(CLOCK_MONOTONIC) - wall) / 1e6);
    verify("closed");
    audit_close(audit);
    store_close(store);
    ensure(file_remove_tree(state) == 0);
    return 0;
}
