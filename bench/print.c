/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/print.h"

#include <math.h>
#include <stdio.h>

void print_json_number(struct json_writer *json, const char *key, double value, double scale)
{
    json_key(json, key);
    if (isnan(value))
        json_null(json);
    else
        json_f64(json, round(value * scale) / scale);
}

void print_line(const char *name, double value, int decimals, const char *unit)
{
    if (isnan(value))
        printf("%-28s %14s\n", name, "not known");
    else
        printf("%-28s %14.*f %s\n", name, decimals, value, unit);
}
