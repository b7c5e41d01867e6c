/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What blocks of logs cost: nanoseconds of processor time a raw byte, and raw bytes a stored one.
 *
 * usage: bench_logblock [--raw BYTES] [FILE...]
 *
 *   --raw   raw bytes of a block (1 MiB)
 *   FILE    one line, one record; without any, lines of each style that tests/support/lines.h makes
 */

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/buf.h"
#include "common/base/ensure.h"
#include "common/logblock/logblock.h"
#include "lines.h"

#define ROUNDS_NS 400000000
#define MADE_BYTES (8u << 20)

/* All records of one source, in order. */
struct input {
    struct buf bodies;
    struct logblock_record *records;
    size_t n_records, capacity;
};

static const struct logblock_attribute attributes[] = {
    { { (const uint8_t *) "host.name", 9 }, { (const uint8_t *) "web-03.example.com", 18 } },
    { { (const uint8_t *) "log.file.name", 13 }, { (const uint8_t *) "access.log", 10 } },
};

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* ---- records ---- */

/* Bodies are offsets until all are there. */
static void add_record(struct input *input, struct span body, int64_t time_us, uint32_t severity)
{
    struct logblock_record *record;

    if (input->n_records == input->capacity) {
        input->capacity = input->capacity ? 2 * input->capacity : 4096;
        input->records = realloc(input->records, input->capacity * sizeof(*input->records));
        ensure(input->records);
    }
    record = &input->records[input->n_records];
    *record = (struct logblock_record){
        .time_us = time_us,
        .observed_us = time_us / 250000 * 250000 + 261234, /* a reader that looks now and then */
        .source_offset = input->bodies.len + input->n_records,
        .severity = severity,
        .body.len = body.len,
        .attributes = attributes,
        .n_attributes = 2,
        .place = { 40, (uint32_t) (input->n_records / 100 * 20000),
                   (uint32_t) (input->n_records % 100) },
    };
    buf_append_span(&input->bodies, body);
    input->n_records++;
}

static void finish_input(struct input *input)
{
    const uint8_t *at = input->bodies.data;

    ensure(!buf_failed(&input->bodies) && input->n_records > 0);
    for (size_t i = 0; i < input->n_records; i++) {
        input->records[i].body.data = at;
        at += input->records[i].body.len;
    }
}

static void make_lines(struct input *input, enum lines_style style)
{
    static struct lines_line line;
    struct lines lines;

    lines_init(&lines, style, 1, INT64_C(1750000000000000));
    while (input->bodies.len < MADE_BYTES) {
        lines_next(&lines, &line);
        add_record(input, span_of(line.text, line.len), line.time_us, line.severity);
    }
    finish_input(input);
}

static bool read_lines(struct input *input, const char *path)
{
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;

    if (!f) {
        perror(path);
        return false;
    }
    while ((n = getline(&line, &capacity, f)) > 0)
        add_record(input, span_of(line, (size_t) n - (line[n - 1] == '\n')),
                   INT64_C(1750000000000000) + (int64_t) input->n_records * 9113, 9);
    free(line);
    fclose(f);
    finish_input(input);
    return true;
}

/* ---- figures ---- */

/* What is measured: blocks, cut as a sealer cuts them. */
struct figures {
    struct input *input;
    size_t raw_goal;
    struct logblock_source source;
    struct logblock_work *work;
    struct logblock_room *room;
    struct buf blocks;
    size_t *ends; /* of blocks, n_blocks of them */
    size_t n_blocks;
    uint64_t n_raw, n_filter;
};

static size_t cut(const struct figures *f, size_t from)
{
    size_t raw = 0, i = from;

    for (; i < f->input->n_records && i - from < LOGBLOCK_RECORDS_MAX; i++) {
        raw += logblock_raw_bytes(&f->input->records[i]);
        if (raw > f->raw_goal && i > from)
            break;
    }
    return i;
}

static void encode_all(struct figures *f, enum logblock_effort effort)
{
    buf_clear(&f->blocks);
    f->n_blocks = 0;
    for (size_t at = 0, end; at < f->input->n_records; at = end) {
        struct logblock_input input = { &f->source, f->input->records + at, 0, effort };

        end = cut(f, at);
        input.n_records = end - at;
        ensure(logblock_encode(f->work, &input, &f->blocks) == 0);
        f->ends[f->n_blocks++] = f->blocks.len;
    }
}

static struct span block_at(const struct figures *f, size_t i)
{
    size_t start = i > 0 ? f->ends[i - 1] : 0;

    return span_of(f->blocks.data + start, f->ends[i] - start);
}

static size_t find_all(struct figures *f, const struct logblock_wanted *wanted, uint64_t *ret_read)
{
    size_t sum = 0, n;

    *ret_read = 0;
    for (size_t i = 0; i < f->n_blocks; i++) {
        struct logblock_record *records;
        struct logblock block;
        uint64_t read;

        ensure(logblock_open(block_at(f, i), f->room, &block) == LOGBLOCK_OK);
        ensure(logblock_find(&block, wanted, f->room, &records, &n, &read) == LOGBLOCK_OK);
        sum += n;
        *ret_read += read;
    }
    return sum;
}

static void print_encoding(struct figures *f, enum logblock_effort effort, const char *name)
{
    int64_t start = now_ns(), spent;
    size_t rounds = 0;

    do {
        encode_all(f, effort);
        rounds++;
        spent = now_ns() - start;
    } while (spent < ROUNDS_NS);
    f->n_raw = f->n_filter = 0;
    for (size_t i = 0; i < f->n_blocks; i++) {
        struct logblock block;

        ensure(logblock_open(block_at(f, i), f->room, &block) == LOGBLOCK_OK);
        f->n_raw += block.n_raw_bytes;
        f->n_filter += block.filter.len;
        if (i == 0)
            printf("    first block: %zu filter, %zu columns, %zu bodies, of %llu\n",
                   block.filter.len, block.columns.len, block.bodies.len,
                   (unsigned long long) block.n_raw_bytes);
    }
    printf("  %-12s %6.2f ns/byte of bodies  ratio %6.2f  of bodies alone %6.2f  filter %4.1f %%\n",
           name, (double) spent / (double) rounds / (double) f->input->bodies.len,
           (double) f->n_raw / (double) f->blocks.len,
           (double) f->input->bodies.len / (double) f->blocks.len,
           100.0 * (double) f->n_filter / (double) f->blocks.len);
}

static void print_finding(struct figures *f, const char *name, const char *text, bool is_word)
{
    CLEANUP(logblock_terms_freep) struct logblock_terms *terms = NULL;
    struct logblock_term term = { span_of_text(text), is_word };
    struct logblock_wanted wanted = { .from_us = INT64_MIN, .to_us = INT64_MAX };
    int64_t start, spent;
    size_t rounds = 0, n;
    uint64_t read;

    if (*text) {
        ensure(logblock_terms_new(&terms, &term, 1) == 0);
        wanted.terms = terms;
    }
    start = now_ns();
    do {
        n = find_all(f, &wanted, &read);
        rounds++;
        spent = now_ns() - start;
    } while (spent < ROUNDS_NS / 2);
    printf("  %-12s %6.3f ns/byte of bodies  %zu records, %.0f %% decoded\n", name,
           (double) spent / (double) rounds / (double) f->input->bodies.len, n,
           100.0 * (double) read / (double) f->n_raw);
}

static void print_packing(struct figures *f)
{
    const struct input *input = f->input;
    uint8_t *room = malloc(input->bodies.len + 300 * input->n_records + 1024), *to;
    int64_t start = now_ns(), spent;
    size_t rounds = 0, n_bytes = 0, n;

    ensure(room);
    do {
        n_bytes = 0;
        for (size_t at = 0; at < input->n_records; at += n) {
            n = input->n_records - at < 100 ? input->n_records - at : 100;
            to = logblock_pack(room, &f->source, input->records + at, n);
            n_bytes += (size_t) (to - room);
        }
        rounds++;
        spent = now_ns() - start;
    } while (spent < ROUNDS_NS / 4);
    printf("  %-12s %6.3f ns/byte of bodies  %.3f bytes a byte of bodies\n", "pack",
           (double) spent / (double) rounds / (double) input->bodies.len,
           (double) n_bytes / (double) input->bodies.len);
    to = logblock_pack(room, &f->source, input->records, 100);
    start = now_ns();
    rounds = 0;
    do {
        struct logblock_record *records;
        struct logblock_source source;

        ensure(logblock_unpack(span_of(room, (size_t) (to - room)), input->records[0].place,
                               f->room, &source, &records, &n) == LOGBLOCK_OK);
        rounds++;
        spent = now_ns() - start;
    } while (spent < ROUNDS_NS / 4);
    printf("  %-12s %6.1f ns/record\n", "unpack", (double) spent / (double) rounds / 100);
    free(room);
}

static void print_figures(struct input *input, const char *name, size_t raw_goal)
{
    struct figures f = {
        .input = input,
        .raw_goal = raw_goal,
        .source = { span_of_text("file"), span_of_text("/var/log/nginx/access.log"), NULL, 0 },
        .work = logblock_work_new(),
        .room = logblock_room_new(),
        .ends = calloc(input->n_records, sizeof(*f.ends)),
    };

    ensure(f.work && f.room && f.ends);
    printf("%s: %zu records, %.0f bytes each\n", name, input->n_records,
           (double) input->bodies.len / (double) input->n_records);
    print_packing(&f);
    print_encoding(&f, LOGBLOCK_SMALL, "small");
    print_encoding(&f, LOGBLOCK_FAST, "fast");
    print_finding(&f, "all", "", false);
    print_finding(&f, "absent word", "qwertyuiop", true);
    print_finding(&f, "absent text", "qwertyuiop", false);
    print_finding(&f, "frequent", "e", false);
    logblock_work_free(f.work);
    logblock_room_free(f.room);
    buf_deinit(&f.blocks);
    free(f.ends);
    buf_deinit(&input->bodies);
    free(input->records);
    *input = (struct input){ 0 };
}

int main(int argc, char **argv)
{
    size_t raw_goal = LOGBLOCK_RAW_GOAL;
    struct input input = { 0 };
    int i = 1;

    if (argc > 2 && strcmp(argv[1], "--raw") == 0) {
        raw_goal = strtoul(argv[2], NULL, 10);
        i = 3;
    }
    if (raw_goal < 1 || raw_goal > LOGBLOCK_RAW_MAX) {
        fprintf(stderr, "bench_logblock: --raw is 1 .. %u\n", LOGBLOCK_RAW_MAX);
        return 1;
    }
    for (int style = 0; i == argc && style < LINES_STYLES; style++) {
        make_lines(&input, (enum lines_style) style);
        print_figures(&input, lines_style_name((enum lines_style) style), raw_goal);
    }
    for (; i < argc; i++) {
        if (!read_lines(&input, argv[i]))
            return 1;
        print_figures(&input, argv[i], raw_goal);
    }
    return 0;
}
