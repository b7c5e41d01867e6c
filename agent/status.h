#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * status.json: what the running agent says about itself, for `sentinel-agent status` and for
 * whoever else wants to look. Private to the agent's composition root.
 *
 * The file is replaced by a rename, so that a reader always sees a whole one. It is not synced: it
 * is worth nothing after a power cut, and a sync every 10 s would cost a slow disk more than all
 * the collecting.
 */

#include "agent/collect/collect.h"
#include "agent/folder.h"
#include "agent/identity/identity.h"
#include "agent/logs/logs.h"
#include "agent/policy/policy.h"
#include "agent/spool/spool.h"
#include "agent/stock.h"
#include "agent/uplink/uplink.h"

/* The last reload that was asked for. */
struct status_reload {
    uint64_t n; /* how many since the start */
    wall_us time;
    char error[512];          /* why it was refused; empty: the new settings count */
    char restart_needed[512]; /* settings that count after a restart only; empty: none */
};

struct status_facts {
    const char *hub;
    const char *settings_digest;
    const struct status_reload *reload;
    const struct policy *policy;
    const char *policy_file;
    wall_us started;
    int64_t interval_us;
    bool is_insecure;
    struct collect_totals collect;
    struct spool_ledger spool[SPOOL_SIGNALS];
    struct uplink_status uplink;
    struct stock_status stock;
    struct folder_status folder;
    struct logs_status logs;
    struct keeper_status identity; /* not with is_insecure */
};

void status_print(const struct status_facts *facts, struct buf *to);

/* 0, or -errno without a report: the caller says it once, not every round. */
int status_write(const char *directory, const struct status_facts *facts) MUST_USE;
