/* SPDX-License-Identifier: Apache-2.0 */
#include "server/front/hello.h"

#include <string.h>

#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "common/log/log.h"

static void
read_source(struct identity_fingerprint *to, enum identity_source source, ProtobufCBinaryData from)
{
    if (from.len == 0)
        return;
    to->has[source] = true;
    if (from.len == sizeof(to->sha256[source]))
        memcpy(to->sha256[source], from.data, from.len);
    else /* of an agent that hashes in its own way: the same text has the same digest */
        crypto_sha256(span_of(from.data, from.len), to->sha256[source]);
}

void front_hello_read(struct front_hello *hello, const Sentinel__Telemetry__V1__StreamHello *from)
{
    const Sentinel__Telemetry__V1__Fingerprint *fingerprint = from->fingerprint;

    hello->has_machine = true;
    hello->generation_seen = from->registry_generation;
    hello->n_instance =
        from->instance.len < sizeof(hello->instance) ? from->instance.len : sizeof(hello->instance);
    if (hello->n_instance > 0)
        memcpy(hello->instance, from->instance.data, hello->n_instance);
    hello->fingerprint = (struct identity_fingerprint){ .has = { false } };
    if (!fingerprint)
        return;
    read_source(&hello->fingerprint, IDENTITY_MACHINE_ID, fingerprint->machine_id);
    read_source(&hello->fingerprint, IDENTITY_DMI, fingerprint->dmi);
    read_source(&hello->fingerprint, IDENTITY_BOOT_DISK, fingerprint->boot_disk);
    read_source(&hello->fingerprint, IDENTITY_FIRST_MAC, fingerprint->first_mac);
}

static enum front_failure failure_of_number(int r)
{
    if (r == STORE_OK)
        return FAIL_NOT;
    if (r == STORE_FULL)
        return FAIL_FULL;
    return r == STORE_STOPPED ? FAIL_STOPPING : FAIL_FAULT;
}

static void say_rolled_back(const struct front_hello *hello)
{
    const uint64_t ours = pki_generation(hello->front->options.pki);

    if (hello->generation_seen > ours)
        log_peer(LOG_WARN, "registry_rolled_back", LOG_S("reason", "REGISTRY_ROLLED_BACK"),
                 LOG_S("agent", hello->caller.name), LOG_U("seen", hello->generation_seen),
                 LOG_U("ours", ours));
}

/* May it come from here, as this machine? The registry's rule. */
static enum front_failure ask_registry(struct front_hello *hello)
{
    const struct front_options *options = &hello->front->options;
    uint32_t number;
    uint8_t live[16];
    char source[FRONT_SOURCE_BYTES];
    struct tls_why why = { "" };
    struct pki_hello asked = {
        .name = hello->caller.name,
        .peer = front_source(hello->peer, source),
        .instance = span_of(hello->instance, hello->n_instance),
        .fingerprint = &hello->fingerprint,
        .generation_seen = hello->generation_seen,
    };

    asked.is_live = store_agent_find(options->store, hello->caller.name, &number) == 0 &&
                    ingest_get_instance(options->ingest, number, live);
    if (asked.is_live)
        asked.live_instance = span_of(live, sizeof(live));
    say_rolled_back(hello);
    hello->r = pki_agent_hello(options->pki, &asked, &why);
    if (hello->r < 0)
        return FAIL_FAULT;
    if (hello->r != PKI_OK)
        front_describe(&hello->detail, hello->r == PKI_CLONED ? "hello.fingerprint" : NULL, "%s",
                       why.text);
    switch (hello->r) {
    case PKI_OK:
    case PKI_UNKNOWN: /* of a foreign CA, or issued beside the registry's agents: nothing is set */
        return FAIL_NOT;
    case PKI_REFUSED:
        return FAIL_ADDRESS_NOT_ALLOWED;
    case PKI_CLONED:
        return FAIL_CLONED;
    case PKI_FULL:
        return FAIL_FULL;
    default:
        return FAIL_FAULT;
    }
}

/* May an agent of this name come from there? */
static enum front_failure ask_address(struct front_hello *hello)
{
    struct pki_agent agent;

    hello->r = pki_agent_get(hello->front->options.pki, hello->caller.name, &agent);
    if (hello->r < 0)
        return FAIL_FAULT;
    if (hello->r == PKI_UNKNOWN || agent.n_addresses == 0)
        return FAIL_NOT;
    for (size_t i = 0; i < agent.n_addresses; i++) {
        if (quota_address_matches(agent.addresses[i], hello->peer))
            return FAIL_NOT;
    }
    return FAIL_ADDRESS_NOT_ALLOWED;
}

static enum front_failure ask(struct front_hello *hello)
{
    enum front_failure failure = front_recheck(hello->front, hello->method, &hello->caller);

    if (failure != FAIL_NOT || !hello->front->options.pki)
        return failure;
    return hello->has_machine ? ask_registry(hello) : ask_address(hello);
}

struct front_hello
front_hello_of(struct front *front, const struct rpc_call *call, const struct front_caller *caller)
{
    return (struct front_hello){ .front = front,
                                 .method = front_call_method(call),
                                 .caller = *caller,
                                 .peer = rpc_call_peer(call) };
}

/* A new agent's number is committed first. */
void front_hello_run(struct front_hello *hello)
{
    struct store *store = hello->front->options.store;
    uint64_t n_forgotten;

    do {
        n_forgotten = store_agents_forgotten(store);
        hello->failure = ask(hello);
        if (hello->failure != FAIL_NOT)
            return;
        hello->r = store_agent_intern_since(store, hello->caller.name, n_forgotten, &hello->agent);
    } while (hello->r == STORE_NOT_FOUND);
    hello->failure = failure_of_number(hello->r);
}
