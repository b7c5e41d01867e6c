#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* Anchors, for the files of server/audit. */

#include "server/audit/inside.h"

/* An anchor's entry stands at most so many behind the one that it covers. */
#define ANCHOR_LOOK_BACK 4096

/* When it is due; `is_last`: whenever there is anything new. Outcomes: AUDIT_FULL. */
int anchor_make(struct audit *audit, wall_us now, bool is_last) MUST_USE;

/* What an entry of the event AUDIT_ANCHOR says; false: it does not. */
bool anchor_of_record(const struct audit_record *record, struct audit_anchor *ret);
