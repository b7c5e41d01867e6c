/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pki/agents/revoked.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "common/log/log.h"
#include "server/pki/agents/merge.h"

#define FILE_LIMIT_BYTES ((size_t) 256 * 1024 * 1024) /* more than a million revocations */
#define SECOND_US INT64_C(1000000)

/* ---- lines ---- */

static bool take_word(struct span *from, char *to, size_t size)
{
    size_t len = 0;

    while (len < from->len && from->data[len] != ' ')
        len++;
    if (len == 0 || len >= size || memchr(from->data, 0, len))
        return false;
    memcpy(to, from->data, len);
    to[len] = 0;
    *from = span_of(from->data + len, from->len - len);
    if (from->len > 0)
        *from = span_of(from->data + 1, from->len - 1);
    return true;
}

static bool take_time(struct span *from, wall_us *ret)
{
    char word[24];
    uint64_t seconds;

    if (!take_word(from, word, sizeof(word)) || text_to_u64(word, &seconds) != 0 ||
        seconds > (uint64_t) (INT64_MAX / SECOND_US))
        return false;
    ret->us = (int64_t) seconds * SECOND_US;
    return true;
}

static bool take_name(struct span *from, char to[static 64])
{
    return take_word(from, to, 64) && pki_name_is_good(to);
}

static bool take_digest(struct span *from, uint8_t to[static 32])
{
    char word[65];

    return take_word(from, word, sizeof(word)) && text_to_hex(word, to, 32) == 0;
}

bool pki_revoked_parse(struct span text, struct pki_revoked_line *ret)
{
    struct pki_revoked_line line = { 0 };
    char kind[2];
    bool is_good;

    if (!take_word(&text, kind, sizeof(kind)))
        return false;
    switch (kind[0]) {
    case PKI_LINE_CERTIFICATE:
        is_good = take_digest(&text, line.sha256) && take_time(&text, &line.not_after) &&
                  take_time(&text, &line.at) && take_name(&text, line.name);
        break;
    case PKI_LINE_COUNTS_AGAIN:
        is_good = take_digest(&text, line.sha256) && take_time(&text, &line.at);
        break;
    case PKI_LINE_AGENT:
    case PKI_LINE_ALLOWED:
        is_good = take_name(&text, line.name) && take_time(&text, &line.at);
        break;
    default:
        return false;
    }
    if (!is_good || text.len > 0)
        return false;
    line.kind = (enum pki_revoked_kind) kind[0];
    *ret = line;
    return true;
}

void pki_revoked_print(const struct pki_revoked_line *line, struct buf *to)
{
    const int64_t at_s = line->at.us / SECOND_US;
    char hex[65];

    (void) text_of_hex(line->sha256, 32, hex);
    switch (line->kind) {
    case PKI_LINE_CERTIFICATE:
        buf_printf(to, "c %s %" PRId64 " %" PRId64 " %s\n", hex, line->not_after.us / SECOND_US,
                   at_s, line->name);
        return;
    case PKI_LINE_COUNTS_AGAIN:
        buf_printf(to, "u %s %" PRId64 "\n", hex, at_s);
        return;
    case PKI_LINE_AGENT:
    case PKI_LINE_ALLOWED:
    default:
        buf_printf(to, "%c %s %" PRId64 "\n", (char) line->kind, line->name, at_s);
    }
}

/* ---- the last word ---- */

static struct span key_of(const struct pki_revoked_line *line)
{
    if (line->kind == PKI_LINE_CERTIFICATE || line->kind == PKI_LINE_COUNTS_AGAIN)
        return span_of(line->sha256, sizeof(line->sha256));
    return span_of_text(line->name);
}

/* Under the lock, or before anybody else knows it. */
static int remember(struct pki_revoked *revoked, const struct pki_revoked_line *line)
{
    const bool is_name = line->kind == PKI_LINE_AGENT || line->kind == PKI_LINE_ALLOWED;
    struct map *map = is_name ? &revoked->by_name : &revoked->by_sha256;
    struct pki_revoked_line *known = map_get(map, key_of(line));

    if (known) {
        struct pki_revoked_line old = *known;
        *known = *line;
        if (line->kind == PKI_LINE_COUNTS_AGAIN)
            known->not_after = old.not_after;
        return 0;
    }
    known = malloc(sizeof(*known));
    if (!known)
        return fault(-ENOMEM, "no memory for a revocation");
    *known = *line;
    int r = map_put(map, key_of(known), known);
    if (r != 0)
        free(known);
    return pass(r);
}

static int remember_all(struct pki_revoked *revoked, struct span text, uint64_t *ret_n_bad)
{
    int r = 0;

    while (r == 0 && text.len > 0) {
        const uint8_t *newline = memchr(text.data, '\n', text.len);
        size_t len = newline ? (size_t) (newline - text.data) : text.len;
        struct pki_revoked_line line;

        if (newline && pki_revoked_parse(span_of(text.data, len), &line))
            r = remember(revoked, &line);
        else
            (*ret_n_bad)++;
        len += newline != NULL;
        text = span_of(text.data + len, text.len - len);
    }
    return pass(r);
}

bool pki_revoked_has(struct pki_revoked *revoked, const uint8_t sha256[32])
{
    pthread_mutex_lock(&revoked->lock);
    const struct pki_revoked_line *line = map_get(&revoked->by_sha256, span_of(sha256, 32));
    bool has = line && line->kind == PKI_LINE_CERTIFICATE;
    pthread_mutex_unlock(&revoked->lock);
    return has;
}

/* ---- the file ---- */

/* The file itself is what is locked: another process may have put a smaller one in its place. */
static int open_locked(const char *path, int *ret_fd)
{
    for (;;) {
        CLEANUP(fd_closep) int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        struct stat ours, there;

        if (fd < 0)
            return fault(-errno, "cannot open %s", path);
        while (flock(fd, LOCK_EX) < 0) {
            if (errno != EINTR)
                return fault(-errno, "cannot lock %s", path);
        }
        if (fstat(fd, &ours) < 0)
            return fault(-errno, "cannot look at %s", path);
        if (stat(path, &there) < 0 || ours.st_ino != there.st_ino || ours.st_dev != there.st_dev)
            continue;
        *ret_fd = fd;
        fd = -1;
        return 0;
    }
}

/* A line that was cut by a crash gets its end first, or the next one would be lost with it. */
static bool ends_in_a_line(int fd)
{
    struct stat st;
    char last;

    if (fstat(fd, &st) < 0 || st.st_size == 0)
        return true;
    return pread(fd, &last, 1, st.st_size - 1) == 1 && last == '\n';
}

static int append(const char *path, struct span text)
{
    CLEANUP(fd_closep) int fd = -1;

    int r = open_locked(path, &fd);
    if (r != 0)
        return pass(r);
    if (!ends_in_a_line(fd) && write(fd, "\n", 1) != 1)
        return fault(-errno, "cannot write %s", path);
    while (text.len > 0) {
        ssize_t n = write(fd, text.data, text.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fault(n < 0 ? -errno : -EIO, "cannot write %s", path);
        text = span_of(text.data + n, text.len - (size_t) n);
    }
    if (fdatasync(fd) < 0)
        return fault(-errno, "cannot sync %s", path);
    return 0;
}

void pki_revoked_add(struct pki *pki, const struct pki_revoked_line *lines, size_t n)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct pki_revoked *revoked = pki->revoked;
    int r = 0;

    if (n == 0)
        return;
    pthread_mutex_lock(&revoked->lock);
    for (size_t i = 0; i < n; i++) {
        pki_revoked_print(&lines[i], &text);
        if (r == 0)
            r = remember(revoked, &lines[i]);
    }
    if (buf_failed(&text))
        r = fault(-ENOMEM, "no memory for %zu revocations", n);
    else
        r = append(revoked->path, buf_span(&text));
    pthread_mutex_unlock(&revoked->lock);
    if (r != 0)
        log_event(LOG_ERROR, "revoked_file_behind", LOG_S("path", revoked->path),
                  LOG_S("remedy",
                        "it holds in the database; mend the disk and start the hub again, "
                        "which adds it to the file, before a backup is restored"));
}

void pki_revoked_allow(struct pki *pki, const char *name)
{
    struct pki_revoked_line line = { .kind = PKI_LINE_ALLOWED, .at = clock_wall() };

    snprintf(line.name, sizeof(line.name), "%s", name);
    pki_revoked_add(pki, &line, 1);
}

/* ---- opening ---- */

static void free_lines(struct map *map)
{
    void *line;

    for (size_t at = 0; (line = map_next(map, &at)) != NULL;)
        free(line);
    map_deinit(map);
}

void pki_revoked_close(struct pki *pki)
{
    if (!pki->revoked)
        return;
    free_lines(&pki->revoked->by_sha256);
    free_lines(&pki->revoked->by_name);
    pthread_mutex_destroy(&pki->revoked->lock);
    free(pki->revoked);
    pki->revoked = NULL;
}

/* What still says something, in one word each. */
static int write_small(struct pki_revoked *revoked, wall_us now)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    CLEANUP(fd_closep) int fd = -1;
    const struct pki_revoked_line *line;

    int r = open_locked(revoked->path, &fd); /* the old one, until it is replaced */
    if (r != 0)
        return pass(r);
    for (size_t at = 0; (line = map_next(&revoked->by_sha256, &at)) != NULL;) {
        if (line->kind == PKI_LINE_CERTIFICATE &&
            line->not_after.us + PKI_ROWS_LINGER_US + PKI_ADOPT_US > now.us)
            pki_revoked_print(line, &text);
    }
    for (size_t at = 0; (line = map_next(&revoked->by_name, &at)) != NULL;)
        pki_revoked_print(line, &text);
    if (buf_failed(&text))
        return fault(-ENOMEM, "no memory for the revocations");
    return fold(file_replace(revoked->path, buf_span(&text), 0600));
}

static int read_file(struct pki_revoked *revoked, size_t *ret_len, struct tls_why *ret_why)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    uint64_t n_bad = 0;

    int r = file_read(revoked->path, FILE_LIMIT_BYTES, &text);
    *ret_len = text.len;
    if (r == FILE_ABSENT)
        return 0;
    if (r > 0) {
        snprintf(ret_why->text, sizeof(ret_why->text), "%.200s: %s", revoked->path,
                 r == FILE_DENIED ? "permission denied; run this as the user of the hub"
                                  : "too large for a list of revocations; look what it is, and "
                                    "move it away");
        return PKI_BAD;
    }
    if (r == 0)
        r = remember_all(revoked, buf_span(&text), &n_bad);
    if (n_bad > 0)
        log_event(LOG_WARN, "revoked_lines_unreadable", LOG_S("path", revoked->path),
                  LOG_U("lines", n_bad));
    return pass(r);
}

int pki_revoked_open(struct pki *pki, const char *state_directory, struct tls_why *ret_why)
{
    struct pki_revoked *revoked = calloc(1, sizeof(*revoked));
    size_t len = 0;

    if (!revoked)
        return fault(-ENOMEM, "no memory for the revocations");
    pthread_mutex_init(&revoked->lock, NULL);
    pki->revoked = revoked;
    if (!pki_path(revoked->path, state_directory, "revoked"))
        return fault(-ENAMETOOLONG, "%s", state_directory);
    int r = read_file(revoked, &len, ret_why);
    if (r == 0)
        r = pki_revoked_merge(pki);
    if (r == 0 && len > PKI_REVOKED_LARGE_BYTES)
        r = write_small(revoked, clock_wall());
    return pass(r);
}

/* ---- another one's ---- */

static void revoked_deinit(struct pki_revoked *revoked)
{
    free_lines(&revoked->by_sha256);
    free_lines(&revoked->by_name);
}

static bool counts_over(const struct pki_revoked_line *line, const struct pki_revoked_line *known)
{
    if (!known)
        return true;
    if (line->at.us != known->at.us)
        return line->at.us > known->at.us;
    return line->kind != known->kind &&
           (line->kind == PKI_LINE_CERTIFICATE || line->kind == PKI_LINE_AGENT);
}

static int take_younger(struct pki_revoked *to, const struct map *from, size_t *ret_n)
{
    const struct pki_revoked_line *line;
    int r = 0;

    for (size_t at = 0; r == 0 && (line = map_next(from, &at)) != NULL;) {
        const bool is_name = line->kind == PKI_LINE_AGENT || line->kind == PKI_LINE_ALLOWED;

        if (!counts_over(line, map_get(is_name ? &to->by_name : &to->by_sha256, key_of(line))))
            continue;
        r = remember(to, line);
        *ret_n += line->kind == PKI_LINE_CERTIFICATE || line->kind == PKI_LINE_AGENT;
    }
    return pass(r);
}

static int write_all(const struct pki_revoked *revoked)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    const struct pki_revoked_line *line;

    for (size_t at = 0; (line = map_next(&revoked->by_sha256, &at)) != NULL;)
        pki_revoked_print(line, &text);
    for (size_t at = 0; (line = map_next(&revoked->by_name, &at)) != NULL;)
        pki_revoked_print(line, &text);
    if (buf_failed(&text))
        return fault(-ENOMEM, "no memory for the revocations");
    return fold(file_replace(revoked->path, buf_span(&text), 0600));
}

/* Of the old hub. Outcomes: PKI_BAD. */
static int read_other(struct pki_revoked *other, const char *file, struct tls_why *ret_why)
{
    size_t len;

    if (snprintf(other->path, sizeof(other->path), "%s", file) >= (int) sizeof(other->path))
        return fault(-ENAMETOOLONG, "%s", file);
    if (access(other->path, F_OK) < 0) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "%.200s: %s; it is the file `revoked` of the old hub's state directory",
                 other->path, strerror(errno));
        return PKI_BAD;
    }
    int r = read_file(other, &len, ret_why);
    if (r == 0 && len > 0 && other->by_sha256.n_entries + other->by_name.n_entries == 0) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "%.200s: no line of it is a revocation; it is the file `revoked` of the old hub's "
                 "state directory",
                 other->path);
        return PKI_BAD;
    }
    return pass(r);
}

int pki_revoked_look(const char *file, struct tls_why *ret_why)
{
    CLEANUP(revoked_deinit) struct pki_revoked other = { 0 };

    return pass(read_other(&other, file, ret_why));
}

int pki_revoked_import(const char *state_directory,
                       const char *file,
                       size_t *ret_n,
                       struct tls_why *ret_why)
{
    CLEANUP(revoked_deinit) struct pki_revoked own = { 0 };
    CLEANUP(revoked_deinit) struct pki_revoked other = { 0 };
    size_t len;

    *ret_n = 0;
    if (!pki_path(own.path, state_directory, "revoked"))
        return fault(-ENAMETOOLONG, "%s", state_directory);
    int r = read_other(&other, file, ret_why);
    if (r == 0)
        r = read_file(&own, &len, ret_why);
    if (r == 0)
        r = take_younger(&own, &other.by_sha256, ret_n);
    if (r == 0)
        r = take_younger(&own, &other.by_name, ret_n);
    return r != 0 ? pass(r) : pass(write_all(&own));
}
