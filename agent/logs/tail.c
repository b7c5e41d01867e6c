/* SPDX-License-Identifier: Apache-2.0 */

/* One file: what it is known by, and reading on. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/logs/inside.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/base/file.h"
#include "common/crypto/crypto.h"

/*
 * A mark (little-endian):
 *
 *    0 +---------+----------+------------+------------+
 *      | version | is_done  | head bytes | last bytes |   u8, u8, u16, u16
 *    6 +---------+----------+------------+------------+
 *      | offset u64 | born i64 us | time i64 us | part u32 |
 *   34 +------------------------------------------------+
 *      | head hash 16 | last hash 16 | path, to the end  |
 *      +-----------------------------------------------+
 *
 * Hashes are the first 16 bytes of a SHA-256: of the first `head bytes` of the file, and of the
 * `last bytes` before the offset.
 */
#define MARK_VERSION 1
#define MARK_FIXED_BYTES 66

static void put_number(struct buf *to, uint64_t value, size_t n)
{
    uint8_t bytes[8];

    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t) (value >> (8 * i));
    buf_append(to, bytes, n);
}

static uint64_t get_number(const uint8_t *from, size_t n)
{
    uint64_t value = 0;

    for (size_t i = n; i-- > 0;)
        value = value << 8 | from[i];
    return value;
}

void mark_key(dev_t device, ino_t inode, uint8_t to[static MARK_KEY_BYTES])
{
    to[0] = 'f';
    for (size_t i = 0; i < 8; i++) {
        to[1 + i] = (uint8_t) ((uint64_t) device >> (8 * i));
        to[9 + i] = (uint8_t) ((uint64_t) inode >> (8 * i));
    }
}

void mark_print(const struct mark *mark, struct buf *to)
{
    put_number(to, MARK_VERSION, 1);
    put_number(to, mark->is_done, 1);
    put_number(to, mark->head_bytes, 2);
    put_number(to, mark->last_bytes, 2);
    put_number(to, mark->offset, 8);
    put_number(to, (uint64_t) mark->born_us, 8);
    put_number(to, (uint64_t) mark->time_us, 8);
    put_number(to, mark->part, 4);
    buf_append(to, mark->head, sizeof(mark->head));
    buf_append(to, mark->last, sizeof(mark->last));
    buf_append_text(to, mark->path);
}

bool mark_parse(struct span value, struct mark *ret)
{
    const uint8_t *from = value.data;
    const size_t path_bytes = value.len - MARK_FIXED_BYTES;
    struct mark mark = { 0 };

    if (value.len <= MARK_FIXED_BYTES || from[0] != MARK_VERSION || path_bytes > MARK_PATH_BYTES ||
        memchr(from + MARK_FIXED_BYTES, 0, path_bytes))
        return false;
    mark.is_done = from[1] != 0;
    mark.head_bytes = (uint32_t) get_number(from + 2, 2);
    mark.last_bytes = (uint32_t) get_number(from + 4, 2);
    mark.offset = get_number(from + 6, 8);
    mark.born_us = (int64_t) get_number(from + 14, 8);
    mark.time_us = (int64_t) get_number(from + 22, 8);
    mark.part = (uint32_t) get_number(from + 30, 4);
    memcpy(mark.head, from + 34, sizeof(mark.head));
    memcpy(mark.last, from + 50, sizeof(mark.last));
    memcpy(mark.path, from + MARK_FIXED_BYTES, path_bytes);
    if (mark.head_bytes > MARK_HEAD_BYTES || mark.last_bytes > MARK_LAST_BYTES ||
        mark.last_bytes > mark.offset || mark.offset > INT64_MAX)
        return false;
    *ret = mark;
    return true;
}

/* ---- what a file is known by ---- */

bool tail_stat(int fd, struct stat *ret, int64_t *ret_born_us)
{
    struct statx stx;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &stx) != 0)
        return false;
    *ret = (struct stat){
        .st_dev = makedev(stx.stx_dev_major, stx.stx_dev_minor),
        .st_ino = stx.stx_ino,
        .st_mode = stx.stx_mode,
        .st_nlink = stx.stx_nlink,
        .st_size = (off_t) stx.stx_size,
        .st_mtim = { .tv_sec = stx.stx_mtime.tv_sec, .tv_nsec = stx.stx_mtime.tv_nsec },
        .st_ctim = { .tv_sec = stx.stx_ctime.tv_sec, .tv_nsec = stx.stx_ctime.tv_nsec },
    };
    *ret_born_us = stx.stx_mask & STATX_BTIME
                       ? stx.stx_btime.tv_sec * 1000000 + stx.stx_btime.tv_nsec / 1000
                       : 0;
    return true;
}

static void hash(struct span bytes, uint8_t to[static MARK_HASH_BYTES])
{
    uint8_t whole[CRYPTO_SHA256_BYTES];

    crypto_sha256(bytes, whole);
    memcpy(to, whole, MARK_HASH_BYTES);
}

/* Of so many bytes at a place; false: they are not there. */
static bool hash_at(int fd, uint64_t at, size_t n, uint8_t to[static MARK_HASH_BYTES])
{
    uint8_t bytes[MARK_HEAD_BYTES];

    ensure(n <= sizeof(bytes));
    if (n > 0 && pread(fd, bytes, n, (off_t) at) != (ssize_t) n)
        return false;
    hash(span_of(bytes, n), to);
    return true;
}

bool mark_fits(const struct mark *mark, int fd, uint64_t size)
{
    uint8_t hash[MARK_HASH_BYTES];

    if (size < mark->offset || size < mark->head_bytes)
        return false;
    if (mark->head_bytes > 0 &&
        (!hash_at(fd, 0, mark->head_bytes, hash) || memcmp(hash, mark->head, sizeof(hash)) != 0))
        return false;
    return mark->last_bytes == 0 ||
           (hash_at(fd, mark->offset - mark->last_bytes, mark->last_bytes, hash) &&
            memcmp(hash, mark->last, sizeof(hash)) == 0);
}

void mark_renew(struct mark *mark, int fd)
{
    const uint32_t head =
        mark->offset < MARK_HEAD_BYTES ? (uint32_t) mark->offset : MARK_HEAD_BYTES;
    const uint32_t last =
        mark->offset < MARK_LAST_BYTES ? (uint32_t) mark->offset : MARK_LAST_BYTES;

    /* A file that shrinks at this moment has no hash: the next look finds that out. */
    if (head != mark->head_bytes && hash_at(fd, 0, head, mark->head))
        mark->head_bytes = head;
    mark->last_bytes = hash_at(fd, mark->offset - last, last, mark->last) ? last : 0;
    mark->time_us = clock_wall().us;
}

bool tail_is_copy(const struct tail *tail, int fd, uint64_t size)
{
    const struct mark *mark = &tail->mark;
    uint8_t bytes[MARK_HEAD_BYTES], own[MARK_HEAD_BYTES], head[MARK_HASH_BYTES];

    if (mark->offset == 0 || size == 0 || mark->head_bytes == 0)
        return false;
    if (mark_fits(mark, fd, size))
        return true;
    /* Shorter than what was read by now: made before the last lines came. */
    if (size >= mark->offset)
        return false;
    if (size >= mark->head_bytes)
        return hash_at(fd, 0, mark->head_bytes, head) &&
               memcmp(head, mark->head, sizeof(head)) == 0;
    return pread(fd, bytes, (size_t) size, 0) == (ssize_t) size &&
           pread(tail->fd, own, (size_t) size, 0) == (ssize_t) size &&
           memcmp(bytes, own, (size_t) size) == 0;
}

/* ---- reading ---- */

#define READ_MORE_BYTES ((size_t) 128 << 10) /* behind one record of the longest */
#define GROWN_BYTES ((size_t) 4096)          /* behind the size that was seen */

static int put(struct tail *tail, const struct mark *mark)
{
    CLEANUP(buf_deinit) struct buf value = { 0 };
    uint8_t key[MARK_KEY_BYTES];
    int r;

    mark_key(tail->device, tail->inode, key);
    mark_print(mark, &value);
    if (buf_failed(&value))
        return fault(-ENOMEM, "no memory for a mark");
    faultpoint("logs_before_put");
    r = batch_put(&tail->logs->batch,
                  &(struct spool_offset){ span_of(key, sizeof(key)), buf_span(&value) });
    faultpoint("logs_after_put");
    if (r == SPOOL_FULL)
        return SPOOL_FULL;
    return pass(r);
}

static void begin_batch(struct tail *tail, struct spool_log_attribute *attributes)
{
    const struct logs *logs = tail->logs;
    const struct spool_log_source source = {
        .type = span_of_text("file"),
        .name = span_of_text(tail->mark.path),
        .attributes = attributes,
        .n_attributes =
            plan_attributes(logs->plan, tail->mark.path, attributes, BATCH_MAX_ATTRIBUTES),
    };

    batch_begin(&tail->logs->batch, &source);
}

int tail_commit(struct tail *tail)
{
    struct spool_log_attribute attributes[BATCH_MAX_ATTRIBUTES];
    int r;

    begin_batch(tail, attributes);
    r = put(tail, &tail->mark);
    /* Of an offset alone a full spool takes no notice; it is written with the next lines. */
    return r < 0 ? pass(r) : 0;
}

/* One record into the batch; its parts are numbered. */
static int add(struct tail *tail, struct mark *mark, const struct text_record *record)
{
    char number[16];
    struct spool_log_attribute part = { span_of_text("log.record.part"), { 0 } };
    const bool is_part = record->is_part || mark->part > 0;
    const struct spool_log_record row = { .source_offset = mark->offset, .body = record->body };
    int len;

    mark->offset += record->n_consumed;
    if (!is_part)
        return record->body.len > 0 ? pass(batch_add(&tail->logs->batch, &row, NULL, 0)) : 0;
    mark->part++;
    len = snprintf(number, sizeof(number), "%u%s", mark->part, record->is_part ? "" : " last");
    if (!record->is_part)
        mark->part = 0;
    tail->logs->status.n_parts++;
    part.value = batch_keep(&tail->logs->batch, span_of(number, (size_t) len));
    return part.value.data ? pass(batch_add(&tail->logs->batch, &row, &part, 1))
                           : fault(-ENOMEM, "no memory for a part of a record");
}

/* Whether what is behind the offset without an end is a record for good. */
static bool is_whole(const struct tail *tail, mono_us now)
{
    const int64_t quiet_us = now.us - tail->quiet_since.us;

    if (tail->is_rotated)
        return quiet_us >= tail->logs->plan->rotated_grace_us;
    return tail->begin && quiet_us >= tail->logs->plan->multiline_timeout_us;
}

/* Records of a text that stands at mark->offset, as many as the batch takes. */
static int add_all(struct tail *tail, struct mark *mark, struct span text, bool is_end)
{
    const struct text_rule rule = {
        .begin = tail->begin,
        .max_bytes = logs_max_record(tail->logs),
        .max_lines = 500,
    };
    const mono_us now = clock_mono();
    struct text_record record;
    bool whole = is_end && is_whole(tail, now);

    /* Of lines that go together a half line at the end of a file that lives is not one of them. */
    if (whole && !tail->is_rotated) {
        const uint8_t *newline = memrchr(text.data, '\n', text.len);

        text.len = newline ? (size_t) (newline - text.data) + 1 : 0;
    }
    while (!batch_is_full(&tail->logs->batch) && text_next_record(text, &rule, whole, &record)) {
        int r = add(tail, mark, &record);

        if (r)
            return pass(r);
        text = span_of(text.data + record.n_consumed, text.len - record.n_consumed);
    }
    return 0;
}

/*
 * So much before the offset is read again, in the same call: whether it is still the file that the
 * mark is of is told by the bytes themselves, and new hashes are made of what was read, not of what
 * a truncation put in its place meanwhile.
 */
static size_t bytes_back(const struct mark *mark)
{
    return mark->offset <= MARK_HEAD_BYTES ? (size_t) mark->offset : MARK_LAST_BYTES;
}

/* `text` begins `back` bytes before the offset. */
static bool is_same_before(const struct mark *mark, const uint8_t *text, size_t back)
{
    uint8_t now[MARK_HASH_BYTES];

    if (mark->last_bytes == 0 || mark->last_bytes > back)
        return true;
    hash(span_of(text + back - mark->last_bytes, mark->last_bytes), now);
    return memcmp(now, mark->last, sizeof(now)) == 0;
}

/* `text` begins at `at` of the file, and reaches behind the mark's offset. */
static void renew_from(struct mark *mark, const uint8_t *text, uint64_t at)
{
    const uint32_t last =
        mark->offset - at < MARK_LAST_BYTES ? (uint32_t) (mark->offset - at) : MARK_LAST_BYTES;

    if (at == 0) {
        mark->head_bytes =
            mark->offset < MARK_HEAD_BYTES ? (uint32_t) mark->offset : MARK_HEAD_BYTES;
        hash(span_of(text, mark->head_bytes), mark->head);
    }
    mark->last_bytes = last;
    hash(span_of(text + (mark->offset - at) - last, last), mark->last);
    mark->time_us = clock_wall().us;
}

/* Most looks find a few lines: no memory for the longest record is mapped for them each time. */
static size_t room_for(const struct tail *tail, size_t back)
{
    const size_t most = tail->logs->plan->max_record_bytes + READ_MORE_BYTES;
    const uint64_t seen = tail->size - tail->mark.offset;

    return back + (seen < most - GROWN_BYTES ? (size_t) seen + GROWN_BYTES : most);
}

/* *ret_has_moved: the offset is another one, and committed. Outcomes: SPOOL_FULL. */
static int read_once(struct tail *tail, size_t *budget_bytes, bool *ret_has_moved)
{
    struct spool_log_attribute attributes[BATCH_MAX_ATTRIBUTES];
    const size_t back = bytes_back(&tail->mark);
    const size_t room = room_for(tail, back);
    uint8_t *text = malloc(room);
    struct mark mark = tail->mark;
    ssize_t n;
    int r = 0;

    if (!text)
        return fault(-ENOMEM, "no memory to read a log");
    *ret_has_moved = false;
    n = pread(tail->fd, text, room, (off_t) (mark.offset - back));
    if (n > (ssize_t) back && is_same_before(&mark, text, back)) {
        begin_batch(tail, attributes);
        r = add_all(tail, &mark, span_of(text + back, (size_t) n - back), (size_t) n < room);
    } else if (n < 0) {
        logs_say(tail->logs, "log_unreadable", tail->mark.path, strerror(errno));
    }
    if (r == 0 && mark.offset != tail->mark.offset) {
        renew_from(&mark, text, tail->mark.offset - back);
        r = put(tail, &mark);
    }
    if (r == 0 && mark.offset != tail->mark.offset) {
        const size_t n_taken = (size_t) (mark.offset - tail->mark.offset);

        *budget_bytes -= n_taken < *budget_bytes ? n_taken : *budget_bytes;
        *ret_has_moved = true;
        tail->mark = mark;
    }
    free(text);
    return r == SPOOL_FULL ? r : pass(r);
}

/* Looks at the file; false: it cannot be read any more, or is another one. */
static bool look(struct tail *tail)
{
    struct stat st;
    int64_t born_us, changed_us;

    if (!tail_stat(tail->fd, &st, &born_us))
        return false;
    changed_us = st.st_mtim.tv_sec * 1000000 + st.st_mtim.tv_nsec / 1000;
    if ((uint64_t) st.st_size != tail->size || changed_us != tail->changed_us) {
        tail->quiet_since = clock_mono();
        tail->is_checked = false;
    }
    tail->size_before = tail->size;
    tail->size = (uint64_t) st.st_size;
    tail->changed_us = changed_us;
    if (!tail->is_checked)
        tail->is_checked = mark_fits(&tail->mark, tail->fd, tail->size);
    return tail->is_checked;
}

static bool is_over(const struct tail *tail)
{
    return tail->is_rotated &&
           clock_mono().us - tail->quiet_since.us >= tail->logs->plan->rotated_grace_us;
}

int tail_read(struct tail *tail, size_t *budget_bytes, enum tail_state *ret)
{
    *ret = TAIL_IDLE;
    if (!look(tail)) {
        *ret = TAIL_TRUNCATED;
        return 0;
    }
    while (tail->size > tail->mark.offset) {
        bool has_moved;
        int r;

        if (*budget_bytes == 0) {
            *ret = TAIL_MORE;
            return 0;
        }
        r = read_once(tail, budget_bytes, &has_moved);
        if (r == SPOOL_FULL) {
            *ret = TAIL_BLOCKED;
            return 0;
        }
        if (r)
            return pass(r);
        if (!has_moved)
            break; /* half a line, or half a record */
    }
    if (is_over(tail))
        *ret = TAIL_OVER;
    return 0;
}

struct tail *tail_free(struct tail *tail)
{
    if (!tail)
        return NULL;
    if (tail->fd >= 0)
        close(tail->fd);
    free(tail);
    return NULL;
}
