/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/collect/collector.h"
#include "common/base/clock.h"
#include "common/base/file.h"

/*
 * How many sockets, and TCP connections by state, on a host that may have 100,000 of them.
 *
 * The kernel keeps count of what is numerous: TIME_WAIT in /proc/net/sockstat, and ESTABLISHED with
 * CLOSE_WAIT as CurrEstab in /proc/net/snmp. The other states are few; they are asked for by name
 * over netlink (sock_diag(7)), so that the kernel walks its table and answers with those alone,
 * some ten times cheaper than the text of /proc/net/tcp. A walk that took d is not repeated before
 * WALK_SHARE x d, or PAUSE_US where that is less (FAILED_PAUSE_US when it failed): until then the
 * last one's counts are said again.
 *
 * Netlink speaks of our own network namespace: below another root, /proc/1/net/tcp is read instead,
 * up to MAX_TEXT_SOCKETS.
 */
#define WALK_SHARE 5000
#define PAUSE_US INT64_C(30000000)
#define FAILED_PAUSE_US INT64_C(10000000)
#define MAX_TEXT_SOCKETS 20000

static const struct collect_metric connections = { "system.network.connection.count",
                                                   "{connection}", SPOOL_GAUGE };
static const struct collect_metric used = { "system.linux.socket.count", "{socket}", SPOOL_GAUGE };
static const struct collect_metric orphaned = { "system.linux.tcp.orphan.count", "{socket}",
                                                SPOOL_GAUGE };
static const struct collect_metric memory = { "system.linux.socket.memory", "By", SPOOL_GAUGE };
static const struct collect_metric tcp_events = { "system.linux.tcp.events", "{event}",
                                                  SPOOL_COUNTER };
static const struct collect_metric udp_events = { "system.linux.udp.events", "{event}",
                                                  SPOOL_COUNTER };

/* By the kernel's numbers (include/net/tcp_states.h). */
enum {
    ESTABLISHED = 1,
    FIN_WAIT_2 = 5,
    TIME_WAIT = 6,
    CLOSE_WAIT = 8,
    NEW_SYN_RECV = 12,
    N_STATES
};
static const char *const state_names[N_STATES] = {
    NULL,     "established", "syn_sent", "syn_received", "fin_wait_1", "fin_wait_2", "time_wait",
    "closed", "close_wait",  "last_ack", "listen",       "closing",    NULL,
};

struct state {
    int64_t again_us;
    uint64_t counts[N_STATES];
    uint64_t n_waiting_fin_2; /* FIN_WAIT_2 that the kernel keeps, and counts, as TIME_WAIT */
    bool has_counts;
};

/* What the kernel counts by itself. */
struct totals {
    bool has_tcp, has_established;
    uint64_t n_time_wait, n_established; /* with CLOSE_WAIT */
    uint64_t n_tcp, n_udp;
};

static uint64_t value_of(char *line, const char *key, bool *ret_has)
{
    char *cursor = line;
    uint64_t value;

    for (char *word; (word = collect_word(&cursor));) {
        if (strcmp(word, key) != 0)
            continue;
        if (!collect_u64(&cursor, &value))
            break;
        *ret_has = true;
        return value;
    }
    return 0;
}

/* "TCP: inuse 1 orphan 0 tw 0 alloc 1 mem 237" */
static void read_sockstat(struct probe *c, struct totals *totals)
{
    char *text = collect_read_machine(c, "proc/1/net/sockstat", "proc/net/sockstat");

    for (char *line; text && (line = collect_line(&text));) {
        const struct {
            const char *row, *key;
        } rows[] = { { "sockets:", "used" }, { "TCP:", "inuse" }, { "TCP:", "orphan" },
                     { "TCP:", "tw" },       { "TCP:", "mem" },   { "UDP:", "inuse" },
                     { "UDP:", "mem" } };

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            char copy[256];
            bool has = false;
            uint64_t value;

            if (strncmp(line, rows[i].row, strlen(rows[i].row)) != 0)
                continue;
            snprintf(copy, sizeof(copy), "%s", line);
            value = value_of(copy, rows[i].key, &has);
            if (!has) {
                collect_count_error(c);
                continue;
            }
            if (i == 0)
                collect_add(c, &used, (double) value, NULL);
            else if (i == 1)
                totals->n_tcp += value;
            else if (i == 2)
                collect_add(c, &orphaned, (double) value, NULL);
            else if (i == 3) {
                totals->n_time_wait = value;
                totals->has_tcp = true;
            } else if (i == 5)
                totals->n_udp += value;
            else
                collect_add(c, &memory, (double) value * c->machine->page_bytes,
                            ATTRIBUTES({ "network.transport", i == 4 ? "tcp" : "udp" }));
        }
    }
}

static void read_sockstat6(struct probe *c, struct totals *totals)
{
    char *text = collect_read_machine(c, "proc/1/net/sockstat6", "proc/net/sockstat6");
    bool has;

    for (char *line; text && (line = collect_line(&text));) {
        if (strncmp(line, "TCP6:", 5) == 0)
            totals->n_tcp += value_of(line, "inuse", &has);
        else if (strncmp(line, "UDP6:", 5) == 0)
            totals->n_udp += value_of(line, "inuse", &has);
    }
}

struct event {
    const char *group, *key, *name;
    const struct collect_metric *metric;
};

static const struct event events[] = {
    { "Tcp:", "ActiveOpens", "active_open", &tcp_events },
    { "Tcp:", "PassiveOpens", "passive_open", &tcp_events },
    { "Tcp:", "AttemptFails", "attempt_failed", &tcp_events },
    { "Tcp:", "EstabResets", "established_reset", &tcp_events },
    { "Tcp:", "RetransSegs", "retransmitted_segment", &tcp_events },
    { "Tcp:", "InErrs", "receive_error", &tcp_events },
    { "Tcp:", "OutRsts", "sent_reset", &tcp_events },
    { "TcpExt:", "ListenOverflows", "listen_overflow", &tcp_events },
    { "TcpExt:", "ListenDrops", "listen_drop", &tcp_events },
    { "TcpExt:", "TCPTimeouts", "timeout", &tcp_events },
    { "Udp:", "NoPorts", "no_port", &udp_events },
    { "Udp:", "InErrors", "receive_error", &udp_events },
    { "Udp:", "RcvbufErrors", "receive_buffer_full", &udp_events },
    { "Udp:", "SndbufErrors", "send_buffer_full", &udp_events },
};

/* A line of names, then one of numbers, each after "Tcp:". */
static void add_events(struct probe *c, char *names, char *numbers, struct totals *totals)
{
    const char *group = collect_word(&names);
    const char *again = collect_word(&numbers);
    const char *name;

    if (!group || !again || strcmp(group, again) != 0) {
        collect_count_error(c);
        return;
    }
    while ((name = collect_word(&names))) {
        char *word = collect_word(&numbers);
        uint64_t value;

        if (!word) {
            collect_count_error(c);
            return;
        }
        if (!collect_u64(&word, &value)) /* MaxConn is -1 */
            continue;
        if (strcmp(group, "Tcp:") == 0 && strcmp(name, "CurrEstab") == 0) {
            totals->n_established = value;
            totals->has_established = true;
        }
        for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
            if (strcmp(group, events[i].group) == 0 && strcmp(name, events[i].key) == 0)
                collect_add(c, events[i].metric, (double) value,
                            ATTRIBUTES({ "system.linux.network.event", events[i].name }));
    }
}

static void
read_snmp(struct probe *c, const char *of_process_1, const char *own, struct totals *totals)
{
    char *text = collect_read_machine(c, of_process_1, own);

    for (char *names; text && (names = collect_line(&text));) {
        char *numbers = collect_line(&text);

        if (!numbers) {
            collect_count_error(c);
            return;
        }
        if (strncmp(names, "Tcp", 3) == 0 || strncmp(names, "Udp:", 4) == 0)
            add_events(c, names, numbers, totals);
    }
}

/* ---- the states that are few ---- */

/* A part of the answer. False: it was the last. */
static bool count_answer(struct state *state, const char *bytes, size_t len)
{
    const struct nlmsghdr *message = (const void *) bytes;

    for (; NLMSG_OK(message, len); message = NLMSG_NEXT(message, len)) {
        const struct inet_diag_msg *diag = NLMSG_DATA(message);

        if (message->nlmsg_type == NLMSG_DONE || message->nlmsg_type == NLMSG_ERROR)
            return false;
        if (message->nlmsg_len < NLMSG_LENGTH(sizeof(*diag)) || diag->idiag_state >= N_STATES)
            continue;
        state->counts[diag->idiag_state]++;
        /* inet_diag says 3 of those. */
        if (diag->idiag_state == FIN_WAIT_2 && diag->idiag_timer == 3)
            state->n_waiting_fin_2++;
    }
    return true;
}

static bool walk_family(struct state *state, int fd, uint8_t family)
{
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 ask;
    } request = {
        .header = { .nlmsg_len = sizeof(request),
                    .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                    .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
        .ask = { .sdiag_family = family,
                 .sdiag_protocol = IPPROTO_TCP,
                 .idiag_states =
                     ((1u << N_STATES) - 1) & ~(1u << ESTABLISHED) & ~(1u << TIME_WAIT) },
    };
    _Alignas(struct nlmsghdr) char answer[16384];
    ssize_t n;

    if (send(fd, &request, sizeof(request), 0) != sizeof(request))
        return false;
    do
        n = recv(fd, answer, sizeof(answer), 0);
    while ((n < 0 && errno == EINTR) || (n > 0 && count_answer(state, answer, (size_t) n)));
    return n > 0;
}

static bool walk_netlink(struct state *state)
{
    /* The kernel answers at once: only what is wrong with it would wait. */
    const struct timeval patience = { .tv_usec = 200000 };
    CLEANUP(fd_closep) int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

    return fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0 &&
           walk_family(state, fd, AF_INET) && walk_family(state, fd, AF_INET6);
}

/* "   0: 0100007F:1F92 00000000:0000 0A ...": the fourth word is the state. */
static bool
walk_text(struct probe *c, struct state *state, const char *of_process_1, const char *own)
{
    char *text = collect_read_machine(c, of_process_1, own);

    if (!text || !collect_line(&text))
        return false;
    for (char *line; (line = collect_line(&text));) {
        const char *word = NULL;
        unsigned long number;

        for (unsigned i = 0; i < 4; i++)
            word = collect_word(&line);
        number = word ? strtoul(word, NULL, 16) : 0;
        if (number == 0 || number >= N_STATES) {
            collect_count_error(c);
            return false;
        }
        state->counts[number]++;
    }
    return true;
}

static void walk(struct probe *c, struct state *state, const struct totals *totals)
{
    int64_t begin = clock_mono().us, end, pause_us, limit_us;

    if (begin < state->again_us)
        return;
    memset(state->counts, 0, sizeof(state->counts));
    state->n_waiting_fin_2 = 0;
    if (!collect_is_elsewhere(c)) {
        state->has_counts = walk_netlink(state);
    } else if (totals->n_tcp + totals->n_time_wait <= MAX_TEXT_SOCKETS) {
        state->has_counts = walk_text(c, state, "proc/1/net/tcp", "proc/net/tcp");
        (void) walk_text(c, state, "proc/1/net/tcp6", "proc/net/tcp6");
        state->counts[ESTABLISHED] = state->counts[TIME_WAIT] = 0; /* the kernel counts better */
    } else {
        state->has_counts = false;
    }
    end = clock_mono().us;
    pause_us = (end - begin) * WALK_SHARE;
    limit_us = state->has_counts ? PAUSE_US : FAILED_PAUSE_US;
    state->again_us = end + (pause_us < limit_us ? pause_us : limit_us);
}

static uint64_t less(uint64_t from, uint64_t what)
{
    return from > what ? from - what : 0;
}

static void add_connections(struct probe *c, struct state *state, const struct totals *totals)
{
    uint64_t counts[N_STATES] = { 0 };

    if (state->has_counts)
        memcpy(counts, state->counts, sizeof(counts));
    counts[3] += counts[NEW_SYN_RECV];
    counts[ESTABLISHED] = less(totals->n_established, counts[CLOSE_WAIT]);
    counts[TIME_WAIT] = less(totals->n_time_wait, state->has_counts ? state->n_waiting_fin_2 : 0);
    for (size_t i = 1; i < N_STATES; i++) {
        if (!state_names[i] || (!state->has_counts && i != ESTABLISHED && i != TIME_WAIT))
            continue;
        collect_add(c, &connections, (double) counts[i],
                    ATTRIBUTES({ "network.connection.state", state_names[i] },
                               { "network.transport", "tcp" }));
    }
    collect_add(c, &connections, (double) totals->n_udp,
                ATTRIBUTES({ "network.transport", "udp" }));
}

void collect_sockets(struct probe *c)
{
    struct state *state = collect_state(c, sizeof(*state));
    struct totals totals = { 0 };

    if (!state)
        return;
    read_sockstat(c, &totals);
    read_sockstat6(c, &totals);
    read_snmp(c, "proc/1/net/snmp", "proc/net/snmp", &totals);
    read_snmp(c, "proc/1/net/netstat", "proc/net/netstat", &totals);
    if (!totals.has_tcp || !totals.has_established)
        return;
    walk(c, state, &totals);
    add_connections(c, state, &totals);
}
