#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Policy: what the hub may ask of this machine: the agent's own word, which no hub can change.
 *
 * It lies in a file of its own (/etc/sentinel-agent/policy.yaml), owned by root or by the agent's
 * user and writable by nobody else. Without the file, and for what it does not say, the defaults of
 * policy.tbl hold: the hub may ask for another interval, within bounds, and for nothing else. A
 * file that cannot be used closes everything: what an administrator meant to forbid is not allowed
 * because of a typing error.
 *
 * A yes is only about this policy; the operator's role at the hub is another question, which the
 * hub answers. A no has a reason for people: the rule, and the line that would change it.
 *
 * Thread: any; a loaded policy is plain data.
 * Start here: policy_load(), then the policy_allows_...() of what is asked.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/conf/conf.h"

#define POLICY_DEFAULT_FILE "/etc/sentinel-agent/policy.yaml"

enum policy_state {
    POLICY_DEFAULTS, /* there is no file */
    POLICY_LOADED,
    POLICY_CLOSED, /* the file cannot be used: `problem`; nothing is allowed */
};

#define POLICY_C_BOOL bool
#define POLICY_C_U64 uint64_t
#define POLICY_C_DURATION int64_t
#define POLICY_C_SIZE uint64_t
#define POLICY_C_TEXT char *
#define POLICY_C_LIST struct conf_list

struct policy {
#define P(name, type, field, fallback, min, max, help) POLICY_C_##type field;
#include "agent/policy/policy.tbl"
#undef P
    enum policy_state state;
    char problem[512];
    char sha256[65]; /* of policy_print()'s text */
};

/* "defaults", "loaded", "closed" */
const char *policy_state_name(enum policy_state state);

/*
 * Fills `ret`, whatever the file is like; see `state`. Faults: memory.
 */
int policy_load(const char *path, struct policy *ret) MUST_USE;
/* The zero value is fine. */
void policy_free(struct policy *policy);

/* All rows as YAML that policy_load() reads again. */
void policy_print(const struct policy *policy, struct buf *to);
struct json_writer;
/* A member for each row, by its name, into the object that is open; durations in seconds. */
void policy_put_rules(const struct policy *policy, struct json_writer *json);

/* Why not, and what to write where. */
struct policy_why {
    char text[384];
};

/* What becomes of the hub's wish for an interval; 0 is none, also when it may not wish. */
int64_t policy_limit_interval(const struct policy *policy, int64_t wish_us);

/* argv as it would run, argv[0] a whole path; n_running of the hub's run already. */
bool policy_allows_command(const struct policy *policy,
                           const char *const *argv,
                           size_t n_words,
                           size_t n_running,
                           struct policy_why *ret_why);
bool policy_allows_terminal(const struct policy *policy, size_t n_open, struct policy_why *ret_why);
/*
 * `host` as it was asked for, without brackets. An address is compared as one; a name only with
 * names: who resolves it asks again with the address if the policy shall know it.
 */
bool policy_allows_target(const struct policy *policy,
                          const char *host,
                          uint16_t port,
                          size_t n_open,
                          struct policy_why *ret_why);
/* `name` is a row of agent/settings.tbl. */
bool policy_allows_setting(const struct policy *policy,
                           const char *name,
                           struct policy_why *ret_why);

enum policy_file_outcome {
    POLICY_FILE_OK = 0,
    POLICY_FILE_DENIED, /* ret_why; the path is not allowed, or leads elsewhere */
    POLICY_FILE_ABSENT, /* allowed, and not there or not readable by this user; ret_why */
};
/*
 * Opens a file that the policy allows to be read, and looks at what was opened: a regular file with
 * one name, within files.max_size. Below a directory of files.read no link is followed and nothing
 * leads out of it, also when somebody moves things meanwhile (openat2(2), or step by step where the
 * kernel has none). What the administrator wrote in files.read may itself be behind links.
 *
 *   path     a whole path in its shortest form: no `.`, `..` or `//`.
 *   ret_fd   to be closed; reading it does not block.
 *
 * Outcomes: POLICY_FILE_DENIED, POLICY_FILE_ABSENT.
 */
int policy_open_file(const struct policy *policy,
                     const char *path,
                     int *ret_fd,
                     struct policy_why *ret_why) MUST_USE;
