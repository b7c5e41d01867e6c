/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/lines.h"

#include <string.h>
#include <time.h>

#include "bench/lines_grammar.h"
#include "bench/mix.h"
#include "bench/varint.h"
#include "common/base/ensure.h"
#include "common/logblock/logblock.h"

#define MAX_BODY 8192
#define US INT64_C(1000000)
#define BYTES_OF_LINE 200 /* of the file that it stands in */
#define GOLDEN UINT64_C(0x9e3779b97f4a7c15)

enum kind { NGINX, JSON, JAVA, SSHD, KERNEL };

/* A body that is being written, by dice of its own. */
struct pen {
    uint64_t dice;
    size_t len;
    char body[MAX_BODY];
    uint32_t severity;
    int64_t us;
    struct tm tm; /* of its second */
    int64_t tm_second;
};

/* ---- dice ---- */

static uint64_t roll(struct pen *pen)
{
    pen->dice += GOLDEN;
    return mix(pen->dice);
}

static uint32_t below(struct pen *pen, uint32_t bound)
{
    return (uint32_t) mix_below(roll(pen), bound);
}

/* As words, addresses and customers are used (Zipf): each power of two as often as the next. */
static uint32_t skewed(struct pen *pen, uint32_t bound)
{
    const uint32_t n_bits = 32 - (uint32_t) __builtin_clz(bound);
    const uint32_t value = below(pen, 1u << below(pen, n_bits + 1));

    return value < bound ? value : value - bound;
}

/* ---- writing ---- */

static void put(struct pen *pen, const char *text)
{
    const size_t len = strlen(text);

    ensure(len < MAX_BODY - pen->len);
    memcpy(pen->body + pen->len, text, len);
    pen->len += len;
}

#define PICK(pen, table) put(pen, table[skewed(pen, sizeof(table) / sizeof(table[0]))])

/* At least `width` digits. */
static void put_number(struct pen *pen, uint64_t value, size_t width)
{
    char digits[20];
    size_t n = 0;

    do {
        digits[n++] = (char) ('0' + value % 10);
        value /= 10;
    } while (value > 0 || n < width);
    ensure(n < MAX_BODY - pen->len);
    while (n > 0)
        pen->body[pen->len++] = digits[--n];
}

static void put_hex(struct pen *pen, uint64_t value, size_t n)
{
    for (size_t i = 0; i < n; i++)
        pen->body[pen->len++] = "0123456789abcdef"[value >> (60 - 4 * i) & 15];
}

static void put_ip(struct pen *pen, uint32_t client)
{
    const uint64_t octets = mix(client + 1);

    put_number(pen, 1 + (octets & 127), 1);
    for (int i = 1; i < 4; i++) {
        put(pen, ".");
        put_number(pen, octets >> (8 * i) & 255, 1);
    }
}

static void set_time(struct pen *pen, int64_t us)
{
    const time_t second = (time_t) (us / US);

    pen->us = us;
    if (pen->tm_second == second && pen->tm.tm_year)
        return;
    pen->tm_second = second;
    ensure(gmtime_r(&second, &pen->tm));
}

static void put_clock(struct pen *pen)
{
    put_number(pen, (uint64_t) pen->tm.tm_hour, 2);
    put(pen, ":");
    put_number(pen, (uint64_t) pen->tm.tm_min, 2);
    put(pen, ":");
    put_number(pen, (uint64_t) pen->tm.tm_sec, 2);
}

static void put_date(struct pen *pen)
{
    put_number(pen, (uint64_t) pen->tm.tm_year + 1900, 4);
    put(pen, "-");
    put_number(pen, (uint64_t) pen->tm.tm_mon + 1, 2);
    put(pen, "-");
    put_number(pen, (uint64_t) pen->tm.tm_mday, 2);
}

static void put_millis(struct pen *pen, const char *point)
{
    put(pen, point);
    put_number(pen, (uint64_t) (pen->us % US / 1000), 3);
}

/* ---- kinds of lines ---- */

static void write_nginx(struct pen *pen)
{
    const uint32_t client = skewed(pen, 3000), status = skewed(pen, 24);
    uint32_t path = skewed(pen, N_PATHS);

    put_ip(pen, client);
    put(pen, " - - [");
    put_number(pen, (uint64_t) pen->tm.tm_mday, 2);
    put(pen, "/");
    put(pen, months[pen->tm.tm_mon]);
    put(pen, "/");
    put_number(pen, (uint64_t) pen->tm.tm_year + 1900, 4);
    put(pen, ":");
    put_clock(pen);
    put(pen, " +0000] \"");
    put(pen, methods[skewed(pen, N_METHODS)]);
    put(pen, " ");
    put(pen, paths[path].text);
    if (paths[path].has_id)
        put_number(pen, skewed(pen, 400000), 1);
    put(pen, " HTTP/1.1\" ");
    put(pen, status < 18 ? "200" : statuses[below(pen, N_STATUSES)]);
    put(pen, " ");
    put_number(pen, paths[path].has_id ? 200 + skewed(pen, 30000) : 512 + path * 977, 1);
    put(pen, " \"");
    PICK(pen, referers);
    put(pen, "\" \"");
    put(pen, browsers[mix(client) % N_BROWSERS]);
    put(pen, "\" 0.");
    put_number(pen, skewed(pen, 900), 3);
    pen->severity = status < 18 ? 9 : 13;
}

static uint64_t trace_of(const struct lines *lines, uint32_t agent, uint64_t line, unsigned half)
{
    /* A request writes some lines. */
    return mix(mix(lines->seed + 2 * (line / LINES_OF_TRACE) + half) + mix_pair(agent, 0x7ace));
}

static void write_json(struct pen *pen, const struct lines *lines, uint32_t agent, uint64_t line)
{
    const uint32_t level = skewed(pen, N_LEVELS);

    put(pen, "{\"ts\":\"");
    put_date(pen);
    put(pen, "T");
    put_clock(pen);
    put_millis(pen, ".");
    put(pen, "Z\",\"level\":\"");
    put(pen, levels[level].text);
    put(pen, "\",\"service\":\"");
    put(pen, services[agent % N_SERVICES]);
    put(pen, "\",\"pod\":\"");
    put(pen, services[agent % N_SERVICES]);
    put(pen, "-7d9f8b6c5-");
    put_hex(pen, mix(agent), 5);
    put(pen, "\",\"logger\":\"");
    PICK(pen, loggers);
    put(pen, "\",\"trace_id\":\"");
    put_hex(pen, trace_of(lines, agent, line, 0), 16);
    put_hex(pen, trace_of(lines, agent, line, 1), 16);
    put(pen, "\",\"msg\":\"");
    PICK(pen, messages);
    put(pen, "\",\"user_id\":");
    put_number(pen, skewed(pen, 80000), 1);
    put(pen, ",\"region\":\"");
    PICK(pen, regions);
    put(pen, "\",\"duration_ms\":");
    put_number(pen, skewed(pen, 2000), 1);
    put(pen, ".");
    put_number(pen, below(pen, 1000), 3);
    put(pen, "}");
    pen->severity = levels[level].severity;
}

static void put_stack(struct pen *pen)
{
    const uint32_t depth = 6 + below(pen, 14), first = skewed(pen, 5);

    put(pen, ": ");
    PICK(pen, exceptions);
    for (uint32_t i = 0; i < depth; i++) {
        const uint32_t frame = (first + i) % N_FRAMES;

        put(pen, "\n\tat ");
        put(pen, frames[frame]);
        put_number(pen, 17 + frame * 31 + first, 1);
        put(pen, ")");
    }
}

static void write_java(struct pen *pen)
{
    const bool is_error = below(pen, 24) == 0;

    put_date(pen);
    put(pen, " ");
    put_clock(pen);
    put_millis(pen, ",");
    put(pen, is_error ? " ERROR [http-nio-8080-exec-" : " INFO  [http-nio-8080-exec-");
    put_number(pen, 1 + below(pen, 24), 1);
    put(pen, "] ");
    PICK(pen, loggers);
    put(pen, " - ");
    PICK(pen, orders);
    put(pen, " order=");
    put_number(pen, 8800000 + (uint64_t) (pen->us / 40000 % 1000000), 1);
    put(pen, " customer=");
    put_number(pen, skewed(pen, 50000), 1);
    put(pen, " took ");
    put_number(pen, skewed(pen, 1500), 1);
    put(pen, " ms");
    pen->severity = is_error ? 17 : 9;
    if (is_error)
        put_stack(pen);
}

static void write_sshd(struct pen *pen)
{
    const uint32_t form = skewed(pen, N_SSHD), client = skewed(pen, 500);

    put(pen, "sshd[");
    put_number(pen, 1000 + (uint64_t) (pen->us / 700000 % 60000), 1);
    put(pen, "]: ");
    put(pen, sshd[form].before);
    PICK(pen, users);
    put(pen, sshd[form].between);
    put_ip(pen, client);
    put(pen, " port ");
    put_number(pen, 32768 + below(pen, 28000), 1);
    put(pen, sshd[form].behind);
    pen->severity = sshd[form].severity;
}

static void write_kernel(struct pen *pen)
{
    const uint32_t form = skewed(pen, N_KERNEL);

    put(pen, "[");
    put_number(pen, (uint64_t) (pen->us / US % 10000000), 5);
    put(pen, ".");
    put_number(pen, (uint64_t) (pen->us % US), 6);
    put(pen, "] ");
    put(pen, kernel[form].before);
    put_hex(pen, mix(skewed(pen, 300)), 12);
    put(pen, kernel[form].behind);
    put_number(pen, skewed(pen, 100000), 1);
    pen->severity = kernel[form].severity;
}

/* ---- agents ---- */

static enum kind kind_of(uint32_t agent)
{
    static const uint8_t kinds[20] = { NGINX, JSON,   NGINX, SSHD, JAVA,  NGINX, JSON,
                                       NGINX, JSON,   NGINX, SSHD, NGINX, JAVA,  JSON,
                                       NGINX, KERNEL, NGINX, SSHD, JSON,  JAVA };

    return (enum kind) kinds[agent % 20];
}

bool lines_have_trace(uint32_t agent)
{
    return kind_of(agent) == JSON;
}

void lines_trace(const struct lines *lines,
                 uint32_t agent,
                 uint64_t line,
                 char to[static LINES_TRACE_BYTES])
{
    struct pen pen = { .len = 0 };

    put_hex(&pen, trace_of(lines, agent, line, 0), 16);
    put_hex(&pen, trace_of(lines, agent, line, 1), 16);
    memcpy(to, pen.body, LINES_TRACE_BYTES - 1);
    to[LINES_TRACE_BYTES - 1] = '\0';
}

int64_t lines_time_us(const struct lines *lines, uint64_t line)
{
    return lines->first_us + (int64_t) line * lines->interval_us;
}

static void write_line(struct pen *pen, const struct lines *lines, uint32_t agent, uint64_t line)
{
    pen->dice = mix(lines->seed + line) + mix_pair(agent, 1);
    pen->len = 0;
    set_time(pen, lines_time_us(lines, line));
    switch (kind_of(agent)) {
    case NGINX:
        write_nginx(pen);
        break;
    case JSON:
        write_json(pen, lines, agent, line);
        break;
    case JAVA:
        write_java(pen);
        break;
    case SSHD:
        write_sshd(pen);
        break;
    case KERNEL:
        write_kernel(pen);
        break;
    }
}

/* ---- on the wire ---- */

#define TAG_BATCH 0x12
#define TAG_SEQUENCE 0x08
#define TAG_SOURCE 0x12
#define TAG_TYPE 0x0a
#define TAG_NAME 0x12
#define TAG_RECORD 0x1a
#define TAG_TIME 0x09
#define TAG_SEVERITY 0x18
#define TAG_TEXT 0x22
#define TAG_OFFSET 0x48

static const struct lines_source sources[] = {
    [NGINX] = { "file", "/var/log/nginx/access.log" },
    [JSON] = { "file", "/srv/app/log/app.json" },
    [JAVA] = { "file", "/opt/orders/log/orders.log" },
    [SSHD] = { "journald", "ssh.service" },
    [KERNEL] = { "kmsg", "kernel" },
};

static void append_text(struct buf *to, uint8_t tag, const char *text)
{
    uint8_t head[2] = { tag, (uint8_t) strlen(text) };

    buf_append(to, head, sizeof(head));
    buf_append(to, text, head[1]);
}

static void append_record(struct buf *to, const struct pen *pen, uint64_t offset)
{
    uint8_t head[48], *at = head, tail[1 + VARINT_BYTES] = { TAG_OFFSET };
    const size_t tail_bytes = 1 + varint_bytes(offset);
    const uint64_t inner = 9 + 2 + 1 + varint_bytes(pen->len) + pen->len + tail_bytes;
    uint8_t *room;

    *at++ = TAG_RECORD;
    at = put_varint(at, inner);
    *at++ = TAG_TIME;
    memcpy(at, &pen->us, 8);
    at += 8;
    *at++ = TAG_SEVERITY;
    *at++ = (uint8_t) pen->severity;
    *at++ = TAG_TEXT;
    at = put_varint(at, pen->len);
    (void) put_varint(tail + 1, offset);
    room = buf_extend(to, (size_t) (at - head) + pen->len + tail_bytes);
    if (!room)
        return;
    memcpy(room, head, (size_t) (at - head));
    memcpy(room + (at - head), pen->body, pen->len);
    memcpy(room + (at - head) + pen->len, tail, tail_bytes);
}

uint64_t lines_batch(const struct lines *lines, uint32_t agent, uint64_t sequence, struct buf *to)
{
    const enum kind kind = kind_of(agent);
    uint8_t front[1 + VARINT_BYTES], numbers[1 + VARINT_BYTES + 2], *at = numbers;
    uint64_t n_bytes = 0, line = (sequence - 1) * lines->batch_lines;
    struct pen pen = { .len = 0 };
    size_t inner, front_bytes;

    ensure(sequence > 0);
    buf_clear(to);
    /* Room for the front, whose length is known at the end. */
    if (!buf_extend(to, sizeof(front)))
        return 0;
    *at++ = TAG_SEQUENCE;
    at = put_varint(at, sequence);
    *at++ = TAG_SOURCE;
    *at++ = (uint8_t) (4 + strlen(sources[kind].type) + strlen(sources[kind].name));
    buf_append(to, numbers, (size_t) (at - numbers));
    append_text(to, TAG_TYPE, sources[kind].type);
    append_text(to, TAG_NAME, sources[kind].name);
    for (uint32_t i = 0; i < lines->batch_lines; i++, line++) {
        write_line(&pen, lines, agent, line);
        append_record(to, &pen, line * BYTES_OF_LINE);
        n_bytes += pen.len;
    }
    inner = to->len - sizeof(front);
    front[0] = TAG_BATCH;
    front_bytes = (size_t) (put_varint(front + 1, inner) - front);
    if (!buf_failed(to)) {
        memmove(to->data + front_bytes, to->data + sizeof(front), inner);
        memcpy(to->data, front, front_bytes);
        to->len = front_bytes + inner;
    }
    return n_bytes;
}

/* ---- as records ---- */

struct lines_source lines_source(uint32_t agent)
{
    return sources[kind_of(agent)];
}

uint64_t lines_records(const struct lines *lines,
                       uint32_t agent,
                       uint64_t sequence,
                       struct buf *bodies,
                       struct logblock_record *to)
{
    uint64_t line = (sequence - 1) * lines->batch_lines;
    struct pen pen = { .len = 0 };
    const uint8_t *body;

    ensure(sequence > 0);
    buf_clear(bodies);
    for (uint32_t i = 0; i < lines->batch_lines; i++, line++) {
        write_line(&pen, lines, agent, line);
        buf_append(bodies, pen.body, pen.len);
        to[i] = (struct logblock_record){ .time_us = pen.us,
                                          .source_offset = line * BYTES_OF_LINE,
                                          .severity = pen.severity,
                                          .body = span_of(NULL, pen.len) };
    }
    if (buf_failed(bodies))
        return 0;
    /* Only now they stay where they are. */
    body = bodies->data;
    for (uint32_t i = 0; i < lines->batch_lines; i++) {
        to[i].body.data = body;
        body += to[i].body.len;
    }
    return bodies->len;
}
