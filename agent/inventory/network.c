/* SPDX-License-Identifier: Apache-2.0 */

/* Interfaces, addresses, routes, resolvers, neighbours. */

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdlib.h>
#include <string.h>

#include "agent/inventory/table.h"

#define PATH_BYTES 400
#define FACT_BYTES 256

static void put_fact(struct table *t, const char *interface, const char *what)
{
    char path[PATH_BYTES], fact[FACT_BYTES];

    snprintf(path, sizeof(path), "sys/class/net/%.64s/%s", interface, what);
    table_put(t, table_fact(t, path, fact, sizeof(fact)));
}

void table_interface_details(struct table *t)
{
    CLEANUP(closedirp) DIR *directory = table_directory(t, "sys/class/net");
    const char *entry;

    if (!directory) {
        table_absent(t);
        return;
    }
    while ((entry = table_entry(directory)) != NULL) {
        char path[PATH_BYTES], fact[FACT_BYTES];
        const char *speed;

        table_put(t, entry);
        put_fact(t, entry, "address");
        put_fact(t, entry, "type");
        put_fact(t, entry, "mtu");
        put_fact(t, entry, "flags");
        snprintf(path, sizeof(path), "sys/class/net/%.64s/speed", entry);
        speed = table_fact(t, path, fact, sizeof(fact));
        table_put(t, speed[0] == '-' ? "" : speed); /* not connected, or nothing to measure */
        snprintf(path, sizeof(path), "sys/class/net/%.64s/device/driver", entry);
        table_put(t, table_link_name(t, path, fact, sizeof(fact)));
        table_end_row(t);
    }
}

/* ---- addresses: of the network namespace that this process is in ---- */

static const char *text_of(const struct sockaddr *address, char to[static INET6_ADDRSTRLEN])
{
    to[0] = '\0';
    if (address && address->sa_family == AF_INET)
        (void) inet_ntop(AF_INET, &((const struct sockaddr_in *) (const void *) address)->sin_addr,
                         to, INET6_ADDRSTRLEN);
    else if (address && address->sa_family == AF_INET6)
        (void) inet_ntop(AF_INET6,
                         &((const struct sockaddr_in6 *) (const void *) address)->sin6_addr, to,
                         INET6_ADDRSTRLEN);
    return to;
}

void table_interface_addresses(struct table *t)
{
    struct ifaddrs *all = NULL;
    char text[INET6_ADDRSTRLEN];

    if (getifaddrs(&all) != 0) {
        table_unreadable(t, "getifaddrs", 0);
        return;
    }
    for (const struct ifaddrs *at = all; at; at = at->ifa_next) {
        const bool is_point_to_point = at->ifa_flags & IFF_POINTOPOINT;

        if (!at->ifa_addr ||
            (at->ifa_addr->sa_family != AF_INET && at->ifa_addr->sa_family != AF_INET6))
            continue;
        table_put(t, at->ifa_name);
        table_put(t, text_of(at->ifa_addr, text));
        table_put(t, text_of(at->ifa_netmask, text));
        table_put(t, at->ifa_flags & IFF_BROADCAST ? text_of(at->ifa_broadaddr, text) : "");
        table_put(t, is_point_to_point ? text_of(at->ifa_dstaddr, text) : "");
        table_end_row(t);
    }
    freeifaddrs(all);
}

/* ---- routes ---- */

static void put_ipv4(struct table *t, const char *hex)
{
    struct in_addr address = { .s_addr = (in_addr_t) strtoul(hex, NULL, 16) };
    char text[INET_ADDRSTRLEN];

    table_put(t, inet_ntop(AF_INET, &address, text, sizeof(text)));
}

static void routes_of_ipv4(struct table *t)
{
    char *text = table_read(t, "proc/net/route");

    /* Iface Destination Gateway Flags RefCnt Use Metric Mask MTU ... */
    for (char *line; text && (line = table_line(&text));) {
        char *words[8] = { NULL };

        for (int i = 0; i < 8; i++)
            words[i] = table_word(&line);
        if (!words[7] || strcmp(words[0], "Iface") == 0)
            continue;
        put_ipv4(t, words[1]);
        put_ipv4(t, words[7]);
        put_ipv4(t, words[2]);
        table_put(t, words[0]);
        table_put_u64(t, strtoull(words[3], NULL, 16));
        table_put(t, words[6]);
        table_put(t, "ipv4");
        table_end_row(t);
    }
}

static bool read_ipv6(const char *hex, char to[static INET6_ADDRSTRLEN])
{
    struct in6_addr address;

    if (strlen(hex) != 32)
        return false;
    for (size_t i = 0; i < 16; i++) {
        const char pair[3] = { hex[2 * i], hex[2 * i + 1], '\0' };

        address.s6_addr[i] = (uint8_t) strtoul(pair, NULL, 16);
    }
    return inet_ntop(AF_INET6, &address, to, INET6_ADDRSTRLEN) != NULL;
}

static void routes_of_ipv6(struct table *t)
{
    char *text = table_read_if(t, "proc/net/ipv6_route");
    char destination[INET6_ADDRSTRLEN], gateway[INET6_ADDRSTRLEN];

    /* destination length source length gateway metric references use flags interface */
    for (char *line; text && (line = table_line(&text));) {
        char *words[10] = { NULL };

        for (int i = 0; i < 10; i++)
            words[i] = table_word(&line);
        if (!words[9] || !read_ipv6(words[0], destination) || !read_ipv6(words[4], gateway))
            continue;
        table_put(t, destination);
        table_put_u64(t, strtoull(words[1], NULL, 16));
        table_put(t, gateway);
        table_put(t, words[9]);
        table_put_u64(t, strtoull(words[8], NULL, 16));
        table_put_u64(t, strtoull(words[5], NULL, 16));
        table_put(t, "ipv6");
        table_end_row(t);
    }
}

void table_routes(struct table *t)
{
    routes_of_ipv4(t);
    routes_of_ipv6(t);
}

/* ---- resolvers: resolv.conf(5) ---- */

void table_dns_resolvers(struct table *t)
{
    struct buf options = { 0 };
    char *text = table_read(t, "etc/resolv.conf");
    uint64_t n_servers = 0, n_domains = 0;

    if (!text && !t->is_unreadable)
        table_absent(t);
    for (char *line; text && (line = table_line(&text));) {
        const char *key = table_word(&line);
        const bool is_server = key && strcmp(key, "nameserver") == 0;

        if (key && strcmp(key, "options") == 0)
            buf_printf(&options, "%s%s", options.len ? " " : "", table_trim(line));
        if (!is_server && (!key || strcmp(key, "search") != 0))
            continue;
        for (char *word; (word = table_word(&line));) {
            table_put_u64(t, is_server ? n_servers++ : n_domains++);
            table_put(t, is_server ? "nameserver" : "search");
            table_put(t, word);
            table_end_row(t);
        }
    }
    if (options.len) {
        table_put_u64(t, 0);
        table_put(t, "options");
        table_put(t, "");
        table_put_span(t, buf_span(&options));
        table_end_row(t);
    }
    buf_deinit(&options);
}

void table_arp_cache(struct table *t)
{
    char *text = table_read(t, "proc/net/arp");

    /* IP address, HW type, Flags, HW address, Mask, Device; the head has words of two */
    for (char *line; text && (line = table_line(&text));) {
        char *words[6] = { NULL };

        for (int i = 0; i < 6; i++)
            words[i] = table_word(&line);
        if (!words[5] || strcmp(words[0], "IP") == 0)
            continue;
        table_put(t, words[0]);
        table_put(t, words[3]);
        table_put(t, words[5]);
        table_put_u64(t, (strtoul(words[2], NULL, 16) & ATF_PERM) != 0);
        table_end_row(t);
    }
}
