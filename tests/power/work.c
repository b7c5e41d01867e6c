/* SPDX-License-Identifier: Apache-2.0 */
#include "work.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/fault.h"

#define TELL_BYTES 100

void work_fail(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

void work_need(const char *what, int r)
{
    if (r == STORE_STOPPED || r < 0) {
        fprintf(stderr, "%s: %d\n", what, r);
        exit(WORK_EXIT_FAILED);
    }
    if (r)
        work_fail("%s: %d", what, r);
}

/* One write: whole or not at all. */
void work_tell(struct work *work, const char *format, ...)
{
    char line[TELL_BYTES];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (write(work->told_fd, line, (size_t) n) != n)
        work_fail("cannot tell: %s", line);
}

static void read_line(struct work_told *told, const char *line)
{
    unsigned agent, number, layouts[WORK_LAYOUTS];
    unsigned long long sequence;
    int day;

    if (sscanf(line, "B %d", &day) == 1) {
        told->has_base = true;
        told->base_day = day;
    } else if (line[0] == 'C') {
        told->is_created = true;
    } else if (sscanf(line, "I %u %u %u %u", &agent, &number, &layouts[0], &layouts[1]) == 4) {
        told->is_interned[agent] = true;
        told->agents[agent] = number;
        told->layouts[0] = layouts[0];
        told->layouts[1] = layouts[1];
    } else if (sscanf(line, "A %u %llu", &agent, &sequence) == 2) {
        if (told->acked[agent] < sequence)
            told->acked[agent] = sequence;
    } else if (sscanf(line, "U %u %llu", &number, &sequence) == 2 && number < WORK_UPLOADS) {
        told->uploaded[number] = sequence;
    } else if (sscanf(line, "F %u", &number) == 1 && number < WORK_UPLOADS) {
        told->is_finished[number] = true;
    } else if (sscanf(line, "V %u %llu", &agent, &sequence) == 2 && agent < WORK_AGENTS) {
        told->revisions[agent] = sequence;
    } else if (sscanf(line, "R %d", &day) == 1) {
        told->may_go = day;
    } else if (sscanf(line, "G %d", &day) == 1) {
        told->gone = day;
    } else {
        work_fail("what was told makes no sense: %s", line);
    }
}

void work_read_told(const char *path, struct work_told *ret)
{
    FILE *file = fopen(path, "re");
    char line[TELL_BYTES];

    *ret = (struct work_told){ .may_go = INT32_MIN, .gone = INT32_MIN };
    if (!file)
        return; /* cut before anything was told */
    while (fgets(line, sizeof(line), file))
        read_line(ret, line);
    fclose(file);
}

static void on_fatal(void *ctx)
{
    (void) ctx;
    fputs("the store failed\n", stderr);
}

int work_open(struct work *work, const char *directory)
{
    struct store_options options = {
        .directory = directory,
        .segment_bytes = 128 << 10,
        .journal_bytes = 512 << 10,
        .queue_bytes = 8 << 20,
        .full_percent = 100,
        .allow_any_filesystem = true,
        .on_fatal = on_fatal,
    };
    struct store_why why;

    return store_open(&work->store, &options, &why);
}

/* ---- waiting ---- */

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool is_done;
    int r;
};

static void wake(struct waiter *waiter, int r)
{
    pthread_mutex_lock(&waiter->lock);
    waiter->is_done = true;
    waiter->r = r;
    pthread_cond_signal(&waiter->cond);
    pthread_mutex_unlock(&waiter->lock);
}

static int await(struct waiter *waiter)
{
    pthread_mutex_lock(&waiter->lock);
    while (!waiter->is_done)
        pthread_cond_wait(&waiter->cond, &waiter->lock);
    pthread_mutex_unlock(&waiter->lock);
    return waiter->r;
}

/* ---- names ---- */

struct interning {
    struct store_intern request;
    struct waiter waiter;
};

static void on_interned(struct store_intern *request, int r)
{
    wake(&((struct interning *) (void *) request)->waiter, r);
}

static void intern(struct store *store, struct store_intern request, uint32_t *ret_layout)
{
    struct interning interning = {
        .request = request,
        .waiter = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER },
    };
    int r;

    interning.request.done = on_interned;
    r = store_intern(store, &interning.request);
    if (r == STORE_QUEUED)
        r = await(&interning.waiter);
    work_need("intern", r);
    *ret_layout = interning.request.ret_layout;
}

static uint32_t intern_layout(struct store *store, uint32_t layout)
{
    static char names[WORK_COLUMNS][32];
    struct store_attribute attribute = { "layout", layout ? "b" : "a" };
    struct store_definition definitions[WORK_COLUMNS];
    uint32_t ids[WORK_COLUMNS], n = work_n_columns(layout), made;

    for (uint32_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof(names[i]), "power.metric.%02u", i);
        definitions[i] = (struct store_definition){ .name = names[i],
                                                    .unit = "1",
                                                    .kind = i % 3 ? STORE_GAUGE : STORE_COUNTER,
                                                    .attributes = &attribute,
                                                    .n_attributes = 1 };
    }
    intern(store,
           (struct store_intern){ .definitions = definitions, .n_definitions = n, .ret_ids = ids },
           &made);
    intern(store, (struct store_intern){ .is_layout = true, .layout = ids, .n_layout = n }, &made);
    return made;
}

void work_intern(struct work *work)
{
    for (uint32_t i = 0; i < WORK_LAYOUTS; i++)
        work->layouts[i] = intern_layout(work->store, i);
    for (uint32_t i = 0; i < WORK_AGENTS; i++) {
        char id[32];

        snprintf(id, sizeof(id), "power-%u", i);
        work_need("intern an agent", store_agent_intern(work->store, id, &work->agents[i]));
    }
}

/* ---- batches ---- */

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t x = a * UINT64_C(0x9e3779b97f4a7c15) ^ (b + UINT64_C(0x632be59bd9b4e019));

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

bool work_is_skip(uint64_t sequence)
{
    return sequence % 17 == 0;
}

uint32_t work_n_rows(uint32_t agent, uint64_t sequence)
{
    return work_is_skip(sequence) ? 0 : 2 + (uint32_t) (mix(agent, sequence) % (WORK_ROWS - 2));
}

uint32_t work_layout(uint64_t sequence)
{
    return sequence % 3 == 0;
}

uint32_t work_n_columns(uint32_t layout)
{
    return layout ? 7 : WORK_COLUMNS;
}

/* Some come a day late. */
int32_t work_day(const struct work *work, uint64_t sequence)
{
    int32_t day = work->base_day + 1 + (int32_t) (sequence / WORK_DAY_BATCHES);

    return sequence % 13 == 0 ? day - 1 : day;
}

int64_t work_time(const struct work *work, uint64_t sequence, uint32_t row)
{
    return work_day(work, sequence) * WORK_DAY_US +
           (int64_t) (sequence * WORK_ROWS + row) * INT64_C(1000000);
}

bool work_value(uint32_t agent,
                uint64_t sequence,
                uint32_t row,
                uint32_t column,
                uint64_t *ret_bits)
{
    uint64_t bits = mix(mix(agent, sequence), row * 1000 + column);
    double value =
        column % 3 == 0 ? (double) (sequence * WORK_ROWS + row) : (double) (bits % 1000) / 10;

    if (bits % 11 == 0)
        return false;
    if (column % 3 == 2)
        *ret_bits = bits; /* also no number at all */
    else
        memcpy(ret_bits, &value, sizeof(value));
    return true;
}

void work_spool(uint32_t agent, uint8_t ret[static STORE_SPOOL_BYTES])
{
    memset(ret, 0, STORE_SPOOL_BYTES);
    ret[0] = (uint8_t) (agent + 1);
}

static void
add_row(const struct work *work, struct store_batch *batch, uint32_t agent, uint32_t row)
{
    double values[WORK_COLUMNS];
    uint32_t absent[WORK_COLUMNS], layout = work_layout(batch->sequence);
    struct store_row put = { .time_us = work_time(work, batch->sequence, row),
                             .layout = work->layouts[layout],
                             .n_values = work_n_columns(layout),
                             .values = values };

    for (uint32_t c = 0; c < put.n_values; c++) {
        uint64_t bits = 0;

        if (!work_value(agent, batch->sequence, row, c, &bits))
            absent[put.n_absent++] = c;
        memcpy(&values[c], &bits, sizeof(bits));
    }
    put.absent = put.n_absent ? absent : NULL;
    store_batch_add(batch, &put, NULL);
}

struct store_batch *work_batch(const struct work *work, uint32_t agent, uint64_t sequence)
{
    uint32_t n = work_n_rows(agent, sequence);
    struct store_batch *batch = NULL;

    if (store_batch_new(&batch, n * store_row_bytes(WORK_COLUMNS, WORK_COLUMNS)))
        work_fail("no memory for a batch");
    batch->agent = work->agents[agent];
    batch->signal = STORE_METRICS;
    work_spool(agent, batch->spool);
    batch->sequence = sequence;
    batch->crc32c = (uint32_t) sequence * 7;
    batch->is_skip = work_is_skip(sequence);
    batch->skip_reason = 1;
    batch->skip_records = batch->is_skip ? sequence : 0;
    for (uint32_t i = 0; i < n; i++)
        add_row(work, batch, agent, i);
    return batch;
}

static void on_put(struct store_batch *batch, int r, uint64_t run_last)
{
    (void) run_last;
    wake(batch->ctx, r);
}

int work_put(const struct work *work, uint32_t agent, uint64_t sequence)
{
    struct waiter waiter = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };
    struct store_batch *batch = work_batch(work, agent, sequence);
    int r;

    batch->done = on_put;
    batch->ctx = &waiter;
    r = store_submit(work->store, batch);
    if (r == 0)
        r = await(&waiter);
    store_batch_free(batch);
    return r;
}
