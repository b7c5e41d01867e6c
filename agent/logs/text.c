/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/logs/text.h"

#include <string.h>
#include <time.h>

#include "common/base/ensure.h"
#include "common/regex/regex.h"

/* ---- records ---- */

/* Up to the newline, or all of it; *ret_end is behind the newline. */
static struct span line_at(struct span text, size_t at, size_t *ret_end)
{
    const uint8_t *newline = memchr(text.data + at, '\n', text.len - at);
    const size_t end = newline ? (size_t) (newline - text.data) : text.len;

    *ret_end = newline ? end + 1 : end;
    return span_of(text.data + at, end - at);
}

static struct span without_cr(struct span line)
{
    if (line.len > 0 && line.data[line.len - 1] == '\r')
        line.len--;
    return line;
}

size_t text_cut(struct span text, size_t max)
{
    const uint8_t *data = text.data;
    size_t n = max;

    ensure(text.len > max);

    for (int i = 0; i < 3 && n > 1 && (data[n] & 0xc0) == 0x80; i++)
        n--;
    return (data[n] & 0xc0) == 0x80 ? max : n;
}

static bool take_part(struct span text, const struct text_rule *rule, struct text_record *ret)
{
    const size_t n = text_cut(text, rule->max_bytes);

    *ret = (struct text_record){ .body = span_of(text.data, n), .n_consumed = n, .is_part = true };
    return true;
}

/* The lines behind that belong to the first; false: it is not known yet whether there are more. */
static bool join_lines(struct span text,
                       const struct text_rule *rule,
                       bool is_whole,
                       size_t *end,
                       size_t *body_end)
{
    for (size_t n_lines = 1; n_lines < rule->max_lines; n_lines++) {
        size_t next;
        struct span line;

        if (*end == text.len)
            return is_whole;
        line = line_at(text, *end, &next);
        if (!is_whole && next == text.len && text.data[text.len - 1] != '\n' &&
            line.len < rule->max_bytes)
            return false;
        if (regex_matches(rule->begin, without_cr(line)) || *end + line.len > rule->max_bytes)
            return true;
        *body_end = *end + without_cr(line).len;
        *end = next;
    }
    return true;
}

bool text_next_record(struct span text,
                      const struct text_rule *rule,
                      bool is_whole,
                      struct text_record *ret)
{
    struct span line;
    size_t end, body_end;

    ensure(rule->max_bytes >= 4);
    if (text.len == 0)
        return false;
    line = line_at(text, 0, &end);
    if (line.len > rule->max_bytes)
        return take_part(text, rule, ret);
    if (end == line.len && !is_whole)
        return false; /* no newline yet */
    body_end = without_cr(line).len;
    if (rule->begin && !join_lines(text, rule, is_whole, &end, &body_end))
        return false;
    *ret = (struct text_record){ .body = span_of(text.data, body_end), .n_consumed = end };
    return true;
}

/* ---- severity ---- */

enum {
    TRACE = 1,
    DEBUG = 5,
    INFO = 9,
    NOTICE = 10,
    WARN = 13,
    ERROR = 17,
    CRIT = 18,
    ALERT = 19,
    FATAL = 21
};

static const struct {
    const char *word;
    uint32_t severity;
} words[] = {
    { "trace", TRACE },      { "debug", DEBUG }, { "dbg", DEBUG },     { "info", INFO },
    { "information", INFO }, { "inf", INFO },    { "notice", NOTICE }, { "warn", WARN },
    { "warning", WARN },     { "wrn", WARN },    { "error", ERROR },   { "err", ERROR },
    { "severe", ERROR },     { "crit", CRIT },   { "critical", CRIT }, { "alert", ALERT },
    { "fatal", FATAL },      { "panic", FATAL }, { "emerg", FATAL },   { "emergency", FATAL },
};

uint32_t text_severity_of_priority(unsigned priority)
{
    static const uint32_t severities[] = { FATAL, ALERT, CRIT, ERROR, WARN, NOTICE, INFO, DEBUG };

    return severities[priority & 7];
}

static bool is_letter(uint8_t byte)
{
    return (uint8_t) ((byte | 0x20) - 'a') < 26;
}

static bool is_word_byte(uint8_t byte)
{
    return is_letter(byte) || (uint8_t) (byte - '0') < 10 || byte == '_';
}

/* Of words and keys: most words of a line are told by their first letter and their length. */
static bool may_be(const uint8_t *word, size_t len, const char *firsts)
{
    return len >= 3 && len <= 11 && strchr(firsts, *word | 0x20);
}

static uint32_t severity_of_word(const uint8_t *word, size_t len)
{
    if (!may_be(word, len, "tdinwescafp"))
        return 0;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        const char *known = words[i].word;
        size_t n = 0;

        if (*known != (*word | 0x20))
            continue;
        while (n < len && known[n] && (word[n] | 0x20) == known[n])
            n++;
        if (n == len && !known[n])
            return words[i].severity;
    }
    return 0;
}

/* The word that begins at or behind `at`, behind what stands between a key and its value. */
static size_t word_from(struct span line, size_t at, size_t *ret_len)
{
    size_t end;

    while (at < line.len && !is_word_byte(line.data[at]))
        at++;
    for (end = at; end < line.len && is_word_byte(line.data[end]);)
        end++;
    *ret_len = end - at;
    return at;
}

static bool is_level_key(const uint8_t *word, size_t len)
{
    static const char *const keys[] = { "level",    "lvl",       "severity",
                                        "loglevel", "log_level", "levelname" };

    if (!may_be(word, len, "ls"))
        return false;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (strlen(keys[i]) == len && strncasecmp((const char *) word, keys[i], len) == 0)
            return true;
    return false;
}

/* <PRI> of RFC 3164 and 5424. */
static bool syslog_priority(struct span line, unsigned *ret)
{
    unsigned value = 0;
    size_t at = 1;

    if (line.len < 3 || line.data[0] != '<')
        return false;
    for (; at < line.len && at <= 3 && (uint8_t) (line.data[at] - '0') < 10; at++)
        value = 10 * value + (unsigned) (line.data[at] - '0');
    if (at == 1 || at == line.len || line.data[at] != '>' || value > 191)
        return false;
    *ret = value;
    return true;
}

uint32_t text_severity(struct span line)
{
    uint32_t found = 0;
    unsigned priority;
    size_t len;

    if (line.len > TEXT_SEVERITY_BYTES)
        line.len = TEXT_SEVERITY_BYTES;
    if (syslog_priority(line, &priority))
        return text_severity_of_priority(priority);
    for (size_t at = word_from(line, 0, &len); len > 0; at = word_from(line, at + len, &len)) {
        uint32_t severity;

        if (is_level_key(line.data + at, len)) {
            size_t value_len, value = word_from(line, at + len, &value_len);

            /* "level": "error", level=error, level: error */
            severity = value - at - len <= 4 ? severity_of_word(line.data + value, value_len) : 0;
            if (severity)
                return severity;
        }
        severity = severity_of_word(line.data + at, len);
        /* "no error" is a sentence: a level in small letters is one where it stands early. */
        if (!found && severity && (at < 64 || !(line.data[at] & 0x20)))
            found = severity;
    }
    return found;
}

/* ---- time ---- */

struct reader {
    const uint8_t *at, *end;
};

static bool take_digits(struct reader *reader, unsigned n, int *ret)
{
    int value = 0;

    if ((size_t) (reader->end - reader->at) < n)
        return false;
    for (unsigned i = 0; i < n; i++) {
        const unsigned digit = (unsigned) (reader->at[i] - '0');

        if (digit > 9)
            return false;
        value = 10 * value + (int) digit;
    }
    reader->at += n;
    *ret = value;
    return true;
}

static bool take_byte(struct reader *reader, const char *among)
{
    if (reader->at == reader->end || !*reader->at || !strchr(among, *reader->at))
        return false;
    reader->at++;
    return true;
}

/* ".123456789" or ",123"; microseconds. */
static int take_fraction(struct reader *reader)
{
    int us = 0, scale = 100000;

    if (!take_byte(reader, ".,"))
        return 0;
    for (; reader->at < reader->end && (uint8_t) (*reader->at - '0') < 10; reader->at++) {
        us += (*reader->at - '0') * scale;
        scale /= 10;
    }
    return us;
}

static bool take_clock(struct reader *reader, struct tm *tm, int *ret_us)
{
    if (!take_digits(reader, 2, &tm->tm_hour) || !take_byte(reader, ":") ||
        !take_digits(reader, 2, &tm->tm_min) || !take_byte(reader, ":") ||
        !take_digits(reader, 2, &tm->tm_sec))
        return false;
    *ret_us = take_fraction(reader);
    return tm->tm_hour < 24 && tm->tm_min < 60 && tm->tm_sec <= 60;
}

/* "Z", "+01:00", "-0730", " +0100"; false: none. */
static bool take_zone(struct reader *reader, int *ret_seconds)
{
    struct reader ahead = *reader;
    int hours, minutes = 0, sign;

    if (take_byte(&ahead, "Zz")) {
        *ret_seconds = 0;
        *reader = ahead;
        return true;
    }
    (void) take_byte(&ahead, " ");
    if (ahead.at == ahead.end || (*ahead.at != '+' && *ahead.at != '-'))
        return false;
    sign = *ahead.at++ == '-' ? -1 : 1;
    if (!take_digits(&ahead, 2, &hours))
        return false;
    (void) take_byte(&ahead, ":");
    if (!take_digits(&ahead, 2, &minutes) || hours > 18 || minutes > 59)
        return false;
    *ret_seconds = sign * (hours * 3600 + minutes * 60);
    *reader = ahead;
    return true;
}

static bool finish(struct reader *reader, struct tm *tm, int us, wall_us *ret)
{
    int zone_s;
    time_t seconds;

    tm->tm_isdst = -1;
    if (take_zone(reader, &zone_s))
        seconds = timegm(tm) - zone_s;
    else
        seconds = mktime(tm);
    if (seconds == (time_t) -1)
        return false;
    ret->us = (int64_t) seconds * 1000000 + us;
    return true;
}

/* 2026-11-28T01:02:03.456Z, 2026/11/28 01:02:03 */
static bool iso_time(struct reader reader, wall_us *ret)
{
    struct tm tm = { 0 };
    int year, us;

    if (!take_digits(&reader, 4, &year) || !take_byte(&reader, "-/") ||
        !take_digits(&reader, 2, &tm.tm_mon) || !take_byte(&reader, "-/") ||
        !take_digits(&reader, 2, &tm.tm_mday) || !take_byte(&reader, "Tt _") ||
        !take_clock(&reader, &tm, &us) || year < 1970 || tm.tm_mon < 1 || tm.tm_mon > 12 ||
        tm.tm_mday < 1 || tm.tm_mday > 31)
        return false;
    tm.tm_year = year - 1900;
    tm.tm_mon--;
    return finish(&reader, &tm, us, ret);
}

static int month_of(const uint8_t *name)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

    for (int i = 0; i < 12; i++)
        if (memcmp(names + 3 * (size_t) i, name, 3) == 0)
            return i;
    return -1;
}

/* 28/Nov/2026:01:02:03 +0100, as web servers write it */
static bool web_time(struct reader reader, wall_us *ret)
{
    struct tm tm = { 0 };
    int year, us;

    if (!take_digits(&reader, 2, &tm.tm_mday) || !take_byte(&reader, "/") ||
        reader.end - reader.at < 3)
        return false;
    tm.tm_mon = month_of(reader.at);
    reader.at += 3;
    if (tm.tm_mon < 0 || !take_byte(&reader, "/") || !take_digits(&reader, 4, &year) ||
        !take_byte(&reader, ":") || !take_clock(&reader, &tm, &us) || year < 1970)
        return false;
    tm.tm_year = year - 1900;
    return finish(&reader, &tm, us, ret);
}

/* Nov 28 01:02:03, Nov  8 01:02:03: of the year that makes it lie nearest. */
static bool bsd_time(struct reader reader, wall_us now, wall_us *ret)
{
    const time_t now_s = (time_t) (now.us / 1000000);
    struct tm tm = { 0 }, today;
    int us;

    if (reader.end - reader.at < 15)
        return false;
    tm.tm_mon = month_of(reader.at);
    reader.at += 3;
    if (tm.tm_mon < 0 || !take_byte(&reader, " "))
        return false;
    if (take_byte(&reader, " ")) {
        if (!take_digits(&reader, 1, &tm.tm_mday))
            return false;
    } else if (!take_digits(&reader, 2, &tm.tm_mday)) {
        return false;
    }
    if (!take_byte(&reader, " ") || !take_clock(&reader, &tm, &us) || !localtime_r(&now_s, &today))
        return false;
    tm.tm_year = today.tm_year;
    if (tm.tm_mon - today.tm_mon > 6)
        tm.tm_year--;
    else if (today.tm_mon - tm.tm_mon > 6)
        tm.tm_year++;
    return finish(&reader, &tm, us, ret);
}

/* 1764291723, 1764291723.456, ...456 (ms), ...456789 (us): of this age of the world. */
static bool unix_time(struct reader reader, wall_us *ret)
{
    int64_t value = 0;
    unsigned n = 0;

    for (; reader.at < reader.end && (uint8_t) (*reader.at - '0') < 10 && n < 17; reader.at++, n++)
        value = 10 * value + (*reader.at - '0');
    if (reader.at < reader.end && is_word_byte(*reader.at))
        return false;
    switch (n) {
    case 10:
        ret->us = value * 1000000 + take_fraction(&reader);
        return true;
    case 13:
        ret->us = value * 1000;
        return true;
    case 16:
        ret->us = value;
        return true;
    default:
        return false;
    }
}

/* Behind brackets and quotes, syslog's priority and its version, and keys of a time. */
static void skip_to_time(struct reader *reader)
{
    static const char *const keys[] = { "time", "ts", "timestamp", "@timestamp", "date", "t" };
    struct span rest = span_of(reader->at, (size_t) (reader->end - reader->at));
    unsigned priority;

    if (syslog_priority(rest, &priority)) {
        reader->at = (const uint8_t *) memchr(reader->at, '>', 5) + 1;
        if (reader->end - reader->at > 2 && reader->at[0] == '1' && reader->at[1] == ' ')
            reader->at += 2;
    }
    while (take_byte(reader, "[{(\"' "))
        ;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const size_t n = strlen(keys[i]);
        struct reader ahead = { reader->at + n, reader->end };

        if ((size_t) (reader->end - reader->at) <= n || memcmp(reader->at, keys[i], n) != 0)
            continue;
        (void) take_byte(&ahead, "\"");
        if (!take_byte(&ahead, "=:"))
            continue;
        while (take_byte(&ahead, "\" "))
            ;
        *reader = ahead;
        return;
    }
}

bool text_time(struct span line, wall_us now, wall_us *ret)
{
    struct reader reader = { line.data, line.data + line.len };
    struct reader found;

    if (line.len == 0)
        return false;
    skip_to_time(&reader);
    found = reader;
    if (iso_time(found, ret) || web_time(found, ret) || bsd_time(found, now, ret) ||
        unix_time(found, ret))
        return true;
    /* A web server's comes behind the address, in brackets. */
    found.at = memchr(reader.at, '[', (size_t) (reader.end - reader.at));
    if (!found.at)
        return false;
    found.at++;
    return web_time(found, ret);
}
