#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What load.c and load_series.c agree on. */

#define LAYOUT_ID 1u /* of the one layout of all series */
