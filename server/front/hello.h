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
    const struct front_method *method;
    struct front_caller caller; /* a copy, which the reader asks for again */
    const char *peer;           /* the call's */
    bool has_machine; /* read from a hello; else (uploads, inventories) only the address counts */
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
/* On the call's thread: who it is that a reader will see to. */
struct front_hello
front_hello_of(struct front *front, const struct rpc_call *call, const struct front_caller *caller);
/*
 * On a reader: blocks. Fills what is out. Whether the caller is still let in is asked again: while
 * it waited for the reader the agent may have been forgotten, and nobody may make it anew by an id
 * and a certificate that count no more.
 */
void front_hello_run(struct front_hello *hello);
