#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* A machine of the test's own, in a temporary directory, and the tables that it has. */

#include "agent/inventory/inventory.h"

extern char root[64];
void make_root(void);
void remove_root(void);
/* Paths are below the root; directories are made. */
void put_bytes(const char *path, const void *bytes, size_t len);
void put_file(const char *path, const char *text);
void put_link(const char *path, const char *to);

/* "a,b;c,d;" of the table, or "none"; until the next call. */
const char *rows_with(struct inventory_options options, const char *name);
const char *rows_of(const char *name);
/* What kept the table from being whole, or from being there; "" is nothing. */
const char *why_of(struct inventory_options options, const char *name);
