#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Between the command line and QueryService's messages.
 */

#include "sentinel/query/v1/query.pb-c.h"
#include "server/ctl/ctl.h"

typedef Sentinel__Query__V1__AgentSelector ctl_selector;

/*
 * --agent ID (any number), one --agent PATTERN with * or ?, --label k=v. The selector borrows from
 * ctl. Returns an exit code.
 */
int convert_selector(struct ctl *ctl, ctl_selector *ret) MUST_USE;
/* Adds a word that names an agent or a pattern; once, after convert_selector(). */
int convert_add_agent(struct ctl *ctl, const char *word, ctl_selector *to) MUST_USE;

/* "k=v" split at the first '='; in the arena. Returns an exit code. */
int convert_pair(struct ctl *ctl,
                 const char *flag,
                 const char *text,
                 char **ret_key,
                 char **ret_value) MUST_USE;

/* --range, or --from and --to, else from `from` to now. Borrows from ctl. Returns an exit code. */
int convert_range(struct ctl *ctl, const char *from, Sentinel__Query__V1__TimeRange *ret) MUST_USE;

/* 0 for a message that is not there. */
int64_t convert_time_us(const Google__Protobuf__Timestamp *time);
int64_t convert_duration_us(const Google__Protobuf__Duration *duration);
