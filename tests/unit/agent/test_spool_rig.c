/* SPDX-License-Identifier: Apache-2.0 */
#include "test_spool_rig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/log/log.h"

static void on_room(void *ctx, enum spool_signal signal)
{
    struct rig *rig = ctx;

    (void) signal;
    rig->n_rooms++;
}

static void new_directory(char to[static 64])
{
    /* Where a sync costs nothing, if there is such a place: that it is called is not tested here.
     */
    snprintf(to, 64, "%s/sentinel-spool-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(to));
}

void rig_start(struct rig *rig)
{
    const char *level = getenv("LOG_LEVEL");

    log_init(&(struct log_options){ .level = level ? LOG_DEBUG : LOG_ERROR + 1, .fd = 2 });
    memset(rig, 0, sizeof(*rig));
    new_directory(rig->directory);
    rig->options =
        (struct spool_options){ .directory = rig->directory, .on_room = on_room, .ctx = rig };
    for (unsigned i = 0; i < SPOOL_SIGNALS; i++)
        rig->options.limits[i] = (struct spool_limits){ .limit_bytes = 16u << 20 };
    for (uint32_t i = 0; i < RIG_SAMPLES + 1; i++) {
        char name[16] = "test.a", key[64];
        size_t len;

        name[5] = (char) ('a' + i);
        len = spool_series_key(name, NULL, key, sizeof(key));
        ck_assert_int_eq(
            spool_series_new(&rig->series[i], i + 1, SPOOL_GAUGE, "1", span_of(key, len)), 0);
    }
    ck_assert_int_eq(spool_layout_new(&rig->layout, 1, rig->series, RIG_SAMPLES + 1), 0);
}

void rig_open(struct rig *rig)
{
    ck_assert_ptr_null(rig->spool);
    rig->options.directory = rig->directory;
    ck_assert_int_eq(spool_open(&rig->spool, &rig->options), 0);
}

void rig_close(struct rig *rig)
{
    rig->spool = spool_close(rig->spool);
}

void rig_stop(struct rig *rig)
{
    rig_close(rig);
    rig->layout = spool_layout_unref(rig->layout);
    for (size_t i = 0; i < 16; i++)
        rig->series[i] = spool_series_unref(rig->series[i]);
    ck_assert_int_eq(file_remove_tree(rig->directory), 0);
}

static void copy_file(const char *from, const char *to)
{
    CLEANUP(buf_deinit) struct buf content = { 0 };
    FILE *file;

    ck_assert_int_eq(file_read(from, 1u << 30, &content), 0);
    file = fopen(to, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(content.data, 1, content.len, file), content.len);
    ck_assert_int_eq(fclose(file), 0);
}

static void copy_directory(const char *from, const char *to)
{
    DIR *directory = opendir(from);

    ck_assert_ptr_nonnull(directory);
    ck_assert(mkdir(to, 0700) == 0 || errno == EEXIST);
    for (struct dirent *entry; (entry = readdir(directory));) {
        char a[512], b[512];

        if (entry->d_name[0] == '.')
            continue;
        snprintf(a, sizeof(a), "%s/%s", from, entry->d_name);
        snprintf(b, sizeof(b), "%s/%s", to, entry->d_name);
        if (entry->d_type == DT_DIR)
            copy_directory(a, b);
        else
            copy_file(a, b);
    }
    (void) closedir(directory);
}

void rig_kill(struct rig *rig)
{
    char directory[64];

    new_directory(directory);
    copy_directory(rig->directory, directory);
    rig_close(rig);
    ck_assert_int_eq(file_remove_tree(rig->directory), 0);
    memcpy(rig->directory, directory, sizeof(directory));
    rig_open(rig);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static bool ends_with(const char *name, const char *end)
{
    size_t len = strlen(name), end_len = strlen(end);

    return len > end_len && strcmp(name + len - end_len, end) == 0;
}

static unsigned list_files(const char *path, const char *end, unsigned wanted, char *to)
{
    struct dirent **entries;
    int n = scandir(path, &entries, NULL, by_name);
    unsigned count = 0;

    for (int i = 0; i < n; i++) {
        if (ends_with(entries[i]->d_name, end) && strcmp(entries[i]->d_name, "spare.seg") != 0) {
            if (to && count == wanted)
                snprintf(to, 256, "%.100s/%.100s", path, entries[i]->d_name);
            count++;
        }
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    return count;
}

void rig_segment(const struct rig *rig, enum spool_signal signal, unsigned n, char to[static 256])
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", rig->directory, spool_signal_name(signal));
    ck_assert_uint_gt(list_files(path, ".seg", n, to), n);
}

unsigned rig_count(const struct rig *rig, const char *directory, const char *end)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", rig->directory, directory);
    return list_files(path, end, 0, NULL);
}

void rig_damage(const char *path, long offset)
{
    FILE *file = fopen(path, "r+");
    int byte;

    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fseek(file, offset, offset < 0 ? SEEK_END : SEEK_SET), 0);
    byte = fgetc(file);
    ck_assert_int_ne(byte, EOF);
    ck_assert_int_eq(fseek(file, -1, SEEK_CUR), 0);
    ck_assert_int_ne(fputc(byte ^ 0x55, file), EOF);
    ck_assert_int_eq(fclose(file), 0);
}

/* ---- batches ---- */

void rig_put(struct rig *rig, double value)
{
    double values[RIG_SAMPLES + 1] = { value };
    uint32_t absent[] = { RIG_SAMPLES };

    ck_assert_int_eq(spool_put(rig->spool, &(struct spool_scrape){ .layout = rig->layout,
                                                                   .time = clock_wall(),
                                                                   .boot_us = 1,
                                                                   .values = values,
                                                                   .absent = absent,
                                                                   .n_absent = 1 }),
                     0);
}

int rig_put_logs(struct rig *rig, uint64_t first, size_t n)
{
    static const struct spool_log_attribute attribute = { { (const uint8_t *) "k", 1 },
                                                          { (const uint8_t *) "v", 1 } };
    struct spool_log_record *records = calloc(n + 1, sizeof(*records));
    char(*bodies)[24] = calloc(n + 1, sizeof(*bodies));
    char value[24];
    struct spool_offset offset = { span_of_text("tail"), { 0 } };
    int r;

    ck_assert(records && bodies);
    for (size_t i = 0; i < n; i++) {
        snprintf(bodies[i], sizeof(bodies[i]), "%llu", (unsigned long long) (first + i));
        records[i] = (struct spool_log_record){
            .time_us = (int64_t) (1000 + first + i),
            .observed_us = i % 2 ? 0 : 77,
            .source_offset = first + i,
            .severity = 9,
            .body = span_of_text(bodies[i]),
            .attributes = &attribute,
            .n_attributes = 1,
        };
    }
    snprintf(value, sizeof(value), "%llu", (unsigned long long) (first + n));
    offset.value = span_of_text(value);
    r = spool_put_logs(rig->spool,
                       &(struct spool_logs){
                           .source = { span_of_text("file"), span_of_text("/a"), &attribute, 1 },
                           .records = records,
                           .n_records = n,
                           .offsets = &offset,
                           .n_offsets = 1,
                           .time = clock_wall(),
                       });
    free(records);
    free(bodies);
    ck_assert_int_ge(r, 0);
    return r;
}

uint64_t rig_offset(struct rig *rig)
{
    char text[24] = { 0 };
    struct span value;

    if (!spool_get_offset(rig->spool, span_of_text("tail"), &value))
        return 0;
    memcpy(text, value.data, value.len);
    return strtoull(text, NULL, 10);
}

struct spool_ledger rig_ledger(struct rig *rig, enum spool_signal signal)
{
    struct spool_ledger ledger;
    uint64_t dropped = 0;

    spool_get_ledger(rig->spool, signal, &ledger);
    for (unsigned i = 1; i < SPOOL_REASONS; i++)
        dropped += ledger.dropped[i];
    ck_assert_uint_eq(dropped, ledger.dropped[0]);
    ck_assert_uint_eq(ledger.produced, ledger.acknowledged + ledger.queued + ledger.dropped[0]);
    return ledger;
}

/* ---- the hub ---- */

void rig_hub_start(struct rig_hub *hub)
{
    memset(hub, 0, sizeof(*hub));
    hub->seen = calloc(RIG_MAX, 1);
    ck_assert_ptr_nonnull(hub->seen);
}

void rig_hub_stop(struct rig_hub *hub)
{
    free(hub->seen);
}

static uint64_t number_of(struct span text)
{
    char digits[24] = { 0 };

    ck_assert_uint_lt(text.len, sizeof(digits));
    memcpy(digits, text.data, text.len);
    return strtoull(digits, NULL, 10);
}

static void see(struct rig_hub *hub, uint64_t number)
{
    ck_assert_uint_lt(number, RIG_MAX);
    hub->seen[number]++;
}

static bool is_refused(const struct rig_hub *hub, const struct spool_item *item)
{
    if (hub->refused == 0 || item->is_skip)
        return false;
    if (item->scrape.layout)
        return (uint64_t) item->scrape.values[0] == hub->refused;
    for (size_t i = 0; i < item->logs.n_records; i++)
        if (number_of(item->logs.records[i].body) == hub->refused)
            return true;
    return false;
}

static void store(struct rig_hub *hub, const struct spool_item *item)
{
    if (item->is_skip) {
        hub->n_skips++;
        hub->skipped[item->reason] += item->records;
    } else if (item->scrape.layout) {
        ck_assert_uint_eq(item->records, RIG_SAMPLES);
        ck_assert_uint_eq(item->scrape.layout->n_series, RIG_SAMPLES + 1);
        ck_assert_str_eq(item->scrape.layout->series[9]->name, "test.j");
        ck_assert_uint_eq(item->scrape.n_absent, 1);
        ck_assert_uint_eq(item->scrape.absent[0], RIG_SAMPLES);
        see(hub, (uint64_t) item->scrape.values[0]);
    } else {
        ck_assert_uint_eq(item->records, item->logs.n_records);
        for (size_t i = 0; i < item->logs.n_records; i++) {
            uint64_t number = number_of(item->logs.records[i].body);

            ck_assert_int_eq(item->logs.records[i].time_us, (int64_t) (1000 + number));
            ck_assert_uint_eq(item->logs.records[i].source_offset, number);
            ck_assert_uint_eq(item->logs.records[i].n_attributes, 1);
            see(hub, number);
        }
    }
}

static size_t run_of(struct rig_hub *hub, const uint8_t *id)
{
    size_t i = 0;

    while (i < hub->n_runs && memcmp(hub->runs[i].id, id, SPOOL_ID_BYTES) != 0)
        i++;
    if (i == hub->n_runs) {
        ck_assert_uint_lt(hub->n_runs, 512);
        memcpy(hub->runs[hub->n_runs++].id, id, SPOOL_ID_BYTES);
    }
    return i;
}

bool rig_stream(struct rig *rig,
                struct rig_hub *hub,
                enum spool_signal signal,
                enum spool_lane lane,
                unsigned max,
                unsigned n_acked)
{
    CLEANUP(spool_reader_closep) struct spool_reader *reader = NULL;
    struct spool_item item;
    struct spool_run run;
    unsigned n = 0;
    size_t at;

    if (spool_reader_open(&reader, rig->spool, signal, lane) == SPOOL_EMPTY)
        return false;
    spool_reader_get_run(reader, &run);
    at = run_of(hub, run.id);
    ck_assert_uint_ge(run.last_sequence, hub->runs[at].last);
    ck_assert_uint_le(run.first_sequence, hub->runs[at].last + 1);
    if (run.first_sequence == hub->runs[at].last + 1)
        ck_assert_uint_eq(run.crc32c_before_first, hub->runs[at].crc32c);
    ck_assert_int_eq(spool_reader_resume(reader, hub->runs[at].last), 0);
    while (n < max && spool_read(reader, &item) == 0) {
        if (is_refused(hub, &item)) {
            ck_assert_int_eq(spool_refuse(reader, "told by the test"), 0);
            return true;
        }
        ck_assert_uint_gt(item.sequence, hub->runs[at].last);
        if (!item.is_skip)
            ck_assert_uint_eq(item.sequence, hub->runs[at].last + 1);
        store(hub, &item);
        hub->runs[at].last = item.sequence;
        hub->runs[at].crc32c = item.crc32c;
        if (n++ < n_acked)
            ck_assert_int_eq(spool_acknowledge(reader, item.sequence), 0);
    }
    return n > 0 || lane == SPOOL_BACKFILL; /* resuming may have been all that it took */
}

void rig_drain(struct rig *rig, struct rig_hub *hub, enum spool_signal signal)
{
    bool is_going = true;

    while (is_going) {
        is_going = rig_stream(rig, hub, signal, SPOOL_LIVE, RIG_MAX, RIG_MAX);
        is_going = rig_stream(rig, hub, signal, SPOOL_BACKFILL, RIG_MAX, RIG_MAX) || is_going;
    }
    ck_assert_uint_eq(rig_ledger(rig, signal).queued, 0);
}

bool rig_is_below(void *ctx, const struct spool_item *item)
{
    const double *limit = ctx;

    if (item->scrape.layout)
        return item->scrape.values[0] < *limit;
    for (size_t i = 0; i < item->logs.n_records; i++)
        if (strtod((const char *) item->logs.records[i].body.data, NULL) >= *limit)
            return false;
    return true;
}

void rig_put_many(struct rig *rig, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++)
        rig_put(rig, (double) i);
}

void rig_set_limit(struct rig *rig,
                   enum spool_signal signal,
                   uint64_t bytes,
                   enum spool_policy policy)
{
    spool_set_limits(rig->spool, signal,
                     &(struct spool_limits){ .limit_bytes = bytes, .policy = policy });
}

void rig_expect_seen(const struct rig_hub *hub, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++)
        ck_assert_msg(hub->seen[i] == 1, "%llu came %u times", (unsigned long long) i,
                      (unsigned) hub->seen[i]);
}
