#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

#include <check.h>

/* Each unit test program defines this one suite; suite_main.c runs it. */
Suite *suite(void);
