/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The agent's spool at work on a disk that loses what was not synced, and the look at what it left.
 *
 *   spool_pump pump DIRECTORY ROUNDS [lazy]   goes on with DIRECTORY/spool; appends to
 *                                             DIRECTORY/told. Lazy: lines are synced now and then,
 *                                             and nothing is promised of them when they are put
 *   spool_pump check DIRECTORY                exits with 0 when all that was told is true
 *
 * What is known outside stands in the file `told`, a line for each:
 *
 *   P n              the scrape n was put, and its put has returned
 *   L n              the lines up to n were put, with the offset n + 1
 *   H s id seq crc n k   the hub has of signal s under the run's id this sequence: numbers n ..
 * n+k-1
 *
 * True is: every number that was put is at the hub once, or comes out of the spool once, and not
 * both; the offset is behind the last line that is there; the hub would take what comes.
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/spool/spool.h"
#include "common/base/ensure.h"
#include "common/base/rand.h"
#include "common/base/text.h"

#define MAX_NUMBERS 200000u
#define MAX_RUNS 1000u
#define N_SERIES 100u
#define LINES 7u

struct hub_run {
    uint8_t id[SPOOL_ID_BYTES];
    uint64_t last;
    uint32_t crc32c;
};

static struct {
    struct hub_run runs[SPOOL_SIGNALS][MAX_RUNS];
    size_t n_runs[SPOOL_SIGNALS];
    uint8_t seen[SPOOL_SIGNALS][MAX_NUMBERS];
    uint64_t put[SPOOL_SIGNALS]; /* told */
} world;

static int told_fd = -1;
static bool is_lazy;
static struct spool *spool;
static struct spool_layout *layout;

static void need(bool is_true, const char *what)
{
    if (is_true)
        return;
    fprintf(stderr, "not true: %s\n", what);
    exit(1);
}

static void tell(const char *line)
{
    if (told_fd >= 0)
        need(write(told_fd, line, strlen(line)) == (ssize_t) strlen(line), "told can be written");
}

/* ---- the hub ---- */

static struct hub_run *hub_run(unsigned signal, const uint8_t *id)
{
    struct hub_run *runs = world.runs[signal];

    for (size_t i = 0; i < world.n_runs[signal]; i++)
        if (memcmp(runs[i].id, id, SPOOL_ID_BYTES) == 0)
            return &runs[i];
    need(world.n_runs[signal] < MAX_RUNS, "there are few runs");
    memcpy(runs[world.n_runs[signal]].id, id, SPOOL_ID_BYTES);
    return &runs[world.n_runs[signal]++];
}

static void see(unsigned signal, uint64_t first, uint64_t n)
{
    for (uint64_t i = first; i < first + n; i++) {
        need(i < MAX_NUMBERS, "numbers are small");
        need(world.seen[signal][i] == 0, "nothing comes twice");
        world.seen[signal][i] = 1;
    }
}

static uint64_t first_number(const struct spool_item *item)
{
    char digits[24] = { 0 };

    if (item->scrape.layout)
        return (uint64_t) item->scrape.values[0];
    need(item->logs.n_records > 0 && item->logs.records[0].body.len < sizeof(digits), "a line");
    memcpy(digits, item->logs.records[0].body.data, item->logs.records[0].body.len);
    return strtoull(digits, NULL, 10);
}

static void store(unsigned signal, struct hub_run *run, const struct spool_item *item)
{
    uint64_t n = item->scrape.layout ? 1 : item->logs.n_records;
    char id[2 * SPOOL_ID_BYTES + 1], line[160];

    need(!item->is_skip || item->records == 0, "nothing is dropped here");
    need(item->is_skip || item->sequence == run->last + 1, "there is no gap");
    run->last = item->sequence;
    run->crc32c = item->crc32c;
    if (item->is_skip)
        n = 0;
    else
        see(signal, first_number(item), n);
    snprintf(line, sizeof(line), "H %u %s %llu %u %llu %llu\n", signal,
             text_of_hex(run->id, SPOOL_ID_BYTES, id), (unsigned long long) item->sequence,
             item->crc32c, n ? (unsigned long long) first_number(item) : 0ULL,
             (unsigned long long) n);
    tell(line);
}

/* A stream: at most max items, of which n_acked acknowledgements arrive. False: no run. */
static bool stream(unsigned signal, enum spool_lane lane, unsigned max, unsigned n_acked)
{
    CLEANUP(spool_reader_closep) struct spool_reader *reader = NULL;
    struct spool_item item;
    struct spool_run hello;
    struct hub_run *run;

    if (spool_reader_open(&reader, spool, (enum spool_signal) signal, lane) != 0)
        return false;
    spool_reader_get_run(reader, &hello);
    run = hub_run(signal, hello.id);
    need(hello.last_sequence >= run->last, "the agent has not less of a run than the hub");
    need(hello.first_sequence <= run->last + 1, "the hub has not lost a thing");
    if (hello.first_sequence == run->last + 1 && run->last > 0)
        need(hello.crc32c_before_first == run->crc32c, "the run is the same");
    need(spool_reader_resume(reader, run->last) == 0, "the hub's word is taken");
    for (unsigned n = 0; n < max && spool_read(reader, &item) == 0; n++) {
        store(signal, run, &item);
        if (n < n_acked)
            need(spool_acknowledge(reader, item.sequence) == 0, "an acknowledgement is taken");
    }
    return true;
}

/* The hub refuses the next batch of logs: half of it goes to the end. */
static void halve(enum spool_lane lane)
{
    CLEANUP(spool_reader_closep) struct spool_reader *reader = NULL;
    struct spool_item item;
    struct spool_run hello;

    if (spool_reader_open(&reader, spool, SPOOL_LOGS, lane) != 0)
        return;
    spool_reader_get_run(reader, &hello);
    need(spool_reader_resume(reader, hub_run(SPOOL_LOGS, hello.id)->last) == 0, "it is resumed");
    if (spool_read(reader, &item) == 0 && !item.is_skip && item.logs.n_records > 1)
        need(spool_refuse(reader, "too many") == 0, "a batch is halved");
}

/* ---- the pump ---- */

static void open_spool(const char *directory)
{
    struct spool_options options = { 0 };
    char path[4200];

    snprintf(path, sizeof(path), "%s/spool", directory);
    if (mkdir(path, 0700) == 0) { /* by hand: this disk knows no chmod */
        int above = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        need(above >= 0 && fsync(above) == 0 && close(above) == 0, "a name can be synced");
    }
    options.directory = path;
    for (unsigned i = 0; i < SPOOL_SIGNALS; i++)
        options.limits[i] = (struct spool_limits){ .limit_bytes = 512u << 10 };
    options.limits[SPOOL_LOGS].policy = SPOOL_BLOCK;
    options.limits[SPOOL_LOGS].sync_us = is_lazy ? 1 : 0;
    need(spool_open(&spool, &options) == 0, "it opens");
}

static void make_layout(void)
{
    struct spool_series *series[N_SERIES];

    for (uint32_t i = 0; i < N_SERIES; i++) {
        char name[16], key[32];
        size_t len;

        snprintf(name, sizeof(name), "series.%u", i);
        len = spool_series_key(name, NULL, key, sizeof(key));
        need(spool_series_new(&series[i], i + 1, SPOOL_GAUGE, "1", span_of(key, len)) == 0, "m");
    }
    need(spool_layout_new(&layout, 1, series, N_SERIES) == 0, "memory");
    for (uint32_t i = 0; i < N_SERIES; i++)
        (void) spool_series_unref(series[i]);
}

static void put_scrape(void)
{
    uint64_t number = world.put[SPOOL_METRICS] + 1;
    double values[N_SERIES] = { (double) number };
    char line[32];

    need(spool_put(spool, &(struct spool_scrape){ .layout = layout,
                                                  .time = clock_wall(),
                                                  .values = values }) == 0,
         "a scrape is put");
    world.put[SPOOL_METRICS] = number;
    snprintf(line, sizeof(line), "P %llu\n", (unsigned long long) number);
    tell(line);
}

static void put_lines(void)
{
    uint64_t first = world.put[SPOOL_LOGS] + 1;
    struct spool_log_record records[LINES] = { 0 };
    char bodies[LINES][24], value[24], line[32];
    struct spool_offset offset = { span_of_text("tail"), { 0 } };

    for (unsigned i = 0; i < LINES; i++) {
        snprintf(bodies[i], sizeof(bodies[i]), "%llu", (unsigned long long) first + i);
        records[i].body = span_of_text(bodies[i]);
    }
    snprintf(value, sizeof(value), "%llu", (unsigned long long) first + LINES);
    offset.value = span_of_text(value);
    need(spool_put_logs(spool, &(struct spool_logs){ .source = { .type = span_of_text("file"),
                                                                 .name = span_of_text("a") },
                                                     .records = records,
                                                     .n_records = LINES,
                                                     .offsets = &offset,
                                                     .n_offsets = 1,
                                                     .time = clock_wall() }) == 0,
         "lines are put");
    world.put[SPOOL_LOGS] = first + LINES - 1;
    if (is_lazy)
        return;
    snprintf(line, sizeof(line), "L %llu\n", (unsigned long long) world.put[SPOOL_LOGS]);
    tell(line);
}

static void run_round(const char *directory, int round, struct rand *rand)
{
    for (uint64_t i = rand_below(rand, 12); i > 0; i--)
        put_scrape();
    for (uint64_t i = rand_below(rand, 6); i > 0; i--)
        put_lines();
    if (rand_below(rand, 3) == 0)
        (void) spool_tick(spool);
    if (rand_below(rand, 2) == 0)
        halve(rand_below(rand, 3) ? SPOOL_LIVE : SPOOL_BACKFILL);
    for (unsigned signal = 0; signal < SPOOL_SIGNALS; signal++) {
        unsigned max = (unsigned) rand_below(rand, 30);

        (void) stream(signal, rand_below(rand, 3) ? SPOOL_LIVE : SPOOL_BACKFILL, max,
                      (unsigned) rand_below(rand, max + 1));
        if (round % 9 == 8)
            need(spool_rotate(spool, (enum spool_signal) signal) == 0, "a run is closed");
        while (round % 20 == 19 && stream(signal, SPOOL_BACKFILL, MAX_NUMBERS, MAX_NUMBERS))
            continue;
    }
    if (round % 25 == 24) {
        spool = spool_close(spool);
        open_spool(directory);
    }
}

static void pump(const char *directory, int n_rounds)
{
    struct rand rand;
    char path[4200];

    snprintf(path, sizeof(path), "%s/told", directory);
    told_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    need(told_fd >= 0, "told can be opened");
    rand_init(&rand, 7);
    open_spool(directory);
    for (int round = 0; round < n_rounds; round++)
        run_round(directory, round, &rand);
    spool = spool_close(spool);
}

/* ---- the look ---- */

/* "H signal id sequence crc first n" */
static void read_held(char *line)
{
    uint8_t id[SPOOL_ID_BYTES];
    char *at = line + 1;
    struct hub_run *run;
    uint64_t signal = strtoull(at, &at, 10), first, n;
    char *hex = at + 1;

    need(signal < SPOOL_SIGNALS && strlen(hex) > sizeof(id) * 2, "a line of told");
    at = hex + sizeof(id) * 2;
    *at++ = '\0';
    need(text_to_hex(hex, id, sizeof(id)) == 0, "a line of told");
    run = hub_run((unsigned) signal, id);
    run->last = strtoull(at, &at, 10);
    run->crc32c = (uint32_t) strtoull(at, &at, 10);
    first = strtoull(at, &at, 10);
    n = strtoull(at, &at, 10);
    see((unsigned) signal, first, n);
}

static void read_told(const char *directory)
{
    char path[4200], line[200];
    FILE *file;

    snprintf(path, sizeof(path), "%s/told", directory);
    file = fopen(path, "r");
    while (file && fgets(line, sizeof(line), file)) {
        if (!strchr(line, '\n'))
            break; /* it was being written */
        if (line[0] == 'P')
            world.put[SPOOL_METRICS] = strtoull(line + 1, NULL, 10);
        else if (line[0] == 'L')
            world.put[SPOOL_LOGS] = strtoull(line + 1, NULL, 10);
        else
            read_held(line);
    }
    if (file)
        (void) fclose(file);
}

static void check(const char *directory)
{
    char digits[24] = { 0 };
    struct span value = { 0 };
    uint64_t offset = 1;

    read_told(directory);
    open_spool(directory);
    for (unsigned signal = 0; signal < SPOOL_SIGNALS; signal++) {
        while (stream(signal, SPOOL_BACKFILL, MAX_NUMBERS, MAX_NUMBERS))
            continue;
        for (uint64_t i = 1; i <= world.put[signal]; i++)
            if (!world.seen[signal][i]) {
                fprintf(stderr, "signal %u: %llu is lost\n", signal, (unsigned long long) i);
                exit(1);
            }
    }
    if (spool_get_offset(spool, span_of_text("tail"), &value)) {
        memcpy(digits, value.data, value.len);
        offset = strtoull(digits, NULL, 10);
    }
    need(offset > world.put[SPOOL_LOGS], "the offset is as far as what was put");
    for (uint64_t i = 1; i + 1 < MAX_NUMBERS; i++)
        need(world.seen[SPOOL_LOGS][i] == (i < offset), "lines and offset go together");
    put_scrape(); /* it goes on */
    spool = spool_close(spool);
}

int main(int argc, char **argv)
{
    ensure(argc >= 3);
    make_layout();
    is_lazy = argc == 5 && strcmp(argv[4], "lazy") == 0;
    if (strcmp(argv[1], "pump") == 0 && argc >= 4)
        pump(argv[2], (int) strtol(argv[3], NULL, 10));
    else
        check(argv[2]);
    (void) spool_layout_unref(layout);
    return 0;
}
