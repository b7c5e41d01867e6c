/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Which files are followed. A look at the patterns finds files by their paths; a look beside each
 * that is followed finds those that were renamed or copied away from it.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <glob.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "agent/logs/inside.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/crypto/crypto.h"
#include "common/log/log.h"

#define BUDGET_BYTES ((size_t) 4 << 20) /* of one turn of the loop, all files together */
/* Marks that nobody has seen for so long go; those of files that are seen are renewed before. */
#define FORGET_US (INT64_C(7) * 24 * 3600 * 1000000)
#define RENEW_US (FORGET_US / 4)
#define MAX_FORGET 256
/* Of marks: above it those go that were not renewed as they should have been; far above it, so that
 * the spool's table (SPOOL_MAX_OFFSETS) never stops the reading, those of an hour ago, and what
 * still lies there is read again. */
#define MANY_MARKS 4096
#define TOO_MANY_MARKS 12288
#define HOUR_US (INT64_C(3600) * 1000000)

/* ---- what may be followed ---- */

static bool is_compressed(const char *path)
{
    static const char *const suffixes[] = { ".gz", ".xz", ".bz2", ".zst", ".Z", ".lz4", ".zip" };
    const size_t len = strlen(path);

    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        const size_t n = strlen(suffixes[i]);

        if (len > n && strcmp(path + len - n, suffixes[i]) == 0)
            return true;
    }
    return false;
}

static bool is_excluded(const struct plan *plan, const char *path)
{
    for (size_t i = 0; i < plan->n_files_exclude; i++)
        if (fnmatch(plan->files_exclude[i], path, FNM_PATHNAME) == 0)
            return true;
    return is_compressed(path);
}

/* statfs(2)'s numbers of file systems that another machine, or a program, answers for. */
static bool is_remote(int fd)
{
    static const unsigned long types[] = {
        0x6969 /* nfs */,      0xff534d42 /* cifs */, 0xfe534d42 /* smb2 */,
        0x517b /* smb */,      0x01021997 /* 9p */,   0x65735546 /* fuse */,
        0x00c36400 /* ceph */, 0x5346414f /* afs */,  0x0bd00bd0 /* lustre */,
    };
    struct statfs fs;

    if (fstatfs(fd, &fs) != 0)
        return false;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if ((unsigned long) fs.f_type == types[i])
            return true;
    return false;
}

static struct tail *find_tail(const struct tails *tails, dev_t device, ino_t inode)
{
    list_each(node, &tails->all)
    {
        struct tail *tail = container_of(node, struct tail, node);

        if (tail->device == device && tail->inode == inode)
            return tail;
    }
    return NULL;
}

/* An inode that was born at another time is another file. */
static bool
get_mark(const struct logs *logs, const struct stat *st, int64_t born_us, struct mark *ret)
{
    uint8_t key[MARK_KEY_BYTES];
    struct span value;

    mark_key(st->st_dev, st->st_ino, key);
    return spool_get_offset(logs->spool, span_of(key, sizeof(key)), &value) &&
           mark_parse(value, ret) && (!ret->born_us || !born_us || ret->born_us == born_us);
}

/*
 * Since when a pattern has been followed: "p", the first 16 bytes of its SHA-256 -> microseconds
 * since 1970 as text. Written behind the first look, in which every file that was there got its
 * mark: so a file without one came later.
 */
static void pattern_key(const char *pattern, uint8_t to[static MARK_KEY_BYTES])
{
    uint8_t hash[CRYPTO_SHA256_BYTES];

    to[0] = 'p';
    crypto_sha256(span_of_text(pattern), hash);
    memcpy(to + 1, hash, MARK_KEY_BYTES - 1);
}

static int64_t pattern_since_us(const struct logs *logs, const char *pattern)
{
    uint8_t key[MARK_KEY_BYTES];
    struct span value;
    char text[32];

    pattern_key(pattern, key);
    if (!spool_get_offset(logs->spool, span_of(key, sizeof(key)), &value) ||
        value.len >= sizeof(text))
        return 0;
    memcpy(text, value.data, value.len);
    text[value.len] = '\0';
    return strtoll(text, NULL, 10);
}

static int commit_pattern(struct logs *logs, const char *pattern)
{
    const struct spool_log_source source = { .type = span_of_text("file"),
                                             .name = span_of_text("-") };
    uint8_t key[MARK_KEY_BYTES];
    char text[32];
    int r;

    pattern_key(pattern, key);
    snprintf(text, sizeof(text), "%lld", (long long) clock_wall().us);
    batch_begin(&logs->batch, &source);
    r = batch_put(&logs->batch,
                  &(struct spool_offset){ span_of(key, sizeof(key)), span_of_text(text) });
    return r < 0 ? pass(r) : 0; /* a full spool: the next look does it */
}

/* Of the patterns that a path is of, the first; 0: none of them was looked at before. */
static int64_t path_since_us(const struct logs *logs, const char *path)
{
    int64_t first_us = 0;

    for (size_t i = 0; i < logs->plan->n_files; i++) {
        const int64_t since_us = fnmatch(logs->plan->files[i], path, FNM_PATHNAME) == 0
                                     ? pattern_since_us(logs, logs->plan->files[i])
                                     : 0;

        if (since_us && (!first_us || since_us < first_us))
            first_us = since_us;
    }
    return first_us;
}

/* ---- adding ---- */

static int add_tail(struct logs *logs, int *fd, const struct stat *st, const struct mark *mark)
{
    struct tail *tail = calloc(1, sizeof(*tail));

    if (!tail)
        return fault(-ENOMEM, "no memory to follow a log");
    tail->logs = logs;
    tail->fd = *fd;
    *fd = -1;
    tail->device = st->st_dev;
    tail->inode = st->st_ino;
    tail->mark = *mark;
    tail->quiet_since = clock_mono();
    tail->begin = plan_multiline(logs->plan, mark->path);
    list_append(&logs->tails.all, &tail->node);
    logs->tails.n++;
    return 0;
}

/* Behind the last line that is whole. */
static uint64_t end_of_lines(int fd, uint64_t size)
{
    uint8_t bytes[4096];
    uint64_t at = size;

    while (at > 0) {
        const size_t n = at < sizeof(bytes) ? (size_t) at : sizeof(bytes);
        const uint8_t *newline;

        if (pread(fd, bytes, n, (off_t) (at - n)) != (ssize_t) n)
            return size;
        newline = memrchr(bytes, '\n', n);
        if (newline)
            return at - n + (uint64_t) (newline - bytes) + 1;
        at -= n;
    }
    return 0;
}

struct candidate {
    const char *path;   /* where it was found */
    const char *source; /* under which name its lines go */
    bool is_beside;     /* not by a pattern: next to a file that is followed */
    bool known_only;
};

/* Where a file that has no mark begins to be read; false: not at all. */
static bool place_of_new(struct logs *logs,
                         const struct candidate *candidate,
                         int fd,
                         const struct stat *st,
                         struct mark *mark)
{
    const int64_t changed_us = st->st_mtim.tv_sec * 1000000 + st->st_mtim.tv_nsec / 1000;
    const int64_t since_us = path_since_us(logs, candidate->source);

    if (candidate->is_beside)
        return since_us && (mark->born_us ? mark->born_us : changed_us) >= since_us;
    if (!since_us && !logs->plan->from_beginning) {
        mark->offset = end_of_lines(fd, (uint64_t) st->st_size);
        mark_renew(mark, fd);
    }
    return true;
}

/* A copy of a file that is followed: its rest is read from it once the other is truncated. */
static bool is_copy(const struct logs *logs, int fd, uint64_t size)
{
    list_each(node, &logs->tails.all)
    {
        if (tail_is_copy(container_of(node, struct tail, node), fd, size))
            return true;
    }
    return false;
}

/* Nobody needs to look at this file again, unless it grows. */
static int settle(struct logs *logs, int fd, const struct stat *st, const struct mark *from)
{
    struct tail settled = { .logs = logs, .fd = fd, .device = st->st_dev, .inode = st->st_ino };

    settled.mark = *from;
    settled.mark.offset = (uint64_t) st->st_size;
    settled.mark.head_bytes = settled.mark.last_bytes = settled.mark.part = 0;
    settled.mark.is_done = true;
    mark_renew(&settled.mark, fd);
    return pass(tail_commit(&settled));
}

/* It is still there: its mark stays for as long as it does. */
static int renew(struct logs *logs, int fd, const struct stat *st, const struct mark *mark)
{
    struct tail seen = {
        .logs = logs, .fd = fd, .device = st->st_dev, .inode = st->st_ino, .mark = *mark
    };

    if (mark->time_us >= clock_wall().us - RENEW_US && mark->time_us <= clock_wall().us)
        return 0;
    seen.mark.time_us = clock_wall().us;
    return pass(tail_commit(&seen));
}

static int follow(struct logs *logs, const struct candidate *candidate, int *fd)
{
    struct stat st;
    struct mark mark, known;
    int64_t born_us;
    int r;

    if (!tail_stat(*fd, &st, &born_us) || !S_ISREG(st.st_mode) ||
        find_tail(&logs->tails, st.st_dev, st.st_ino))
        return 0;
    mark = (struct mark){ .born_us = born_us };
    snprintf(mark.path, sizeof(mark.path), "%s", candidate->source);
    if (get_mark(logs, &st, born_us, &known)) {
        if (known.is_done && known.offset == (uint64_t) st.st_size &&
            mark_fits(&known, *fd, known.offset))
            return pass(renew(logs, *fd, &st, &known));
        /* One that was truncated while nobody looked is found out at the first reading. */
        known.is_done = false;
        return pass(add_tail(logs, fd, &st, &known));
    }
    if (candidate->known_only || is_copy(logs, *fd, (uint64_t) st.st_size))
        return 0;
    /* A copy that is being made begins so: with something in it it is told what it is of. */
    if (candidate->is_beside && st.st_size == 0)
        return 0;
    if (!place_of_new(logs, candidate, *fd, &st, &mark))
        return pass(settle(logs, *fd, &st, &mark));
    r = add_tail(logs, fd, &st, &mark);
    /* Not only with its first line: what is there now must not count as new after a restart, and an
     * empty one that gets its lines and is renamed while nobody looks not as one of before. */
    if (r == 0)
        r = tail_commit(container_of(logs->tails.all.prev, struct tail, node));
    return pass(r);
}

static void drop(struct logs *logs, struct tail *tail)
{
    list_remove(&tail->node);
    logs->tails.n--;
    tail_free(tail);
}

/*
 * Of more files than may be followed, those that are written: the one that was not for longest, and
 * is read to its end, gives way to one that was since. Its mark is in the spool.
 */
static bool make_place(struct logs *logs, const struct candidate *candidate, const struct stat *st)
{
    const int64_t changed_us = st->st_mtim.tv_sec * 1000000 + st->st_mtim.tv_nsec / 1000;
    struct tail *oldest = NULL;

    if (candidate->is_beside)
        return false; /* asked while the list is walked over */
    list_each(node, &logs->tails.all)
    {
        struct tail *tail = container_of(node, struct tail, node);

        if (!tail->is_rotated && tail->is_checked && tail->size == tail->mark.offset &&
            tail->changed_us < changed_us && (!oldest || tail->changed_us < oldest->changed_us))
            oldest = tail;
    }
    if (oldest)
        drop(logs, oldest);
    return oldest != NULL;
}

static int try_file(struct logs *logs, const struct candidate *candidate)
{
    CLEANUP(fd_closep) int fd = -1;
    struct stat st;

    /* Asked without opening first: a FIFO would wait, and most are followed already. */
    if (stat(candidate->path, &st) != 0 || !S_ISREG(st.st_mode) ||
        find_tail(&logs->tails, st.st_dev, st.st_ino))
        return 0;
    if (logs->tails.n >= logs->plan->max_files && !make_place(logs, candidate, &st)) {
        logs_say(logs, "log_not_followed", candidate->path, "more files than logs.max_files");
        return 0;
    }
    fd = open(candidate->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        if (errno != ENOENT) {
            logs->status.n_unreadable++;
            logs_say(logs, "log_unreadable", candidate->path, strerror(errno));
        }
        return 0;
    }
    if (is_remote(fd)) {
        logs->status.n_unreadable++;
        logs_say(logs, "log_not_followed", candidate->path, "it lies on a network file system");
        return 0;
    }
    return pass(follow(logs, candidate, &fd));
}

/* ---- looking ---- */

static void watch_of(struct logs *logs, const char *path)
{
    char directory[PATH_MAX];
    char *slash;

    snprintf(directory, sizeof(directory), "%s", path);
    slash = strrchr(directory, '/');
    if (!slash)
        return;
    *slash = '\0';
    watch_directory(&logs->watch, directory[0] ? directory : "/");
}

/* `known_only`: files that have a mark. */
static int look_at_pattern(struct logs *logs, const char *pattern, bool known_only)
{
    char full[PATH_MAX];
    glob_t found;
    int r = 0;

    if (snprintf(full, sizeof(full), "%s%s", logs->plan->root, pattern) >= (int) sizeof(full))
        return 0;
    if (!strpbrk(full, "*?["))
        watch_of(logs, full); /* also before the file is there */
    if (glob(full, GLOB_NOSORT, NULL, &found) != 0)
        return 0;
    for (size_t i = 0; i < found.gl_pathc && r == 0; i++) {
        const char *shown = found.gl_pathv[i] + strlen(logs->plan->root);

        watch_of(logs, found.gl_pathv[i]);
        if (!is_excluded(logs->plan, shown) && strlen(shown) <= MARK_PATH_BYTES)
            r = try_file(logs, &(struct candidate){ .path = found.gl_pathv[i],
                                                    .source = shown,
                                                    .known_only = known_only });
    }
    globfree(&found);
    return r ? pass(r) : 0;
}

/*
 * What rotation puts behind a name, or before its ending: ".1", "-20261128",
 * ".2026-11-28T01:02:03.456Z", ".old". Anything else beside a log is not ours to read.
 */
static bool is_rotation(const char *text, size_t len)
{
    static const char *const words[] = { ".old", ".prev", ".bak", ".orig", "~" };
    bool has_digit = false;

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strlen(words[i]) == len && strncmp(words[i], text, len) == 0)
            return true;
    if (len < 2 || (text[0] != '.' && text[0] != '-' && text[0] != '_'))
        return false;
    for (size_t i = 1; i < len; i++) {
        const bool is_digit = text[i] >= '0' && text[i] <= '9';

        if (!is_digit && !strchr(".-_:+TZ", text[i]))
            return false;
        has_digit = has_digit || is_digit;
    }
    return has_digit;
}

static bool names_beside(const char *base, const char *name)
{
    const size_t n = strlen(base), len = strlen(name);
    const char *dot = strrchr(base, '.');
    const size_t stem = dot && dot != base ? (size_t) (dot - base) : n;
    const size_t ending = n - stem; /* with its dot */

    /* app.log.1, app.log-20261128; app-1.log */
    if (len > n && strncmp(name, base, n) == 0 && is_rotation(name + n, len - n))
        return true;
    return ending > 0 && len > n && strncmp(name, base, stem) == 0 &&
           strcmp(name + len - ending, base + stem) == 0 &&
           is_rotation(name + stem, len - ending - stem);
}

/* What each file of a directory is given to, as long as it says so. */
typedef int beside_fn(struct logs *logs, const char *path, void *ctx);

static int each_beside(struct logs *logs, const char *path, beside_fn *fn, void *ctx)
{
    char full[PATH_MAX], beside[PATH_MAX];
    const struct dirent *entry;
    const char *base;
    char *slash;
    DIR *directory;
    int r = 0;

    snprintf(full, sizeof(full), "%s%s", logs->plan->root, path);
    slash = strrchr(full, '/');
    ensure(slash != NULL);
    *slash = '\0';
    base = slash + 1;
    directory = opendir(full[0] ? full : "/");
    if (!directory)
        return 0;
    while (r == 0 && (entry = readdir(directory)) != NULL) {
        if (!names_beside(base, entry->d_name) || is_compressed(entry->d_name) ||
            snprintf(beside, sizeof(beside), "%s/%s", full, entry->d_name) >= (int) sizeof(beside))
            continue;
        r = fn(logs, beside, ctx);
    }
    closedir(directory);
    return r < 0 ? pass(r) : 0;
}

static int try_beside(struct logs *logs, const char *path, void *ctx)
{
    const char *source = ctx;

    return pass(
        try_file(logs, &(struct candidate){ .path = path, .source = source, .is_beside = true }));
}

static int try_known_beside(struct logs *logs, const char *path, void *ctx)
{
    const char *source = ctx;

    return pass(
        try_file(logs, &(struct candidate){ .path = path, .source = source, .known_only = true }));
}

/* What is known comes first, whatever its name is by now: a copy is told by the file that it is of.
 */
static int look_beside(struct logs *logs, char *path)
{
    int r = each_beside(logs, path, try_known_beside, path);

    return r ? pass(r) : pass(each_beside(logs, path, try_beside, path));
}

/* Whether its path is still its own. */
static void note_rotation(struct logs *logs, struct tail *tail)
{
    char full[PATH_MAX];
    struct stat st;

    if (tail->is_rotated)
        return;
    snprintf(full, sizeof(full), "%s%s", logs->plan->root, tail->mark.path);
    if (stat(full, &st) == 0 && st.st_dev == tail->device && st.st_ino == tail->inode)
        return;
    tail->is_rotated = true;
    tail->quiet_since = clock_mono();
    logs->status.n_rotated++;
}

int tails_scan(struct logs *logs)
{
    struct tails *tails = &logs->tails;
    int r = 0;

    logs->status.n_unreadable = 0;
    list_each(node, &tails->all)
    {
        note_rotation(logs, container_of(node, struct tail, node));
    }
    /* What is known comes first: a copy is told by the file that it is of. */
    for (size_t i = 0; i < logs->plan->n_files && r == 0 && !tails->has_scanned; i++)
        r = look_at_pattern(logs, logs->plan->files[i], true);
    /* Then those beside, which are older than what has their name by now. */
    for (size_t i = 0; i < logs->plan->n_files && r == 0; i++)
        if (!strpbrk(logs->plan->files[i], "*?["))
            r = look_beside(logs, logs->plan->files[i]);
    list_each_safe(node, &tails->all)
    {
        const struct tail *tail = container_of(node, struct tail, node);
        char source[MARK_PATH_BYTES + 1];

        if (r)
            break;
        snprintf(source, sizeof(source), "%s", tail->mark.path);
        r = look_beside(logs, source);
    }
    for (size_t i = 0; i < logs->plan->n_files && r == 0; i++)
        r = look_at_pattern(logs, logs->plan->files[i], false);
    for (size_t i = 0; i < logs->plan->n_files && r == 0; i++)
        if (pattern_since_us(logs, logs->plan->files[i]) == 0)
            r = commit_pattern(logs, logs->plan->files[i]);
    tails->has_scanned = true;
    return r ? pass(r) : 0;
}

/* ---- truncation ---- */

struct rest {
    struct tail *of;
    int fd; /* -1: none yet */
    bool is_wanted;
    struct stat st;
    int64_t born_us;
};

static int try_rest(struct logs *logs, const char *path, void *ctx)
{
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct rest *rest = ctx;
    struct mark mark = rest->of->mark, known;
    struct stat st;
    int64_t born_us;

    if (fd < 0 || !tail_stat(fd, &st, &born_us) || !S_ISREG(st.st_mode) ||
        find_tail(&logs->tails, st.st_dev, st.st_ino) || get_mark(logs, &st, born_us, &known) ||
        !tail_is_copy(rest->of, fd, (uint64_t) st.st_size))
        return 0;
    if (!rest->is_wanted || rest->fd >= 0 || (uint64_t) st.st_size <= rest->of->mark.offset) {
        mark.born_us = born_us;
        return pass(settle(logs, fd, &st, &mark));
    }
    rest->fd = fd;
    rest->st = st;
    rest->born_us = born_us;
    fd = -1;
    return 0;
}

/* Copies of a file hold nothing new when it is over, or begins anew; but one may have the rest. */
static int settle_copies(struct logs *logs, struct tail *tail, struct rest *rest)
{
    char path[MARK_PATH_BYTES + 1];

    *rest = (struct rest){ .of = tail, .fd = -1, .is_wanted = rest->is_wanted };
    if (tail->mark.offset == 0)
        return 0;
    snprintf(path, sizeof(path), "%s", tail->mark.path);
    return pass(each_beside(logs, path, try_rest, rest));
}

/* Another content under the same inode: the old one's rest is in a copy, if anywhere. */
static int on_truncated(struct logs *logs, struct tail *tail)
{
    struct rest rest = { .is_wanted = true };
    int64_t born_us = tail->mark.born_us;
    int r = settle_copies(logs, tail, &rest);

    if (r)
        return pass(r);
    logs->status.n_truncated++;
    if (rest.fd >= 0) {
        struct mark mark = tail->mark;
        struct tail *copy;

        mark.born_us = rest.born_us;
        r = add_tail(logs, &rest.fd, &rest.st, &mark);
        if (r)
            return pass(r);
        copy = container_of(logs->tails.all.prev, struct tail, node);
        copy->is_rotated = true;
        /* Read before the new content. */
        list_remove(&copy->node);
        list_append(&tail->node, &copy->node);
    } else if (tail->size_before > tail->mark.offset) {
        logs->status.n_truncated_lost++;
        logs_say(logs, "log_truncated", tail->mark.path,
                 "what was not read before is in no file beside it");
    }
    tail->mark.offset = 0;
    tail->mark.head_bytes = tail->mark.last_bytes = tail->mark.part = 0;
    tail->mark.born_us = born_us;
    tail->is_checked = false;
    return 0;
}

/* ---- reading ---- */

static void forget(struct logs *logs, const uint8_t *keys, size_t n)
{
    const struct spool_log_source source = { .type = span_of_text("file"),
                                             .name = span_of_text("-") };

    for (size_t i = 0; i < n; i++) {
        const struct spool_offset gone = { span_of(keys + i * MARK_KEY_BYTES, MARK_KEY_BYTES),
                                           { 0 } };

        batch_begin(&logs->batch, &source);
        if (batch_put(&logs->batch, &gone) != 0)
            return;
    }
}

/* Rotated, and over: its mark says so, or goes with the file. */
static int on_over(struct logs *logs, struct tail *tail)
{
    struct rest rest = { .is_wanted = false };
    struct stat st;
    int r = settle_copies(logs, tail, &rest);

    if (r)
        return pass(r);
    if (fstat(tail->fd, &st) == 0 && st.st_nlink == 0) {
        uint8_t key[MARK_KEY_BYTES];

        mark_key(tail->device, tail->inode, key);
        forget(logs, key, 1);
    } else {
        tail->mark.is_done = true;
        mark_renew(&tail->mark, tail->fd);
        r = tail_commit(tail);
    }
    drop(logs, tail);
    return r ? pass(r) : 0;
}

/* *ret_is_more: there is more at once. */
static int read_tail(struct logs *logs, struct tail *tail, size_t *budget, bool *ret_is_more)
{
    enum tail_state state = TAIL_IDLE;
    int r = tail_read(tail, budget, &state);

    if (r)
        return pass(r);
    switch (state) {
    case TAIL_TRUNCATED:
        *ret_is_more = true;
        return pass(on_truncated(logs, tail));
    case TAIL_OVER:
        return pass(on_over(logs, tail));
    case TAIL_MORE:
        *ret_is_more = true;
        return 0;
    case TAIL_BLOCKED:
        logs->is_blocked = true;
        return 0;
    case TAIL_IDLE:
    default:
        return 0;
    }
}

bool tails_read(struct logs *logs)
{
    size_t budget = BUDGET_BYTES;
    bool is_more = false;

    logs->status.behind_bytes = 0;
    list_each_safe(node, &logs->tails.all)
    {
        struct tail *tail = container_of(node, struct tail, node);
        const size_t n = logs->tails.n;

        /* A fault is in the log: no memory for this file now, and the next turn tries again. */
        if (!logs->is_blocked && read_tail(logs, tail, &budget, &is_more) != 0)
            continue;
        if (logs->tails.n >= n && tail->size > tail->mark.offset)
            logs->status.behind_bytes += tail->size - tail->mark.offset;
    }
    logs->status.n_files = logs->tails.n;
    return is_more && !logs->is_blocked;
}

void tails_close(struct logs *logs)
{
    list_each_safe(node, &logs->tails.all) drop(logs, container_of(node, struct tail, node));
    logs->tails.has_scanned = false;
}

/* ---- forgetting ---- */

/* How long a mark stays that nobody renews. */
static int64_t patience_us(const struct logs *logs)
{
    struct spool_offset offset;
    size_t n = 0;

    for (size_t at = 0; spool_next_offset(logs->spool, &at, &offset);)
        n++;
    return n > TOO_MANY_MARKS ? HOUR_US : n > MANY_MARKS ? 2 * RENEW_US : FORGET_US;
}

void tails_forget_old(struct logs *logs)
{
    uint8_t keys[MAX_FORGET][MARK_KEY_BYTES];
    const int64_t before_us = clock_wall().us - patience_us(logs);
    struct spool_offset offset;
    struct mark mark;
    size_t n = 0;

    for (size_t at = 0; n < MAX_FORGET && spool_next_offset(logs->spool, &at, &offset);) {
        dev_t device = 0;
        ino_t inode = 0;

        if (offset.key.len != MARK_KEY_BYTES || offset.key.data[0] != 'f' ||
            !mark_parse(offset.value, &mark) || mark.time_us >= before_us)
            continue;
        for (size_t i = 8; i-- > 0;) {
            device = (dev_t) (device << 8 | offset.key.data[1 + i]);
            inode = (ino_t) (inode << 8 | offset.key.data[9 + i]);
        }
        if (find_tail(&logs->tails, device, inode))
            continue;
        memcpy(keys[n++], offset.key.data, MARK_KEY_BYTES);
    }
    forget(logs, keys[0], n);
}
