#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Anchors that others kept, as text: lines of the hub's log (event=audit_anchor, logfmt or JSON),
 * what `sentinel-agent status --json` says, objects a line. Pure. Private to server/ops.
 */

#include <stddef.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/span.h"
#include "server/audit/audit.h"

#define OPS_MAX_ANCHORS 100000

struct ops_anchors {
    struct audit_anchor *anchors; /* heap */
    size_t n;
};
void ops_anchors_deinit(struct ops_anchors *anchors);

enum ops_anchors_outcome {
    OPS_ANCHORS_OK = 0,
    OPS_ANCHORS_BAD, /* ret_why */
};
struct ops_anchors_why {
    char text[320];
};
/* Every anchor in the text; lines that have none are passed over. Outcomes: OPS_ANCHORS_BAD (JSON
 * that is none, an anchor that lacks a part, too many). */
int ops_anchors_read(struct span text,
                     struct ops_anchors *ret,
                     struct ops_anchors_why *ret_why) MUST_USE;
