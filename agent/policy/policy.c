/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/policy/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/policy/rules.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "common/json/json.h"

#define FILE_LIMIT_BYTES (256u << 10) /* 256 programs, files and targets with long names */

static const struct conf_row rows[] = {
#define P(row_name, row_type, field, row_fallback, row_min, row_max, text) \
    { .name = row_name,                                                    \
      .type = CONF_##row_type,                                             \
      .offset = offsetof(struct policy, field),                            \
      .fallback = row_fallback,                                            \
      .min = row_min,                                                      \
      .max = row_max,                                                      \
      .is_reloadable = true,                                               \
      .help = text },
#include "agent/policy/policy.tbl"
#undef P
    { .name = NULL },
};

static const struct conf_table table = { .rows = rows, .struct_bytes = sizeof(struct policy) };

const char *policy_state_name(enum policy_state state)
{
    static const char *const names[] = { "defaults", "loaded", "closed" };

    return names[state];
}

/* ---- the file ---- */

enum { READ_OK, READ_ABSENT, READ_REFUSED };

/* Whoever may write the file may do what the hub may do. */
static bool is_trusted(const struct stat *st, const char *path, char problem[512])
{
    if (!S_ISREG(st->st_mode))
        snprintf(problem, 512, "%.200s is no regular file: make it one", path);
    else if (st->st_uid != 0 && st->st_uid != geteuid())
        snprintf(problem, 512, "%.200s belongs to user %u, who could change it: chown root: %.200s",
                 path, (unsigned) st->st_uid, path);
    else if (st->st_mode & (S_IWGRP | S_IWOTH))
        snprintf(problem, 512, "%.200s may be written by others: chmod go-w %.200s", path, path);
    else
        return true;
    return false;
}

static int read_all(int fd, struct buf *ret)
{
    for (;;) {
        const size_t before = ret->len;
        void *room = buf_extend(ret, 4096);
        ssize_t n;

        if (!room)
            return fault(-ENOMEM, "no memory for the policy");
        n = read(fd, room, 4096);
        ret->len = before + (n > 0 ? (size_t) n : 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fault(-errno, "cannot read the policy");
        if (n == 0 || ret->len > FILE_LIMIT_BYTES)
            return 0;
    }
}

/* What is looked at is what is read: the same open file. Outcomes: READ_ABSENT, READ_REFUSED. */
static int read_file(const char *path, struct buf *ret, char problem[512])
{
    CLEANUP(fd_closep)
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    int r;

    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return READ_ABSENT;
    if (fd < 0) {
        snprintf(problem, 512, "%.200s: %s", path,
                 errno == ELOOP ? "is a link: write the policy itself there" : strerror(errno));
        return READ_REFUSED;
    }
    if (fstat(fd, &st) < 0)
        return fault(-errno, "cannot look at %s", path);
    if (!is_trusted(&st, path, problem))
        return READ_REFUSED;
    r = read_all(fd, ret);
    if (r)
        return pass(r);
    if (ret->len > FILE_LIMIT_BYTES) {
        snprintf(problem, 512, "%.200s: larger than 256KiB", path);
        return READ_REFUSED;
    }
    return READ_OK;
}

static int load_text(const char *path, struct span text, struct policy *ret, char problem[512])
{
    const struct conf_sources sources = { .file = path, .text = text };
    struct conf_error error = { "" };
    int r = conf_load(&table, &sources, ret, &error);

    if (r == 0) {
        r = rules_check(ret, error.text, sizeof(error.text));
        if (r)
            policy_free(ret);
    }
    if (r > 0)
        snprintf(problem, 512, "%s", error.text);
    return r < 0 ? pass(r) : r;
}

static int set_digest(struct policy *policy)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    uint8_t digest[CRYPTO_SHA256_BYTES];

    policy_print(policy, &text);
    if (buf_failed(&text))
        return fault(-ENOMEM, "no memory for the policy's text");
    crypto_sha256(buf_span(&text), digest);
    text_of_hex(digest, sizeof(digest), policy->sha256);
    return 0;
}

int policy_load(const char *path, struct policy *ret)
{
    CLEANUP(buf_deinit) struct buf content = { 0 };
    enum policy_state state = POLICY_LOADED;
    char problem[sizeof(ret->problem)] = "";
    const struct span nothing = span_of_text("");
    struct policy policy = { 0 };
    int r = read_file(path, &content, problem);

    if (r < 0)
        return pass(r);
    if (r == READ_ABSENT)
        state = POLICY_DEFAULTS;
    else if (r == READ_REFUSED)
        state = POLICY_CLOSED;
    r = load_text(path, state == POLICY_LOADED && content.len ? buf_span(&content) : nothing,
                  &policy, problem);
    if (r > 0) {
        state = POLICY_CLOSED;
        r = load_text(path, nothing, &policy, (char[512]){ "" });
    }
    if (r)
        return fold(r); /* the defaults are fine */
    if (state == POLICY_CLOSED)
        policy.interval_allow = false;
    policy.state = state;
    snprintf(policy.problem, sizeof(policy.problem), "%s", problem);
    r = set_digest(&policy);
    if (r) {
        policy_free(&policy);
        return pass(r);
    }
    *ret = policy;
    return 0;
}

void policy_free(struct policy *policy)
{
    conf_free(&table, policy);
    memset(policy, 0, sizeof(*policy));
}

void policy_print(const struct policy *policy, struct buf *to)
{
    conf_print(&table, policy, to);
}

static void put_list(struct json_writer *json, const char *key, const struct conf_list *list)
{
    json_key(json, key);
    json_open_array(json);
    for (size_t i = 0; i < list->n_items; i++)
        json_text(json, list->items[i]);
    json_close_array(json);
}

#define PUT_BOOL(key, value) json_put_bool(json, key, value)
#define PUT_U64(key, value) json_put_u64(json, key, value)
#define PUT_SIZE(key, value) json_put_u64(json, key, value)
#define PUT_DURATION(key, value) json_put_f64(json, key, (double) (value) / 1e6) /* seconds */
#define PUT_TEXT(key, value) json_put_text(json, key, value)
#define PUT_LIST(key, value) put_list(json, key, &(value))

void policy_put_rules(const struct policy *policy, struct json_writer *json)
{
#define P(name, type, field, fallback, min, max, help) PUT_##type(name, policy->field);
#include "agent/policy/policy.tbl"
#undef P
}
