#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What pki_agent_hello() remembers. Private to server/pki. Thread: the one that opens. */

#include "server/pki/inside.h"

int pki_hellos_open(struct pki *pki) MUST_USE;
void pki_hellos_close(struct pki *pki);
