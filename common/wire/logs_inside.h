#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Private to common/wire: what logs.c and logs_entry.c share.
 */

#include "common/wire/item.h"
#include "common/wire/logs.h"

/* Fills the problem and returns the outcome. */
int logs_complain(struct wire_problem *problem,
                  int outcome,
                  const char *description,
                  const char *field,
                  ...) PRINTF_LIKE(4, 5);
/* NULL, or what is wrong. */
const char *logs_check_type(const struct wire_item *item, enum wire_type expected);
const char *logs_check_name(struct span text);

/* The next sub-message; every level was read through before. */
bool logs_nest_next(struct wire_nest *nest, struct span *ret);

/* An attribute, or an entry of a map, which has the same form; its parent is one of a list, or not.
 */
#define LOGS_NO_RECORD SIZE_MAX
int logs_check_attribute(struct span bytes,
                         struct wire_problem *problem,
                         const char *parent,
                         size_t record,
                         size_t at);
