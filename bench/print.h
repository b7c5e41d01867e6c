#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What the reports of all commands have in common. Private to bench. */

#include "common/json/json.h"

/* A number, rounded to 1 / scale; null when it is not known (NaN). */
void print_json_number(struct json_writer *json, const char *key, double value, double scale);
/* "name   number unit", or "not known". */
void print_line(const char *name, double value, int decimals, const char *unit);
