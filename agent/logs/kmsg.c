/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The kernel's log. Its records are numbered, in each boot from 0; the number behind the last one
 * is committed with them, beside the boot's id. What the kernel overwrote before it was read is
 * counted by the gap, and said in a record of its own.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/logs/export.h"
#include "agent/logs/inside.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/log/log.h"

#define RECORD_BYTES 8192 /* the kernel's own limit */
#define MAX_RECORDS 1024  /* in one turn of the loop */
#define BOOT_ID_BYTES 36

static const char key[] = "kmsg";

struct kmsg {
    struct logs *logs;
    struct loop_file file;
    struct batch batch;
    char boot_id[BOOT_ID_BYTES + 1];
    uint64_t next; /* the number that is not read yet */
    uint64_t committed;
    uint64_t lost; /* in the batch */
    bool is_known; /* the kernel's log was read before, in this boot or an earlier one */
    bool is_new;   /* passed over, and that is not committed yet */
    bool is_blocked;
    char state[64];
};

static void read_boot_id(struct kmsg *kmsg)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    char path[512];

    snprintf(path, sizeof(path), "%s/proc/sys/kernel/random/boot_id", kmsg->logs->plan->root);
    if (file_read(path, 256, &text) == 0 && text.len >= BOOT_ID_BYTES)
        memcpy(kmsg->boot_id, text.data, BOOT_ID_BYTES);
}

/* "boot id, space, number" */
static void read_place(struct kmsg *kmsg)
{
    char text[96];
    struct span value;
    char *end;

    if (!spool_get_offset(kmsg->logs->spool, span_of_text(key), &value) ||
        value.len >= sizeof(text))
        return;
    kmsg->is_known = true;
    memcpy(text, value.data, value.len);
    text[value.len] = '\0';
    if (strncmp(text, kmsg->boot_id, BOOT_ID_BYTES) != 0 || text[BOOT_ID_BYTES] != ' ')
        return;
    kmsg->next = strtoull(text + BOOT_ID_BYTES + 1, &end, 10);
    kmsg->committed = kmsg->next;
}

/* Outcomes: SPOOL_FULL. */
static int put(struct kmsg *kmsg)
{
    char place[96];
    int r;

    if (kmsg->next == kmsg->committed && !kmsg->is_new)
        return 0;
    snprintf(place, sizeof(place), "%s %" PRIu64, kmsg->boot_id, kmsg->next);
    r = batch_put(&kmsg->batch, &(struct spool_offset){ span_of_text(key), span_of_text(place) });
    if (r)
        return r == SPOOL_FULL ? r : pass(r);
    kmsg->committed = kmsg->next;
    kmsg->is_new = false;
    kmsg->logs->status.n_kernel_lost += kmsg->lost;
    kmsg->lost = 0;
    return 0;
}

static int64_t boot_to_wall_us(int64_t boot_us)
{
    struct timespec now;

    /* Its clock stops in sleep, as CLOCK_MONOTONIC does. */
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0)
        return clock_wall().us;
    return clock_wall().us - ((int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000 - boot_us);
}

static int add_lost(struct kmsg *kmsg, uint64_t n)
{
    char text[96];
    struct spool_log_record record = { .severity = text_severity_of_priority(4),
                                       .time_us = clock_wall().us };
    const int len = snprintf(text, sizeof(text),
                             "%" PRIu64 " messages of the kernel were overwritten unread", n);

    record.body = span_of(text, (size_t) len);
    kmsg->lost += n;
    return pass(batch_add(&kmsg->batch, &record, NULL, 0));
}

static struct span facility_of(const struct kmsg_record *record)
{
    static const char *const names[] = { "kern",         "user",   "mail",   "daemon",   "auth",
                                         "syslog",       "lpr",    "news",   "uucp",     "cron",
                                         "authpriv",     "ftp",    "ntp",    "security", "console",
                                         "solaris-cron", "local0", "local1", "local2",   "local3",
                                         "local4",       "local5", "local6", "local7" };
    const unsigned number = record->priority >> 3;

    return span_of_text(number < sizeof(names) / sizeof(names[0]) ? names[number] : "unknown");
}

static int add(struct kmsg *kmsg, const struct kmsg_record *record)
{
    struct spool_log_attribute attributes[2] = {
        { span_of_text("syslog.facility"), facility_of(record) },
    };
    struct spool_log_record row = {
        .time_us = boot_to_wall_us(record->boot_us),
        .severity = text_severity_of_priority(record->priority),
        .source_offset = record->sequence,
        .body = record->message,
    };
    size_t n = 1;
    int r = 0;

    /* One that was read before, in this boot or an earlier one, has them all from then on. */
    if (kmsg->is_known && record->sequence > kmsg->next)
        r = add_lost(kmsg, record->sequence - kmsg->next);
    n += batch_bound_time(&kmsg->batch, &row, &attributes[1]);
    if (r == 0)
        r = batch_add(&kmsg->batch, &row, attributes, n);
    if (r == 0) {
        kmsg->next = record->sequence + 1;
        kmsg->is_known = true;
    }
    return pass(r);
}

static void begin(struct kmsg *kmsg)
{
    const struct spool_log_source source = { .type = span_of_text("kmsg"),
                                             .name = span_of_text("kernel") };

    batch_begin(&kmsg->batch, &source);
}

/* From the records behind the committed one on: after a full spool, and at the start. */
static void seek(struct kmsg *kmsg)
{
    kmsg->next = kmsg->committed;
    kmsg->lost = 0;
    (void) lseek(kmsg->file.fd, 0, SEEK_SET);
    begin(kmsg);
}

/* What is there at the first start is not wanted. Where it ends is committed by the first look, so
 * that what comes while the agent is off is not taken for it. */
static void pass_over(struct kmsg *kmsg)
{
    char text[RECORD_BYTES + 1];
    struct kmsg_record record;
    ssize_t n;

    while ((n = read(kmsg->file.fd, text, sizeof(text) - 1)) > 0 || (n < 0 && errno == EPIPE))
        if (n > 0 && kmsg_parse(text, (size_t) n, &record))
            kmsg->next = record.sequence + 1;
    kmsg->is_known = kmsg->is_new = true;
    kmsg->committed = kmsg->next;
}

void kmsg_settle(struct kmsg *kmsg)
{
    if (kmsg->is_new && !kmsg->is_blocked)
        (void) put(kmsg); /* a full spool: at the next look */
}

static int read_all(struct kmsg *kmsg)
{
    char text[RECORD_BYTES + 1];
    struct kmsg_record record;
    int r = 0;

    for (int i = 0; i < MAX_RECORDS && r == 0; i++) {
        const ssize_t n = read(kmsg->file.fd, text, sizeof(text) - 1);

        if (n < 0 && errno == EPIPE)
            continue; /* overwritten meanwhile: the next number tells how many */
        if (n <= 0)
            break;
        if (!kmsg_parse(text, (size_t) n, &record) || record.sequence < kmsg->next)
            continue;
        if (batch_is_full(&kmsg->batch))
            r = put(kmsg);
        if (r == 0)
            r = add(kmsg, &record);
    }
    if (r == 0)
        r = put(kmsg);
    return r == SPOOL_FULL ? r : pass(r);
}

static void on_readable(struct loop_file *file, uint32_t events)
{
    struct kmsg *kmsg = file->ctx;
    int r;

    (void) events;
    r = read_all(kmsg);
    if (r < 0)
        seek(kmsg); /* no memory: what is not committed is read again */
    if (r == SPOOL_FULL) {
        kmsg->is_blocked = true;
        kmsg->logs->is_blocked = true;
        ensure(loop_file_change(kmsg->logs->loop, file, 0) == 0);
    }
}

int kmsg_new(struct kmsg **ret, struct logs *logs)
{
    struct kmsg *kmsg = calloc(1, sizeof(*kmsg));
    char path[512];
    int r;

    if (!kmsg)
        return fault(-ENOMEM, "no memory for the kernel's log");
    kmsg->logs = logs;
    kmsg->file = (struct loop_file){ .fd = -1, .events = EPOLLIN, .fn = on_readable, .ctx = kmsg };
    r = batch_init(&kmsg->batch, logs);
    if (r) {
        kmsg_free(kmsg);
        return pass(r);
    }
    *ret = kmsg;
    snprintf(path, sizeof(path), "%s/dev/kmsg", logs->plan->root);
    kmsg->file.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (kmsg->file.fd < 0) {
        snprintf(kmsg->state, sizeof(kmsg->state), "%s", strerror(errno));
        logs_say(logs, "kernel_log_unreadable", path, kmsg->state);
        return 0;
    }
    read_boot_id(kmsg);
    read_place(kmsg);
    seek(kmsg);
    if (!kmsg->is_known && !logs->plan->from_beginning)
        pass_over(kmsg);
    snprintf(kmsg->state, sizeof(kmsg->state), "running");
    return pass(loop_file_add(logs->loop, &kmsg->file));
}

struct kmsg *kmsg_free(struct kmsg *kmsg)
{
    if (!kmsg)
        return NULL;
    if (kmsg->file.is_added)
        loop_file_remove(kmsg->logs->loop, &kmsg->file);
    if (kmsg->file.fd >= 0)
        close(kmsg->file.fd);
    batch_deinit(&kmsg->batch);
    free(kmsg);
    return NULL;
}

void kmsg_on_room(struct kmsg *kmsg)
{
    if (!kmsg->is_blocked)
        return;
    kmsg->is_blocked = false;
    seek(kmsg);
    ensure(loop_file_change(kmsg->logs->loop, &kmsg->file, EPOLLIN) == 0);
}

const char *kmsg_state(const struct kmsg *kmsg)
{
    return kmsg->state;
}
