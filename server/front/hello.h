#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Private to server/front: an agent says who it is, before anything of it is taken: its number in
 * the store, and whether the registry lets it come from here, as this machine. The registry alone
 * decides about clones (pki_agent_hello()); ingest does where there is none (insecure mode).
 */

#include "sentinel/telemetry/v1/telemetry.pb-c.h"

#include "server/front/inside.h"

struct front_hello {
    struct front *front;
    const char *name, *peer; /* the caller's, the call's */
    uint8_t instance[16];
    size_t n_instance;
    struct identity_fingerprint fingerprint;
    uint64_t generation_seen;

    /* out */
    uint32_t agent;
    enum front_failure failure;
    int r;
    struct front_detail detail;
};

/* Copies what the registry asks for. */
void front_hello_read(struct front_hello *hello, const Sentinel__Telemetry__V1__StreamHello *from);
/* On a reader: blocks. Fills what is out. */
void front_hello_run(struct front_hello *hello);
