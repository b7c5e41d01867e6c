#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What every command that lists something prints. */

#include "common/json/json.h"
#include "server/ctl/ctl.h"

/* A table for people or an array under `key` in one JSON object, whichever was asked for. */
struct listing {
    struct ctl *ctl;
    struct table table;
    struct json_writer json;
    struct buf out;
};
void listing_begin(struct listing *listing,
                   struct ctl *ctl,
                   const char *key,
                   const char *const *headers);
/* Prints when r is CTL_OK; `nothing` is said when there is no row. Returns r. */
int listing_end(struct listing *listing, int r, const char *nothing) MUST_USE;
