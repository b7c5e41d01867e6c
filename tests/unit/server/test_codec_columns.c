/* SPDX-License-Identifier: Apache-2.0 */
#include "test_codec_columns.h"

#include <math.h>
#include <string.h>

double double_from_bits(uint64_t bits)
{
    double value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

/* What a program may not take for anything else. */
static double strange(struct rand *rand)
{
    static const uint64_t patterns[] = {
        0x0000000000000000, 0x8000000000000000, 0x7ff0000000000000, 0xfff0000000000000,
        0x7ff8000000000000, 0xfff8000000000000, 0x7ff0000000000001, 0x7ff4000000000123,
        0xffffffffffffffff, 0x0000000000000001, 0x8000000000000001, 0x000fffffffffffff,
        0x0010000000000000, 0x7fefffffffffffff, 0xffefffffffffffff, 0x3ff0000000000000,
        0x4340000000000000, 0x4340000000000001, 0xc340000000000000, 0x43e0000000000000,
        0xc3e0000000000000, 0x433fffffffffffff, 0x4330000000000001, 0x3fb999999999999a,
    };

    return double_from_bits(patterns[rand_below(rand, sizeof(patterns) / sizeof(patterns[0]))]);
}

static double whole(struct rand *rand, uint64_t below)
{
    return (double) (int64_t) rand_below(rand, below);
}

static double sometimes(struct rand *rand, double mostly, double rarely, unsigned one_in)
{
    return rand_below(rand, one_in) == 0 ? rarely : mostly;
}

static double next_counter(unsigned kind, struct rand *rand, double last)
{
    switch (kind) {
    case 0:
        return last + 4096 * whole(rand, 50);
    case 1:
        return last + 1000 + whole(rand, 30);
    case 2: /* quiet with bursts */
        return last + sometimes(rand, 0, whole(rand, 1u << 20), 10);
    case 3: /* resets */
        return sometimes(rand, last + 7, 0, 40);
    case 4: /* a random walk */
        return last + whole(rand, 2001) - 1000;
    case 5: /* one step, exactly */
        return last + 10;
    case 6: /* up to and over what a double counts exactly */
        return last * 2 + 1;
    default: /* huge outliers in a calm column */
        return sometimes(rand, 5, whole(rand, UINT64_C(1) << 52), 30);
    }
}

static double make_gauge(unsigned kind, struct rand *rand, size_t i)
{
    switch (kind) {
    case 8:
        return whole(rand, 10000) / 100;
    case 9:
        return whole(rand, 1000000) / 1e6;
    case 10: /* computed the other way */
        return whole(rand, 100000) * 0.01;
    case 11:
        return whole(rand, 24684096) / 24684096;
    case 12:
        return sin((double) i / 20) * 40 + rand_unit(rand);
    case 13:
        return sometimes(rand, whole(rand, 1000) / 10, strange(rand), 9);
    case 14:
        return sometimes(rand, whole(rand, 1000), strange(rand), 30);
    case 15:
        return strange(rand);
    case 16:
        return double_from_bits(rand_u64(rand));
    case 17: /* a float's */
        return (double) (float) (20 + rand_unit(rand));
    case 18:
        return -whole(rand, 500) / 8;
    case 19: /* digits to the end */
        return rand_unit(rand) * 1e-300;
    case 20:
        return (double) (i / 50);
    case 21: /* two values far apart */
        return rand_below(rand, 2) ? 1e300 : -1e-300;
    case 22: /* bits near the least and the greatest integer */
        return double_from_bits(rand_below(rand, 2) ? rand_below(rand, 4)
                                                    : UINT64_MAX - rand_below(rand, 4));
    case 23: /* one of a few values that have all their digits */
        return 1.0 / (3 + whole(rand, 5));
    case 24:
        return 0.1;
    default:
        return double_from_bits(0x7ff8000000000042);
    }
}

/* What counters and gauges do at their ends. */
static double make_edge(unsigned kind, struct rand *rand, size_t i, double last)
{
    static const uint64_t wrap = UINT64_C(1) << 32;

    switch (kind) {
    case 26: /* a counter of 32 bits, which wraps every few rows */
        return (double) (((uint64_t) last + (UINT64_C(1) << 28) + rand_below(rand, 1000)) % wrap);
    case 27: /* both zeros */
        return rand_below(rand, 2) ? 0.0 : -0.0;
    case 28: /* denormals */
        return double_from_bits(i * 3 + rand_below(rand, 2));
    case 29: /* time in hundredths, as it adds up */
        return (double) (int64_t) (last * 100 + 0.5 + whole(rand, 200)) / 100;
    case 30: /* NaNs that say something, between numbers */
        return rand_below(rand, 4) ? whole(rand, 100)
                                   : double_from_bits(0x7ff8000000000000 | rand_below(rand, 9));
    case 31: /* around where integers end to be exact */
        return 9007199254740992.0 + whole(rand, 64) * (rand_below(rand, 2) ? 1 : -1);
    case 32: /* around where rounding by an addition ends */
        return 2251799813685248.0 + whole(rand, 64) * (rand_below(rand, 2) ? 1 : -1);
    default: /* infinities among tenths */
        return rand_below(rand, 5) ? whole(rand, 99) / 10
                                   : (rand_below(rand, 2) ? 1 : -1) * (double) INFINITY;
    }
}

static void make_plain(unsigned kind, struct rand *rand, size_t n, double *ret_values)
{
    double last = kind == 6 ? 1e15 : whole(rand, 1u << 30);

    for (size_t i = 0; i < n; i++) {
        if (kind < 8)
            last = next_counter(kind, rand, last);
        else
            last = kind < 26 ? make_gauge(kind, rand, i) : make_edge(kind, rand, i, last);
        ret_values[i] = last;
    }
}

void make_column(unsigned kind, struct rand *rand, size_t n, double *ret_values)
{
    if (kind < N_COLUMN_KINDS - 1) {
        make_plain(kind, rand, n, ret_values);
        return;
    }
    /* A bit of each. */
    for (size_t from = 0; from < n;) {
        size_t n_now = 1 + rand_below(rand, 150);

        n_now = n_now < n - from ? n_now : n - from;
        make_plain((unsigned) rand_below(rand, N_COLUMN_KINDS - 1), rand, n_now, ret_values + from);
        from += n_now;
    }
}

void make_times(unsigned kind, struct rand *rand, size_t n, int64_t *ret_times_us)
{
    uint64_t time = 1790000000000000;

    for (size_t i = 0; i < n; i++) {
        switch (kind) {
        case 0:
            time += 10000000;
            break;
        case 1: /* some are missing */
            time += 10000000 * (1 + (rand_below(rand, 20) == 0));
            break;
        case 2:
            time += 10000000 + rand_below(rand, 200) - 100;
            break;
        case 3: /* late ones */
            time += rand_below(rand, 10) ? 1000000 : (uint64_t) -5000000;
            break;
        case 4:
            time = rand_u64(rand);
            break;
        default:
            break;
        }
        ret_times_us[i] = (int64_t) time;
    }
}

void make_marks(unsigned kind, struct rand *rand, size_t n, uint64_t *ret_marks)
{
    memset(ret_marks, 0, (n + 63) / 64 * sizeof(*ret_marks));
    for (size_t i = 0; i < n; i++) {
        bool is_marked = false;

        switch (kind) {
        case 0:
            break;
        case 1:
            is_marked = true;
            break;
        case 2: /* not there yet */
            is_marked = i < n / 3;
            break;
        case 3:
            is_marked = rand_below(rand, 2);
            break;
        default:
            is_marked = i % 100 > 90;
            break;
        }
        ret_marks[i / 64] |= (uint64_t) is_marked << i % 64;
    }
}
