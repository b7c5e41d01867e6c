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
    bool has_machine;        /* read from a hello; else (uploads) only the address counts */
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
/* May an agent of this name come from there? Blocks. */
enum front_failure
front_address_allowed(struct front *front, const char *name, const char *peer, int *ret_r);
/* On a reader: blocks. Fills what is out. */
void front_hello_run(struct front_hello *hello);
