#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The rules of a policy as such: checked once when it is loaded, so that asking need not doubt
 * them. Private to agent/policy.
 */

#include "agent/policy/policy.h"

/* Outcomes: CONF_BAD; `to` says which row, and what to write. */
int rules_check(const struct policy *policy, char *to, size_t size) MUST_USE;

/* A whole path in its shortest form: begins with a slash, has no empty part, no `.` and no `..`, no
 * control. One slash at the end is fine where `is_tree_fine`. */
bool rules_is_whole_path(const char *path, bool is_tree_fine);

/* A target's parts: `net` true: the address range, else the host name. */
struct rules_target {
    bool is_range;
    char host[256];
    uint32_t first_port, last_port;
};
/* Outcomes: CONF_BAD. */
int rules_parse_target(const char *text, struct rules_target *ret) MUST_USE;
