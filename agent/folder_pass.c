/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/folder_pass.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/uplink/uplink.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "common/log/log.h"
#include "common/rpc/rpc.h"

#define GIVE_UP_US \
    INT64_C(60000000) /* a pass without a hub ends; the next connection begins another */
#define DEFER_US INT64_C(900000000) /* what the hub has no room for is tried again after this */
#define MAX_NAMES 1000              /* of one name in done/ or failed/ */
#define DONE "done"
#define FAILED "failed"

enum { TAKE_OK, TAKE_NEXT, TAKE_STOP };

/* ---- making ---- */

static bool copy_labels(struct pass *pass, const struct conf_list *list)
{
    for (size_t i = 0; i < list->n_items && i < SEND_LABELS; i++) {
        const char *equals = strchr(list->items[i], '=');

        pass->labels[i].key = strndup(list->items[i], (size_t) (equals - list->items[i]));
        pass->labels[i].value = strdup(equals + 1);
        pass->n_labels++;
        if (!pass->labels[i].key || !pass->labels[i].value)
            return false;
    }
    return true;
}

struct pass *pass_new(const struct settings *settings, const char *hub, const char *insecure_id)
{
    struct pass *pass = calloc(1, sizeof(*pass));

    if (!pass)
        return NULL;
    pass->folder = strdup(settings->upload_folder);
    pass->hub = strdup(hub);
    pass->server_name = strdup(settings->server_name);
    pass->identity = strdup(settings->identity);
    pass->insecure_id = insecure_id ? strdup(insecure_id) : NULL;
    pass->is_tls13_only = settings->tls_min_version == SETTINGS_TLS_1_3;
    pass->max_bytes = settings->upload_max_size;
    pass->max_files = settings->upload_max_files;
    pass->bytes_per_s = settings->upload_rate;
    pass->settle_us = settings->upload_settle;
    pass->keep_us = settings->upload_keep_done;
    pass->keepalive_us = settings->uplink_keepalive;
    if (!copy_labels(pass, &settings->upload_labels) || !pass->folder || !pass->hub ||
        !pass->server_name || !pass->identity || (insecure_id && !pass->insecure_id))
        return pass_free(pass);
    return pass;
}

struct pass *pass_free(struct pass *pass)
{
    if (!pass)
        return NULL;
    for (size_t i = 0; i < pass->n_labels; i++) {
        free((char *) (uintptr_t) pass->labels[i].key);
        free((char *) (uintptr_t) pass->labels[i].value);
    }
    free(pass->folder);
    free(pass->hub);
    free(pass->server_name);
    free(pass->identity);
    free(pass->insecure_id);
    free(pass);
    return NULL;
}

PRINTF_LIKE(2, 3) static void fail(struct pass *pass, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(pass->error, sizeof(pass->error), fmt, args);
    va_end(args);
}

static bool is_unwanted(void *ctx)
{
    struct pass *pass = ctx;

    return atomic_load(&pass->is_unwanted);
}

/* ---- moving ---- */

/* Into done/ or failed/ under its name, or with a number behind it; nothing there is overwritten.
 * false: errno. */
static bool move(int folder, const char *name, const char *to, char ret[PATH_MAX])
{
    for (int i = 1; i < MAX_NAMES; i++) {
        char number[16] = "";

        if (i > 1)
            snprintf(number, sizeof(number), ".%d", i);
        snprintf(ret, PATH_MAX, "%s/%s%s", to, name, number);
        if (renameat2(folder, name, folder, ret, RENAME_NOREPLACE) == 0)
            return true;
        if (errno != EEXIST)
            return false;
    }
    return false;
}

static void set_aside(struct pass *pass, int folder, const char *name, const char *why)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    CLEANUP(fd_closep) int fd = -1;
    char to[PATH_MAX], reason[PATH_MAX + 8], time[TEXT_TIME_BYTES];

    log_event(LOG_WARN, "upload_failed", LOG_S("file", name), LOG_S("why", why));
    fail(pass, "%.100s: %.250s", name, why);
    if (!move(folder, name, FAILED, to)) {
        fail(pass, "%.100s cannot be moved to failed/: %s", name, strerror(errno));
        pass->n_waiting++;
        return;
    }
    pass->n_failed++;
    snprintf(reason, sizeof(reason), "%s.reason", to);
    buf_printf(&text, "%s %s\n", text_of_time(clock_wall(), time), why);
    fd = openat(folder, reason, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (fd < 0 || write(fd, text.data, text.len) != (ssize_t) text.len)
        fail(pass, "%.100s.reason cannot be written: %s", name, strerror(errno));
}

static void put_away(struct pass *pass, int folder, const char *name, const struct send *send)
{
    char to[PATH_MAX];
    const bool is_moved =
        pass->keep_us == 0 ? unlinkat(folder, name, 0) == 0 : move(folder, name, DONE, to);

    log_event(LOG_INFO, "uploaded", LOG_S("file", name), LOG_S("object", send->object_id),
              LOG_U("bytes", send->n_bytes), LOG_U("sent", send->n_sent_bytes),
              LOG_U("cuts", send->n_cuts));
    pass->n_done++;
    pass->n_bytes += send->n_bytes;
    if (!is_moved) {
        /* The next pass finds that the hub has it, and tries this again. */
        fail(pass, "%.100s is at the hub, but cannot be moved to done/: %s", name, strerror(errno));
        pass->n_waiting++;
    }
}

/* ---- one file ---- */

static struct pass_deferred *find_deferred(struct pass *pass, ino_t inode)
{
    for (size_t i = 0; i < pass->n_deferred; i++)
        if (pass->deferred[i].inode == inode)
            return &pass->deferred[i];
    return NULL;
}

static void defer(struct pass *pass, ino_t inode)
{
    struct pass_deferred *row = find_deferred(pass, inode);

    if (!row && pass->n_deferred < PASS_MAX_DEFERRED)
        row = &pass->deferred[pass->n_deferred++];
    if (!row) /* many are: the oldest is asked again */
        row = &pass->deferred[0];
    *row = (struct pass_deferred){ inode, clock_mono().us + DEFER_US };
}

/* fcntl(2): a read lease is not given while somebody has the file open for writing. */
static bool is_written(const struct pass *pass, int fd, const struct stat *st)
{
    const int64_t changed_us = (int64_t) st->st_mtim.tv_sec * 1000000 + st->st_mtim.tv_nsec / 1000;

    if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0) {
        (void) fcntl(fd, F_SETLEASE, F_UNLCK);
        return false;
    }
    if (errno == EAGAIN)
        return true;
    return clock_wall().us - changed_us < pass->settle_us;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* What is wrong with it as a file; NULL: nothing. */
static const char *problem_of(const struct pass *pass, const struct stat *st)
{
    if (!S_ISREG(st->st_mode))
        return "it is no regular file";
    if (st->st_nlink > 1)
        return "it has another name elsewhere (a hard link): copy it instead";
    if ((uint64_t) st->st_size > pass->max_bytes)
        return "it is larger than upload.max_size";
    return NULL;
}

static int send_it(struct pass *pass, struct send *send, struct tls_why *why)
{
    return uplink_upload(
        &(struct uplink_options){
            .hub = pass->hub,
            .server_name = pass->server_name[0] ? pass->server_name : NULL,
            .identity = pass->identity,
            .insecure_id = pass->insecure_id,
            .is_tls13_only = pass->is_tls13_only,
            .pace = { .keepalive_us = pass->keepalive_us },
        },
        send, why);
}

/* The hub's no: about the file, about its own room, or about us. */
static int take_refusal(struct pass *pass, int folder, const char *name, const struct send *send)
{
    char why[700];
    struct stat st;

    snprintf(why, sizeof(why), "%s %s: %s%s%s", rpc_code_name(send->code), send->reason,
             send->message, send->quota[0] ? "; limit " : "", send->quota);
    switch (send->code) {
    case RPC_INVALID_ARGUMENT:
    case RPC_FAILED_PRECONDITION:
    case RPC_OUT_OF_RANGE:
    case RPC_ALREADY_EXISTS:
        set_aside(pass, folder, name, why);
        return TAKE_OK;
    case RPC_RESOURCE_EXHAUSTED:
    case RPC_ABORTED:
        if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            defer(pass, st.st_ino);
        fail(pass, "%.100s waits: %.280s", name, why);
        pass->n_waiting++;
        return TAKE_NEXT;
    default:
        fail(pass, "%.390s", why);
        pass->n_waiting++;
        pass->is_cut = true;
        return TAKE_STOP;
    }
}

static int
take_result(struct pass *pass, int folder, const char *name, int r, const struct send *send)
{
    switch (r) {
    case SEND_OK:
        put_away(pass, folder, name, send);
        return TAKE_OK;
    case SEND_REFUSED:
        return take_refusal(pass, folder, name, send);
    case SEND_UNREADABLE:
        set_aside(pass, folder, name, send->message);
        return TAKE_OK;
    case SEND_UNWANTED:
        pass->n_waiting++;
        return TAKE_STOP;
    default:
        fail(pass, "the hub cannot be had: %.350s", send->message);
        pass->n_waiting++;
        pass->is_cut = true;
        return TAKE_STOP;
    }
}

static int take_file(struct pass *pass, int folder, const char *name)
{
    CLEANUP(fd_closep)
    int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct send send = { .give_up_us = GIVE_UP_US,
                         .bytes_per_s = pass->bytes_per_s,
                         .fd = fd,
                         .name = name,
                         .type = "",
                         .labels = pass->labels,
                         .n_labels = pass->n_labels,
                         .is_unwanted = is_unwanted,
                         .ctx = pass };
    struct pass_deferred *deferred;
    struct tls_why why = { "" };
    struct stat st, after;
    const char *problem;
    int r;

    if (fd < 0 && errno == ENOENT)
        return TAKE_OK; /* somebody took it back */
    if (fd < 0 || fstat(fd, &st) < 0) {
        set_aside(pass, folder, name,
                  errno == ELOOP    ? "it is a link: copy the file instead"
                  : errno == EACCES ? "the agent's user may not read it"
                                    : strerror(errno));
        return TAKE_OK;
    }
    if (S_ISDIR(st.st_mode))
        return TAKE_OK;
    problem = problem_of(pass, &st);
    if (problem) {
        set_aside(pass, folder, name, problem);
        return TAKE_OK;
    }
    deferred = find_deferred(pass, st.st_ino);
    if ((deferred && clock_mono().us < deferred->until_us) || is_written(pass, fd, &st)) {
        pass->n_waiting++;
        return TAKE_NEXT;
    }
    r = send_it(pass, &send, &why);
    if (r == SEND_UNCONNECTED)
        snprintf(send.message, sizeof(send.message), "%s", why.text);
    /* What was written meanwhile is another file. */
    if ((r == SEND_OK || r == SEND_UNREADABLE) &&
        (fstatat(folder, name, &after, AT_SYMLINK_NOFOLLOW) < 0 || !is_same(&st, &after))) {
        pass->n_waiting++;
        return TAKE_NEXT;
    }
    if (r < 0)
        snprintf(send.message, sizeof(send.message), "%s", strerror(-r));
    return take_result(pass, folder, name, r, &send);
}

/* ---- the pass ---- */

static int is_candidate(const struct dirent *entry)
{
    return entry->d_name[0] != '.' && entry->d_type != DT_DIR;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* done/ holds what the hub has: it is for looking back a little. A rename sets the ctime. */
static void remove_old(struct pass *pass, int folder)
{
    struct dirent **entries = NULL;
    const int n = scandirat(folder, DONE, &entries, is_candidate, NULL);

    for (int i = 0; i < n; i++) {
        char path[PATH_MAX];
        struct stat st;

        snprintf(path, sizeof(path), DONE "/%s", entries[i]->d_name);
        if (fstatat(folder, path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            clock_wall().us - (int64_t) st.st_ctim.tv_sec * 1000000 > pass->keep_us)
            (void) unlinkat(folder, path, 0);
        free(entries[i]);
    }
    free(entries);
}

static int open_folder(struct pass *pass)
{
    const int folder = open(pass->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (folder < 0) {
        fail(pass, "upload.folder %.200s: %s", pass->folder, strerror(errno));
        return -1;
    }
    if ((mkdirat(folder, DONE, 0750) < 0 && errno != EEXIST) ||
        (mkdirat(folder, FAILED, 0750) < 0 && errno != EEXIST)) {
        fail(pass, "upload.folder %.200s: done/ and failed/ cannot be made: %s", pass->folder,
             strerror(errno));
        close(folder);
        return -1;
    }
    return folder;
}

void pass_run(struct pass *pass)
{
    CLEANUP(fd_closep) int folder = open_folder(pass);
    struct dirent **entries = NULL;
    int n = folder < 0 ? 0 : scandirat(folder, ".", &entries, is_candidate, by_name);
    int r = TAKE_OK;

    for (int i = 0; i < n; i++) {
        if (r == TAKE_STOP || (uint64_t) i >= pass->max_files || is_unwanted(pass)) {
            pass->n_waiting++;
            pass->has_more = r != TAKE_STOP;
        } else {
            r = take_file(pass, folder, entries[i]->d_name);
        }
        free(entries[i]);
    }
    free(entries);
    if (folder >= 0)
        remove_old(pass, folder);
}
