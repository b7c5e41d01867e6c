/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/collect/statsd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/collect/engine.h"
#include "common/base/clock.h"
#include "common/base/text.h"
#include "common/log/log.h"

/* Values of a timer that its percentiles come from: a uniform choice of the round's. */
#define RESERVOIR 128
/* The largest payload of a UDP datagram over IPv4. */
#define MAX_DATAGRAM 65507
/* Before the loop has its turn again. */
#define MAX_BURST 512
#define WANTED_BUFFER_BYTES (1 << 20)

struct entry {
    int64_t last_us;
    enum statsd_type type;
    bool is_ms;
    double value, count; /* a counter's or gauge's; a timer's sum, and how many */
    double min, max;     /* of this round */
    uint64_t n_seen;     /* of this round */
    double *kept;        /* RESERVOIR, once there was one */
    uint64_t *hashes;    /* a set's, n_seen of them */
    size_t hashes_capacity;
    char *name;
    struct spool_attribute *tags; /* ends with a row without a key; in the same block */
    struct span key;
};

struct statsd {
    struct statsd_options options;
    struct map entries;
    uint64_t seed; /* of the choice */
    uint64_t n_lines, n_refused, n_lost;
    uint32_t last_overflow;
    struct loop *loop;
    struct loop_file file;
    char *datagram;
    char listen[64];
};

static const struct collect_metric lines_metric = { "sentinel.agent.statsd.lines", "{line}",
                                                    SPOOL_COUNTER };
static const struct collect_metric refused_metric = { "sentinel.agent.statsd.refused", "{line}",
                                                      SPOOL_COUNTER };
static const struct collect_metric lost_metric = { "sentinel.agent.statsd.lost", "{datagram}",
                                                   SPOOL_COUNTER };

static struct entry *entry_free(struct entry *entry)
{
    if (!entry)
        return NULL;
    free(entry->kept);
    free(entry->hashes);
    free(entry);
    return NULL;
}

struct statsd *statsd_new(const struct statsd_options *options)
{
    struct statsd *statsd = calloc(1, sizeof(*statsd));

    if (!statsd)
        return NULL;
    statsd->options = *options;
    statsd->seed = (uint64_t) clock_mono().us | 1;
    statsd->file.fd = -1;
    return statsd;
}

struct statsd *statsd_free(struct statsd *statsd)
{
    struct entry *entry;
    size_t at = 0;

    if (!statsd)
        return NULL;
    statsd_hang_up(statsd);
    while ((entry = map_next(&statsd->entries, &at)))
        (void) entry_free(entry);
    map_deinit(&statsd->entries);
    free(statsd);
    return NULL;
}

void statsd_set_options(struct statsd *statsd, const struct statsd_options *options)
{
    statsd->options = *options;
}

/* ---- series ---- */

static int compare_tags(const void *a, const void *b)
{
    const struct span *left = a, *right = b; /* the key is first */
    size_t len = left->len < right->len ? left->len : right->len;
    int order = memcmp(left->data, right->data, len);

    return order ? order : left->len < right->len ? -1 : left->len > right->len;
}

/* Type and texts, each with a NUL: what tells one series from another. */
static void put_key(struct buf *to, const struct statsd_line *line)
{
    const uint8_t type = (uint8_t) line->type;

    buf_append(to, &type, 1);
    buf_append_span(to, line->name);
    buf_append(to, "", 1);
    for (size_t i = 0; i < line->n_tags; i++) {
        buf_append_span(to, line->tags[i].key);
        buf_append(to, "", 1);
        buf_append_span(to, line->tags[i].value);
        buf_append(to, "", 1);
    }
}

/* One block: the struct, the tags, the key, which holds name and tags as texts. */
static struct entry *entry_new(const struct statsd_line *line, struct span key)
{
    size_t tags_bytes = (line->n_tags + 1) * sizeof(struct spool_attribute);
    struct entry *entry = calloc(1, sizeof(*entry) + tags_bytes + key.len);
    char *at;

    if (!entry)
        return NULL;
    entry->type = line->type;
    entry->is_ms = line->is_ms;
    entry->tags = (struct spool_attribute *) (void *) (entry + 1);
    at = (char *) (entry->tags + line->n_tags + 1);
    memcpy(at, key.data, key.len);
    entry->key = span_of(at, key.len);
    entry->name = ++at;
    for (size_t i = 0; i < line->n_tags; i++) {
        at += strlen(at) + 1;
        entry->tags[i].key = at;
        at += strlen(at) + 1;
        entry->tags[i].value = at;
    }
    return entry;
}

static struct entry *entry_of(struct statsd *statsd, const struct statsd_line *line)
{
    CLEANUP(buf_deinit) struct buf key = { 0 };
    struct entry *entry;

    put_key(&key, line);
    if (buf_failed(&key))
        return NULL;
    entry = map_get(&statsd->entries, buf_span(&key));
    if (entry || statsd->entries.n_entries >= statsd->options.max_series)
        return entry;
    entry = entry_new(line, buf_span(&key));
    if (entry && map_put(&statsd->entries, entry->key, entry))
        entry = entry_free(entry);
    return entry;
}

static uint64_t next_random(struct statsd *statsd)
{
    statsd->seed ^= statsd->seed << 13; /* xorshift64: a choice, no secret */
    statsd->seed ^= statsd->seed >> 7;
    statsd->seed ^= statsd->seed << 17;
    return statsd->seed;
}

static void take_time(struct statsd *statsd, struct entry *entry, double value, double rate)
{
    uint64_t at = entry->n_seen;

    entry->value += value / rate;
    entry->count += 1 / rate;
    entry->min = entry->n_seen == 0 || value < entry->min ? value : entry->min;
    entry->max = entry->n_seen == 0 || value > entry->max ? value : entry->max;
    entry->n_seen++;
    if (!entry->kept)
        entry->kept = malloc(RESERVOIR * sizeof(*entry->kept));
    if (at >= RESERVOIR)
        at = next_random(statsd) % entry->n_seen;
    if (entry->kept && at < RESERVOIR)
        entry->kept[at] = value;
}

static bool take_member(struct statsd *statsd, struct entry *entry, struct span value)
{
    uint64_t hash = 14695981039346656037u;

    for (size_t i = 0; i < value.len; i++)
        hash = (hash ^ value.data[i]) * 1099511628211u;
    for (uint64_t i = 0; i < entry->n_seen; i++)
        if (entry->hashes[i] == hash)
            return true;
    if (entry->n_seen >= statsd->options.max_set)
        return false;
    if (entry->n_seen == entry->hashes_capacity) {
        size_t capacity = entry->hashes_capacity ? entry->hashes_capacity * 2 : 16;
        void *grown = realloc(entry->hashes, capacity * sizeof(*entry->hashes));

        if (!grown)
            return false;
        entry->hashes = grown;
        entry->hashes_capacity = capacity;
    }
    entry->hashes[entry->n_seen++] = hash;
    return true;
}

static bool
take_value(struct statsd *statsd, struct entry *entry, const struct statsd_line *line, size_t i)
{
    bool is_change = line->values[i].data[0] == '+' || line->values[i].data[0] == '-';

    switch (line->type) {
    case STATSD_COUNTER:
        if (line->numbers[i] < 0)
            return false; /* it would look like a restart */
        entry->value += line->numbers[i] / line->rate;
        return true;
    case STATSD_GAUGE:
        entry->value = is_change ? entry->value + line->numbers[i] : line->numbers[i];
        return true;
    case STATSD_TIMER:
        take_time(statsd, entry, line->numbers[i], line->rate);
        return true;
    case STATSD_SET:
        return take_member(statsd, entry, line->values[i]);
    }
    return false;
}

static bool take_line(struct statsd *statsd, struct span bytes, int64_t now_us)
{
    struct statsd_line line;
    struct entry *entry;
    bool is_good = true;

    statsd->n_lines++;
    if (statsd_parse(bytes, &line))
        return false;
    if (line.n_tags > 1)
        qsort(line.tags, line.n_tags, sizeof(line.tags[0]), compare_tags);
    entry = entry_of(statsd, &line);
    if (!entry)
        return false;
    entry->last_us = now_us;
    for (size_t i = 0; i < line.n_values; i++)
        is_good = take_value(statsd, entry, &line, i) && is_good;
    return is_good;
}

void statsd_take(struct statsd *statsd, struct span bytes, int64_t now_us)
{
    while (bytes.len > 0) {
        const uint8_t *end = memchr(bytes.data, '\n', bytes.len);
        size_t len = end ? (size_t) (end - bytes.data) : bytes.len;
        struct span line = span_of(bytes.data, len);

        if (line.len > 0 && line.data[line.len - 1] == '\r')
            line.len--;
        if (line.len > 0 && !take_line(statsd, line, now_us))
            statsd->n_refused++;
        len += end != NULL;
        bytes = span_of(bytes.data + len, bytes.len - len);
    }
}

/* ---- a round ---- */

static int compare_numbers(const void *a, const void *b)
{
    const double *left = a, *right = b;

    return *left < *right ? -1 : *left > *right;
}

static void say(struct probe *probe,
                const struct entry *entry,
                const char *suffix,
                enum spool_kind kind,
                double value)
{
    char name[STATSD_NAME_BYTES + 16];
    const struct collect_metric metric = {
        name, entry->is_ms && suffix[0] && strcmp(suffix, ".count") != 0 ? "ms" : "", kind
    };

    snprintf(name, sizeof(name), "%s%s", entry->name, suffix);
    collect_add(probe, &metric, value, entry->tags);
}

static void tell_timer(struct probe *probe, struct entry *entry)
{
    static const struct {
        const char *suffix;
        size_t percent;
    } rows[] = { { ".p50", 50 }, { ".p95", 95 }, { ".p99", 99 } };
    size_t n = entry->n_seen < RESERVOIR ? (size_t) entry->n_seen : RESERVOIR;

    say(probe, entry, ".count", SPOOL_COUNTER, entry->count);
    say(probe, entry, ".sum", SPOOL_COUNTER, entry->value);
    if (n == 0)
        return;
    say(probe, entry, ".min", SPOOL_GAUGE, entry->min);
    say(probe, entry, ".max", SPOOL_GAUGE, entry->max);
    if (!entry->kept)
        return;
    qsort(entry->kept, n, sizeof(*entry->kept), compare_numbers);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) /* nearest rank */
        say(probe, entry, rows[i].suffix, SPOOL_GAUGE,
            entry->kept[(n * rows[i].percent + 99) / 100 - 1]);
}

static void tell_entry(struct probe *probe, struct entry *entry)
{
    switch (entry->type) {
    case STATSD_COUNTER:
        say(probe, entry, "", SPOOL_COUNTER, entry->value);
        break;
    case STATSD_GAUGE:
        say(probe, entry, "", SPOOL_GAUGE, entry->value);
        break;
    case STATSD_TIMER:
        tell_timer(probe, entry);
        break;
    case STATSD_SET:
        say(probe, entry, ".unique", SPOOL_GAUGE, (double) entry->n_seen);
        break;
    }
    entry->n_seen = 0;
}

/* The map must not change during a walk: one at a time. */
static void forget_old(struct statsd *statsd, int64_t now_us)
{
    struct entry *entry;

    do {
        size_t at = 0;

        while ((entry = map_next(&statsd->entries, &at)))
            if (now_us - entry->last_us > STATSD_KEEP_US)
                break;
        if (entry) {
            (void) map_remove(&statsd->entries, entry->key);
            (void) entry_free(entry);
        }
    } while (entry);
}

void statsd_tell(struct statsd *statsd, struct probe *probe, int64_t now_us)
{
    struct entry *entry;
    size_t at = 0;

    forget_old(statsd, now_us);
    while ((entry = map_next(&statsd->entries, &at)))
        tell_entry(probe, entry);
    collect_add(probe, &lines_metric, (double) statsd->n_lines, NULL);
    collect_add(probe, &refused_metric, (double) statsd->n_refused, NULL);
    collect_add(probe, &lost_metric, (double) statsd->n_lost, NULL);
}

void collect_statsd(struct probe *c)
{
    if (c->collect->statsd)
        statsd_tell(c->collect->statsd, c, clock_mono().us);
}

/* ---- the socket ---- */

/* "127.0.0.1:8125", "[::1]:8125" */
static bool parse_listen(const char *listen, struct sockaddr_storage *ret, socklen_t *ret_len)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *) ret;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *) ret;
    const char *colon = strrchr(listen, ':');
    char host[64];
    uint64_t port;

    memset(ret, 0, sizeof(*ret));
    if (!colon || text_to_u64(colon + 1, &port) || port > 65535 ||
        (size_t) (colon - listen) >= sizeof(host))
        return false;
    snprintf(host, sizeof(host), "%.*s", (int) (colon - listen), listen);
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t) port);
        *ret_len = sizeof(*v4);
        return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    }
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons((uint16_t) port);
    *ret_len = sizeof(*v6);
    return strcmp(host, "[::1]") == 0 && inet_pton(AF_INET6, "::1", &v6->sin6_addr) == 1;
}

const char *statsd_check_listen(const char *listen)
{
    struct sockaddr_storage address;
    socklen_t len;

    if (!listen[0] || parse_listen(listen, &address, &len))
        return NULL;
    return "write ADDRESS:PORT on loopback, as 127.0.0.1:8125 or [::1]:8125: who sends statsd is "
           "not "
           "asked who he is";
}

/* SO_RXQ_OVFL: how many the kernel dropped, as of this datagram; it goes round at 2^32. */
static void count_lost(struct statsd *statsd, struct msghdr *message)
{
    for (struct cmsghdr *at = CMSG_FIRSTHDR(message); at; at = CMSG_NXTHDR(message, at)) {
        uint32_t overflow;

        if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SO_RXQ_OVFL)
            continue;
        memcpy(&overflow, CMSG_DATA(at), sizeof(overflow));
        statsd->n_lost += overflow - statsd->last_overflow;
        statsd->last_overflow = overflow;
    }
}

static void on_datagrams(struct loop_file *file, uint32_t events)
{
    struct statsd *statsd = file->ctx;
    int64_t now_us = clock_mono().us;

    (void) events;
    for (size_t i = 0; i < MAX_BURST; i++) {
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(uint32_t))];
        struct iovec to = { statsd->datagram, MAX_DATAGRAM };
        struct msghdr message = { .msg_iov = &to,
                                  .msg_iovlen = 1,
                                  .msg_control = control,
                                  .msg_controllen = sizeof(control) };
        ssize_t n = recvmsg(file->fd, &message, MSG_DONTWAIT);

        if (n < 0)
            return;
        count_lost(statsd, &message);
        statsd_take(statsd, span_of(statsd->datagram, (size_t) n), now_us);
    }
}

static int open_socket(const char *listen)
{
    struct sockaddr_storage address;
    socklen_t len;
    int one = 1, bytes = WANTED_BUFFER_BYTES;
    int fd;

    if (!parse_listen(listen, &address, &len)) {
        errno = EINVAL;
        return -1;
    }
    fd = socket(address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    /* As much of both as the kernel grants. */
    (void) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
    (void) setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &one, sizeof(one));
    if (bind(fd, (const struct sockaddr *) &address, len) == 0)
        return fd;
    one = errno;
    close(fd);
    errno = one;
    return -1;
}

bool statsd_listen(struct statsd *statsd, struct loop *loop, const char *listen)
{
    if (statsd->file.fd >= 0 && strcmp(statsd->listen, listen) == 0)
        return true;
    statsd_hang_up(statsd);
    statsd->datagram = malloc(MAX_DATAGRAM);
    statsd->file = (struct loop_file){
        .fd = open_socket(listen), .events = EPOLLIN, .fn = on_datagrams, .ctx = statsd
    };
    statsd->loop = loop;
    statsd->last_overflow = 0;
    if (statsd->datagram && statsd->file.fd >= 0 && loop_file_add(loop, &statsd->file) == 0) {
        snprintf(statsd->listen, sizeof(statsd->listen), "%s", listen);
        return true;
    }
    log_event(LOG_ERROR, "statsd_deaf", LOG_S("listen", listen), LOG_S("error", strerror(errno)),
              LOG_S("remedy", "free the port or give collect.statsd.listen another; then SIGHUP"));
    statsd_hang_up(statsd);
    return false;
}

void statsd_hang_up(struct statsd *statsd)
{
    if (statsd->file.fd >= 0) {
        if (statsd->file.is_added)
            loop_file_remove(statsd->loop, &statsd->file);
        close(statsd->file.fd);
    }
    statsd->file.fd = -1;
    free(statsd->datagram);
    statsd->datagram = NULL;
}

void collect_start(struct collect *collect, struct loop *loop)
{
    const struct statsd_options options = { .max_series = collect->rules->numbers.max_custom,
                                            .max_set = collect->rules->numbers.max_custom };
    const char *listen = collect->rules->texts[COLLECT_STATSD_LISTEN];

    if (!listen[0]) {
        collect_stop(collect);
        return;
    }
    if (!collect->statsd)
        collect->statsd = statsd_new(&options);
    if (!collect->statsd)
        return;
    statsd_set_options(collect->statsd, &options);
    (void) statsd_listen(collect->statsd, loop, listen);
}

void collect_stop(struct collect *collect)
{
    collect->statsd = statsd_free(collect->statsd);
}
