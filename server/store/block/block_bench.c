/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What blocks cost, in bytes a sample and in nanoseconds of processor time a value.
 *
 * usage: block-bench                                    500 made columns: constants, counters,
 * gauges block-bench FILE [--every N] [--rows N] [--columns]
 *
 *   FILE        lines of tab-separated fields: a time in microseconds, then a value for each column
 *               or `-`; a line that begins with # names the columns that follow it. Of several such
 *               parts the longest is read. record.py writes one.
 *   --every N   of the rows only each N-th
 *   --rows N    in one block; else all
 *   --columns   what each column takes alone, the dearest first
 */

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/ensure.h"
#include "common/base/rand.h"
#include "server/store/block/block.h"

#define COLUMNS_MAX 4096
#define ROUNDS_NS 300000000
#define MADE_COLUMNS 500

struct sheet {
    size_t n_columns, n_rows, capacity;
    char **names;
    int64_t *times;
    double *rows;  /* row after row, NaN where absent */
    bool *absents; /* likewise */
};

struct options {
    const char *path;
    size_t every, rows;
    bool has_columns;
};

static void *room_for(size_t n, size_t size)
{
    void *room = calloc(n ? n : 1, size);

    ensure(room);
    return room;
}

static void sheet_deinit(struct sheet *sheet)
{
    for (size_t i = 0; i < sheet->n_columns; i++)
        free(sheet->names[i]);
    free(sheet->names);
    free(sheet->times);
    free(sheet->rows);
    free(sheet->absents);
    *sheet = (struct sheet){ 0 };
}

/* ---- reading ---- */

static void read_names(char *line, struct sheet *sheet)
{
    char *rest = line;

    sheet->names = room_for(COLUMNS_MAX, sizeof(*sheet->names));
    (void) strsep(&rest, "\t");
    for (char *name; (name = strsep(&rest, "\t")) && sheet->n_columns < COLUMNS_MAX;)
        sheet->names[sheet->n_columns++] = strdup(name);
}

static void grow(struct sheet *sheet)
{
    size_t n_values;

    if (sheet->n_rows < sheet->capacity)
        return;
    sheet->capacity = sheet->capacity ? 2 * sheet->capacity : 512;
    n_values = sheet->capacity * sheet->n_columns;
    sheet->times = realloc(sheet->times, sheet->capacity * sizeof(*sheet->times));
    sheet->rows = realloc(sheet->rows, n_values * sizeof(*sheet->rows));
    sheet->absents = realloc(sheet->absents, n_values * sizeof(*sheet->absents));
    ensure(sheet->times && sheet->rows && sheet->absents);
}

static void read_row(char *line, struct sheet *sheet)
{
    char *rest = line, *field = strsep(&rest, "\t");
    size_t at;

    grow(sheet);
    at = sheet->n_rows * sheet->n_columns;
    sheet->times[sheet->n_rows] = strtoll(field, NULL, 10);
    for (size_t i = 0; i < sheet->n_columns; i++) {
        field = strsep(&rest, "\t");
        /* The last line of a file that is still written. */
        if (!field)
            return;
        sheet->absents[at + i] = strcmp(field, "-") == 0;
        sheet->rows[at + i] = sheet->absents[at + i] ? __builtin_nan("") : strtod(field, NULL);
    }
    sheet->n_rows++;
}

static int read_file(const struct options *options, struct sheet *ret)
{
    FILE *file = fopen(options->path, "r");
    struct sheet sheet = { 0 };
    char *line = NULL;
    size_t size = 0, n_lines = 0;

    if (!file) {
        perror(options->path);
        return 1;
    }
    while (getline(&line, &size, file) > 0) {
        line[strcspn(line, "\n")] = 0;
        if (line[0] == '#') {
            if (sheet.n_rows > ret->n_rows) {
                sheet_deinit(ret);
                *ret = sheet;
            } else {
                sheet_deinit(&sheet);
            }
            sheet = (struct sheet){ 0 };
            read_names(line, &sheet);
        } else if (sheet.n_columns > 0 && n_lines++ % options->every == 0) {
            read_row(line, &sheet);
        }
    }
    if (sheet.n_rows > ret->n_rows) {
        sheet_deinit(ret);
        *ret = sheet;
    } else {
        sheet_deinit(&sheet);
    }
    free(line);
    fclose(file);
    return 0;
}

/* ---- making ---- */

static double next_counter(struct rand *rand, size_t column, double last)
{
    uint64_t step = UINT64_C(1) << column % 17;

    switch (column % 4) {
    case 0: /* bytes in pages, in bursts */
        return last + (rand_below(rand, 3) ? 0 : 4096 * (double) rand_below(rand, step));
    case 1: /* rather steady */
        return last + (double) step + (double) rand_below(rand, 1 + step / 8);
    default:
        return last + (double) rand_below(rand, step);
    }
}

/* A third constants, most of them 0; a third integer counters; a third gauges of 1 or 2 digits. */
static void make_sheet(size_t n_rows, struct sheet *ret)
{
    struct rand rand;
    double last;

    rand_init(&rand, 1);
    *ret = (struct sheet){ .n_columns = MADE_COLUMNS };
    ret->names = room_for(MADE_COLUMNS, sizeof(*ret->names));
    while (ret->n_rows < n_rows) {
        grow(ret);
        for (size_t c = 0; c < MADE_COLUMNS; c++) {
            size_t at = ret->n_rows * MADE_COLUMNS + c;
            bool is_first = ret->n_rows == 0;

            ret->absents[at] = false;
            last = is_first ? (double) rand_below(&rand, 1u << 30) : ret->rows[at - MADE_COLUMNS];
            if (c % 3 == 0)
                ret->rows[at] = c % 2 ? 0 : (double) c;
            else if (c % 3 == 1)
                ret->rows[at] = is_first ? last : next_counter(&rand, c, last);
            else
                ret->rows[at] =
                    (double) rand_below(&rand, c % 2 ? 1000 : 10000) / (c % 2 ? 10 : 100);
        }
        ret->times[ret->n_rows] = 1790000000000000 + 10000000 * (int64_t) ret->n_rows;
        ret->n_rows++;
    }
}

/* ---- measuring ---- */

/* Columns of some rows of a sheet, as block_encode() wants them. */
struct piece {
    struct block_rows rows;
    double *values;
    uint64_t *absent;
};

static bool is_constant(const struct sheet *sheet, size_t column)
{
    for (size_t i = 1; i < sheet->n_rows; i++) {
        const double *value = &sheet->rows[i * sheet->n_columns + column];

        if (sheet->absents[i * sheet->n_columns + column] ||
            *value < value[-(ptrdiff_t) sheet->n_columns] ||
            *value > value[-(ptrdiff_t) sheet->n_columns])
            return false;
    }
    return true;
}

static void piece_init(struct piece *piece,
                       const struct sheet *sheet,
                       size_t from,
                       size_t n_rows,
                       bool has_constants)
{
    size_t words = codec_mark_words(n_rows), n = 0;
    bool has_absent = false;

    piece->values = room_for(sheet->n_columns * n_rows, sizeof(*piece->values));
    piece->absent = room_for(sheet->n_columns * words, sizeof(*piece->absent));
    for (size_t c = 0; c < sheet->n_columns; c++) {
        if (!has_constants && is_constant(sheet, c))
            continue;
        for (size_t i = 0; i < n_rows; i++) {
            size_t at = (from + i) * sheet->n_columns + c;

            piece->values[n * n_rows + i] = sheet->rows[at];
            piece->absent[n * words + i / 64] |= (uint64_t) sheet->absents[at] << i % 64;
            has_absent |= sheet->absents[at];
        }
        n++;
    }
    piece->rows = (struct block_rows){ 1,
                                       (uint32_t) n,
                                       (uint32_t) n_rows,
                                       sheet->times + from,
                                       piece->values,
                                       has_absent ? piece->absent : NULL };
}

static void piece_deinit(struct piece *piece)
{
    free(piece->values);
    free(piece->absent);
}

static uint64_t bits_of(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t) now.tv_sec * 1000000000 + (uint64_t) now.tv_nsec;
}

struct figures {
    double n_values, n_bytes, encode_ns, decode_ns; /* totals of all pieces */
};

static void encode(struct codec_work *work, const struct piece *piece, int effort, struct buf *out)
{
    const struct block_input input = { 1, effort, &piece->rows, 1 };

    buf_clear(out);
    ensure(block_encode(work, &input, out) == 0);
}

static void decode(struct span bytes, struct buf *room, double *values, uint64_t *absent)
{
    struct block_cursor cursor = { 0 };
    struct block_part part;
    struct block block;

    ensure(block_open(bytes, room, &block) == BLOCK_OK);
    ensure(block_next(&block, &cursor, &part));
    ensure(block_columns(&part, NULL, part.n_columns, part.n_rows, values, absent) == BLOCK_OK);
}

/* The best of several rounds: what disturbs makes it only slower. */
static void measure(const struct piece *piece, int effort, struct figures *figures)
{
    CLEANUP(codec_work_deinit) struct codec_work work = { 0 };
    CLEANUP(buf_deinit) struct buf out = { 0 }, room = { 0 };
    size_t n_values = (size_t) piece->rows.n_columns * piece->rows.n_rows;
    size_t n_words = codec_mark_words(piece->rows.n_rows) * piece->rows.n_columns;
    double *values = room_for(n_values, sizeof(*values));
    uint64_t *absent = room_for(n_words, sizeof(*absent));
    uint64_t best[2] = { UINT64_MAX, UINT64_MAX }, end = now_ns() + ROUNDS_NS;

    do {
        uint64_t times[3];

        times[0] = now_ns();
        encode(&work, piece, effort, &out);
        times[1] = now_ns();
        decode(buf_span(&out), &room, values, absent);
        times[2] = now_ns();
        for (size_t i = 0; i < 2; i++)
            best[i] = times[i + 1] - times[i] < best[i] ? times[i + 1] - times[i] : best[i];
    } while (now_ns() < end);
    for (size_t i = 0; i < n_values; i++)
        ensure(bits_of(values[i]) == bits_of(piece->values[i]) || values[i] != values[i]);
    figures->n_values += (double) n_values;
    figures->n_bytes += (double) out.len;
    figures->encode_ns += (double) best[0];
    figures->decode_ns += (double) best[1];
    free(values);
    free(absent);
}

static void print_figures(const struct sheet *sheet, size_t n_rows, bool has_constants)
{
    for (int effort = CODEC_FAST; effort <= CODEC_SMALL; effort++) {
        struct figures f = { 0 };
        uint32_t n_columns = 0;

        for (size_t from = 0; from + n_rows <= sheet->n_rows; from += n_rows) {
            struct piece piece;

            piece_init(&piece, sheet, from, n_rows, has_constants);
            n_columns = piece.rows.n_columns;
            measure(&piece, effort, &f);
            piece_deinit(&piece);
        }
        printf("%5u columns x %5zu rows  %-5s %s  %7.3f bytes/sample  encode %6.1f ns/value  "
               "decode %6.1f\n",
               n_columns, n_rows, effort == CODEC_FAST ? "FAST" : "SMALL",
               has_constants ? "with constants" : "without       ", f.n_bytes / f.n_values,
               f.encode_ns / f.n_values, f.decode_ns / f.n_values);
    }
}

/* ---- columns ---- */

struct price {
    const char *name;
    size_t n_bytes[2]; /* of each effort */
    uint8_t forms[2];
};

static int by_price(const void *a, const void *b)
{
    size_t of_a = ((const struct price *) a)->n_bytes[1];
    size_t of_b = ((const struct price *) b)->n_bytes[1];

    return (of_a < of_b) - (of_a > of_b);
}

static void print_columns(const struct sheet *sheet, size_t n_rows)
{
    CLEANUP(codec_work_deinit) struct codec_work work = { 0 };
    CLEANUP(buf_deinit) struct buf out = { 0 };
    struct price *prices = room_for(sheet->n_columns, sizeof(*prices));
    struct piece piece;

    piece_init(&piece, sheet, 0, n_rows, true);
    for (size_t c = 0; c < sheet->n_columns; c++) {
        prices[c].name = sheet->names[c] ? sheet->names[c] : "";
        for (int effort = CODEC_FAST; effort <= CODEC_SMALL; effort++) {
            buf_clear(&out);
            ensure(codec_encode_values(&work, piece.values + c * n_rows, n_rows, effort, &out,
                                       &prices[c].forms[effort]) == 0);
            prices[c].n_bytes[effort] = out.len;
        }
    }
    qsort(prices, sheet->n_columns, sizeof(*prices), by_price);
    printf("\nalone, %zu rows: bytes/sample FAST, SMALL, form, name\n", n_rows);
    for (size_t c = 0; c < sheet->n_columns; c++)
        printf("%7.3f %7.3f  %u/%u  %s\n", (double) prices[c].n_bytes[0] / (double) n_rows,
               (double) prices[c].n_bytes[1] / (double) n_rows, prices[c].forms[1] & 15u,
               prices[c].forms[1] >> 4, prices[c].name);
    piece_deinit(&piece);
    free(prices);
}

/* ---- main ---- */

static int usage(void)
{
    fputs("usage: block-bench [FILE [--every N] [--rows N] [--columns]]\n", stderr);
    return 2;
}

static bool parse(int argc, char **argv, struct options *ret)
{
    *ret = (struct options){ .every = 1 };
    for (int i = 1; i < argc; i++) {
        bool has_number = i + 1 < argc && strtoull(argv[i + 1], NULL, 10) > 0;

        if (strcmp(argv[i], "--columns") == 0)
            ret->has_columns = true;
        else if (strcmp(argv[i], "--every") == 0 && has_number)
            ret->every = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--rows") == 0 && has_number)
            ret->rows = strtoull(argv[++i], NULL, 10);
        else if (argv[i][0] != '-' && !ret->path)
            ret->path = argv[i];
        else
            return false;
    }
    return true;
}

static void bench_made(void)
{
    static const size_t rows[] = { 30, 120, 400 };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct sheet sheet;

        make_sheet(rows[i], &sheet);
        print_figures(&sheet, rows[i], true);
        sheet_deinit(&sheet);
    }
}

int main(int argc, char **argv)
{
    struct options options;
    struct sheet sheet = { 0 };
    size_t n_rows;

    if (!parse(argc, argv, &options))
        return usage();
    if (!options.path) {
        bench_made();
        return 0;
    }
    if (read_file(&options, &sheet))
        return 1;
    n_rows = options.rows ? options.rows : sheet.n_rows;
    if (n_rows == 0 || n_rows > sheet.n_rows || n_rows > BLOCK_ROWS_MAX) {
        fprintf(stderr, "block-bench: %zu rows are asked for and %zu are there\n", n_rows,
                sheet.n_rows);
        return 1;
    }
    print_figures(&sheet, n_rows, true);
    print_figures(&sheet, n_rows, false);
    if (options.has_columns)
        print_columns(&sheet, n_rows);
    sheet_deinit(&sheet);
    return 0;
}
