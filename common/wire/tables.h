#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Tables: what proto/generate.py writes beside wire_methods[] and wire_files[], and only tables.c
 * reads.
 */

#include "common/wire/wire.h"

struct wire_symbol {
    const char *name;
    uint16_t file; /* index into wire_files */
};
/* Sorted by name. */
extern const struct wire_symbol wire_symbols[];
extern const size_t wire_n_symbols;

struct wire_extension {
    const char *type; /* that it extends */
    int32_t number;
    uint16_t file;
};
/* Sorted by type, then number. */
extern const struct wire_extension wire_extensions[];
extern const size_t wire_n_extensions;
