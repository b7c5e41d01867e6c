#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* Targets of scrapes. Private to agent/collect. */

#include <stdbool.h>

/* NULL: it is one. Else what is wrong with it, and what to write. */
const char *scrape_check(const char *target, bool allow_remote);
