#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What is long over goes. Private to server/pki. Thread: any. Blocks. */

#include "server/pki/inside.h"

/* One round of pki_tick(). Outcomes: PKI_FULL. */
int pki_clean(struct pki *pki) MUST_USE;
