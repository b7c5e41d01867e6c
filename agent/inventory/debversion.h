#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Versions of Debian's packages, [epoch:]upstream[-revision], in the order of deb-version(7).
 * Private to agent/inventory; pure.
 */

/* Below 0: a is older; 0: the same, as 1.0 and 0:1.0-0 are; above 0: newer. Any text has a place.
 */
int debversion_compare(const char *a, const char *b);
