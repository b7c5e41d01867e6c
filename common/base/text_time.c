/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/text.h"

#include <stdio.h>

#define SECONDS_PER_DAY 86400
#define US_PER_SECOND ((int64_t) 1000000)

struct civil {
    int64_t year;
    int month; /* 1 .. 12 */
    int day;   /* 1 .. 31 */
};

/*
 * Days since 1970-01-01 and back, in the Gregorian calendar without end in either direction. Years
 * are counted from March (the leap day is their last), in eras of 400 years or 146097 days.
 */
static int64_t days_of_civil(struct civil date)
{
    int64_t year = date.year - (date.month <= 2);
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t month = date.month > 2 ? date.month - 3 : date.month + 9;
    int64_t day_of_year = (153 * month + 2) / 5 + date.day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

    return era * 146097 + day_of_era - 719468;
}

static struct civil civil_of_days(int64_t days)
{
    days += 719468;

    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month = (5 * day_of_year + 2) / 153;
    int calendar_month = (int) (month < 10 ? month + 3 : month - 9);

    return (struct civil){
        .year = year_of_era + era * 400 + (calendar_month <= 2),
        .month = calendar_month,
        .day = (int) (day_of_year - (153 * month + 2) / 5 + 1),
    };
}

static int days_in_month(struct civil date)
{
    static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    bool is_leap = date.year % 4 == 0 && (date.year % 100 != 0 || date.year % 400 == 0);

    return days[date.month - 1] + (date.month == 2 && is_leap);
}

/* Exactly `n_digits` digits from the front, between low and high. */
static bool scan_fixed(const char **at, int n_digits, int low, int high, int *ret)
{
    int value = 0;

    for (int i = 0; i < n_digits; i++) {
        char c = (*at)[i];

        if (c < '0' || c > '9')
            return false;
        value = value * 10 + (c - '0');
    }
    if (value < low || value > high)
        return false;
    *at += n_digits;
    *ret = value;
    return true;
}

static bool scan_char(const char **at, char c)
{
    if (**at != c)
        return false;
    ++*at;
    return true;
}

static bool scan_date(const char **at, int64_t *ret_days)
{
    struct civil date;
    int year;

    if (!scan_fixed(at, 4, 0, 9999, &year) || !scan_char(at, '-') ||
        !scan_fixed(at, 2, 1, 12, &date.month) || !scan_char(at, '-'))
        return false;
    date.year = year;
    if (!scan_fixed(at, 2, 1, days_in_month(date), &date.day))
        return false;
    *ret_days = days_of_civil(date);
    return true;
}

/* Digits behind microseconds are read and dropped. */
static bool scan_fraction(const char **at, int64_t *ret_us)
{
    int64_t us = 0;
    int64_t place = US_PER_SECOND / 10;
    const char *from = *at;

    for (; **at >= '0' && **at <= '9'; ++*at) {
        us += (**at - '0') * place;
        place /= 10;
    }
    *ret_us = us;
    return *at != from;
}

static bool scan_offset(const char **at, int64_t *ret_seconds)
{
    int hours;
    int minutes;

    *ret_seconds = 0;
    if (scan_char(at, 'Z') || scan_char(at, 'z'))
        return true;

    bool is_behind = **at == '-';

    if (!is_behind && **at != '+')
        return false;
    ++*at;
    if (!scan_fixed(at, 2, 0, 23, &hours) || !scan_char(at, ':') ||
        !scan_fixed(at, 2, 0, 59, &minutes))
        return false;
    *ret_seconds = ((int64_t) hours * 60 + minutes) * 60 * (is_behind ? -1 : 1);
    return true;
}

static bool scan_time_of_day(const char **at, int64_t *ret_us)
{
    int hours;
    int minutes;
    int seconds;
    int64_t fraction_us = 0;
    int64_t offset;

    if (!scan_fixed(at, 2, 0, 23, &hours) || !scan_char(at, ':') ||
        !scan_fixed(at, 2, 0, 59, &minutes) || !scan_char(at, ':') ||
        !scan_fixed(at, 2, 0, 60, &seconds))
        return false;
    if (scan_char(at, '.') && !scan_fraction(at, &fraction_us))
        return false;
    if (!scan_offset(at, &offset))
        return false;

    int64_t minute_start = ((int64_t) hours * 60 + minutes) * 60 - offset;
    int64_t minute_of_day = (minute_start + (int64_t) 2 * SECONDS_PER_DAY) % SECONDS_PER_DAY;

    /* A leap second is at the end of a UTC day or nowhere; Unix time counts it as the first of the
     * next. */
    if (seconds == 60 && minute_of_day != SECONDS_PER_DAY - 60)
        return false;
    *ret_us = (minute_start + seconds) * US_PER_SECOND + fraction_us;
    return true;
}

int text_to_time(const char *text, wall_us now, wall_us *ret)
{
    int64_t us;
    int64_t days;

    if (strcmp(text, "now") == 0) {
        *ret = now;
        return TEXT_OK;
    }
    if (*text == '-') {
        if (text_to_duration_us(text + 1, &us) != TEXT_OK ||
            __builtin_sub_overflow(now.us, us, &us))
            return TEXT_BAD;
        *ret = (wall_us){ us };
        return TEXT_OK;
    }

    if (!scan_date(&text, &days))
        return TEXT_BAD;
    us = 0;
    /* RFC 3339 section 5.6 also allows the lower case, and a space for people. */
    if (*text && (!(scan_char(&text, 'T') || scan_char(&text, 't') || scan_char(&text, ' ')) ||
                  !scan_time_of_day(&text, &us)))
        return TEXT_BAD;
    if (*text)
        return TEXT_BAD;
    *ret = (wall_us){ days * SECONDS_PER_DAY * US_PER_SECOND + us };
    return TEXT_OK;
}

const char *text_of_time(wall_us time, char to[static TEXT_TIME_BYTES])
{
    int64_t seconds = time.us / US_PER_SECOND;
    int64_t us = time.us % US_PER_SECOND;

    if (us < 0) {
        us += US_PER_SECOND;
        seconds--;
    }

    int64_t days = seconds / SECONDS_PER_DAY;
    int of_day = (int) (seconds % SECONDS_PER_DAY);

    if (of_day < 0) {
        of_day += SECONDS_PER_DAY;
        days--;
    }

    struct civil date = civil_of_days(days);

    unsigned at = (unsigned) of_day;

    snprintf(to, TEXT_TIME_BYTES, "%04d-%02u-%02uT%02u:%02u:%02u.%03uZ", (int) date.year,
             (unsigned) date.month % 100, (unsigned) date.day % 100, at / 3600 % 100, at / 60 % 60,
             at % 60, (unsigned) (us / 1000) % 1000);
    return to;
}
