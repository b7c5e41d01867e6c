#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

#include <check.h>

/* Which files are followed, and what becomes of their lines. */
TCase *logs_files_case(void);
/* The journal's program, and what it may print. */
TCase *logs_journal_case(void);
