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

/* A new agent's number is committed first. */
static enum front_failure find_number(struct front_hello *hello)
{
    struct store *store = hello->front->options.store;

    hello->r = store_agent_find(store, hello->name, &hello->agent);
    if (hello->r == STORE_NOT_FOUND)
        hello->r = store_agent_intern(store, hello->name, &hello->agent);
    return failure_of_number(hello->r);
}

static void say_rolled_back(const struct front_hello *hello)
{
    const uint64_t ours = pki_generation(hello->front->options.pki);

    if (hello->generation_seen > ours)
        log_peer(LOG_WARN, "registry_rolled_back", LOG_S("reason", "REGISTRY_ROLLED_BACK"),
                 LOG_S("agent", hello->name), LOG_U("seen", hello->generation_seen),
                 LOG_U("ours", ours));
}

/* May it come from here, as this machine? The registry's rule. */
static enum front_failure ask_registry(struct front_hello *hello)
{
    const struct front_options *options = &hello->front->options;
    uint8_t live[16];
    char source[FRONT_SOURCE_BYTES];
    struct tls_why why = { "" };
    struct pki_hello asked = {
        .name = hello->name,
        .peer = front_source(hello->peer, source),
        .instance = span_of(hello->instance, hello->n_instance),
        .fingerprint = &hello->fingerprint,
        .generation_seen = hello->generation_seen,
    };

    asked.is_live = ingest_get_instance(options->ingest, hello->agent, live);
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

enum front_failure
front_address_allowed(struct front *front, const char *name, const char *peer, int *ret_r)
{
    struct pki_agent agent;

    if (!front->options.pki)
        return FAIL_NOT;
    *ret_r = pki_agent_get(front->options.pki, name, &agent);
    if (*ret_r < 0)
        return FAIL_FAULT;
    if (*ret_r == PKI_UNKNOWN || agent.n_addresses == 0)
        return FAIL_NOT;
    for (size_t i = 0; i < agent.n_addresses; i++) {
        if (quota_address_matches(agent.addresses[i], peer))
            return FAIL_NOT;
    }
    return FAIL_ADDRESS_NOT_ALLOWED;
}

void front_hello_run(struct front_hello *hello)
{
    hello->failure = find_number(hello);
    if (hello->failure != FAIL_NOT || !hello->front->options.pki)
        return;
    hello->failure = hello->has_machine
                         ? ask_registry(hello)
                         : front_address_allowed(hello->front, hello->name, hello->peer, &hello->r);
}
