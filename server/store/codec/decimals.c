/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Doubles that are integers, or integers over or times a power of ten. The loops over whole columns
 * have no branches, so that the compiler makes vectors of them.
 */

#include "server/store/codec/form.h"

#define N_SAMPLES 32
#define N_HOPELESS 8 /* when none of the first ones is a decimal, the others are not looked at */
#define N_EASY 4     /* of so few digits what one sample says need not be doubted */

#define EXACT_MAX 9007199254740992.0 /* 2^53: up to here an integer is a double */

/* Adding it rounds to an integer that then stands in the low bits, up to 2^51 either way. */
#define ROUNDER 6755399441055744.0 /* 1.5 * 2^52 */
#define ROUNDER_BITS UINT64_C(0x4338000000000000)
#define EXPONENT 52

static const double powers[DECIMALS_MAX + 1] = { 1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                                 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15 };
static const double inverses[DECIMALS_MAX + 1] = { 1e0,   1e-1,  1e-2,  1e-3, 1e-4,  1e-5,
                                                   1e-6,  1e-7,  1e-8,  1e-9, 1e-10, 1e-11,
                                                   1e-12, 1e-13, 1e-14, 1e-15 };

double decimals_power(unsigned digits)
{
    return powers[digits];
}

double decimals_inverse(unsigned digits)
{
    return inverses[digits];
}

double decimals_value(bool is_product, unsigned digits, int64_t integer)
{
    return is_product ? (double) integer * inverses[digits] : (double) integer / powers[digits];
}

/* What is not 0 when the rounded number does not give the value's own bits, or is out of range. */
static inline uint64_t wrong_bits(double value, double back, double shifted)
{
    return (form_bits(back) ^ form_bits(value)) | (form_bits(shifted) ^ ROUNDER_BITS) >> EXPONENT;
}

bool decimals_one(bool is_product, unsigned digits, double value, int64_t *ret_integer)
{
    double shifted = value * powers[digits] + ROUNDER, rounded = shifted - ROUNDER;
    double back = is_product ? rounded * inverses[digits] : rounded / powers[digits];

    *ret_integer = (int64_t) (form_bits(shifted) - ROUNDER_BITS);
    return wrong_bits(value, back, shifted) == 0;
}

/* ---- columns ---- */

static bool is_integer(double value, uint64_t *ret)
{
    int64_t integer;

    if (!(value >= -EXACT_MAX && value <= EXACT_MAX))
        return false;
    integer = (int64_t) value;
    *ret = (uint64_t) integer;
    return form_bits((double) integer) == form_bits(value);
}

static uint64_t integers_part(const double *values, size_t n, uint64_t *ret)
{
    uint64_t wrong = 0;

    for (size_t i = 0; i < n; i++) {
        double shifted = values[i] + ROUNDER;

        wrong |= wrong_bits(values[i], shifted - ROUNDER, shifted);
        ret[i] = form_bits(shifted) - ROUNDER_BITS;
    }
    return wrong;
}

bool decimals_integers(const double *values, size_t n, uint64_t *ret)
{
    for (size_t from = 0; from < n; from += FORM_FRAME) {
        size_t n_now = n - from < FORM_FRAME ? n - from : FORM_FRAME;

        if (integers_part(values + from, n_now, ret + from) == 0)
            continue;
        /* There are some up to 2^53. */
        for (size_t i = from; i < from + n_now; i++)
            if (!is_integer(values[i], &ret[i]))
                return false;
    }
    return true;
}

static uint64_t quotients_part(const double *values, size_t n, double power, uint64_t *ret)
{
    uint64_t wrong = 0;

    for (size_t i = 0; i < n; i++) {
        double shifted = values[i] * power + ROUNDER;

        wrong |= wrong_bits(values[i], (shifted - ROUNDER) / power, shifted);
        ret[i] = form_bits(shifted) - ROUNDER_BITS;
    }
    return wrong;
}

static uint64_t
products_part(const double *values, size_t n, double power, double inverse, uint64_t *ret)
{
    uint64_t wrong = 0;

    for (size_t i = 0; i < n; i++) {
        double shifted = values[i] * power + ROUNDER;

        wrong |= wrong_bits(values[i], (shifted - ROUNDER) * inverse, shifted);
        ret[i] = form_bits(shifted) - ROUNDER_BITS;
    }
    return wrong;
}

size_t
decimals_column(const double *values, size_t n, bool is_product, unsigned digits, uint64_t *ret)
{
    size_t n_exact = 0;

    for (size_t from = 0; from < n; from += FORM_FRAME) {
        size_t n_now = n - from < FORM_FRAME ? n - from : FORM_FRAME;
        uint64_t wrong =
            is_product
                ? products_part(values + from, n_now, powers[digits], inverses[digits], ret + from)
                : quotients_part(values + from, n_now, powers[digits], ret + from);

        if (wrong == 0) {
            n_exact += n_now;
            continue;
        }
        for (size_t i = from; i < from + n_now; i++) {
            int64_t integer;

            n_exact += decimals_one(is_product, digits, values[i], &integer);
        }
    }
    return n_exact;
}

/* ---- how many digits ---- */

/* From `digits` on: what an integer over a power of ten is, it is over a greater one too. */
static bool find_one(double value, bool is_product, unsigned *digits)
{
    for (unsigned k = *digits; k <= DECIMALS_MAX; k++) {
        int64_t integer;

        if (decimals_one(is_product, k, value, &integer)) {
            *digits = k;
            return true;
        }
    }
    return false;
}

/* The digits with which nearly all of the sample are decimals; one of many digits is an exception.
 */
static int find_most(const double *values, size_t n, size_t n_samples, bool is_product)
{
    unsigned n_with[DECIMALS_MAX + 1] = { 0 }, digits = 0;
    size_t n_found = 0, n_so_far = 0;

    for (size_t i = 0; i < n_samples; i++) {
        unsigned needed = 0;

        if (find_one(values[i * n / n_samples], is_product, &needed)) {
            n_with[needed]++;
            n_found++;
        } else if (i + 1 == N_HOPELESS && n_found == 0) {
            return -1;
        }
    }
    if (2 * n_found <= n_samples)
        return -1;
    for (digits = 0; digits < DECIMALS_MAX; digits++) {
        n_so_far += n_with[digits];
        if (n_found - n_so_far <= n_found / 16)
            break;
    }
    return (int) digits;
}

int decimals_digits(const double *values, size_t n, bool is_product)
{
    size_t n_samples = n < N_SAMPLES ? n : N_SAMPLES;
    unsigned digits = 0;

    for (size_t i = 0; i < n_samples; i++)
        if (!find_one(values[i * n / n_samples], is_product, &digits) || digits > N_EASY)
            return find_most(values, n, n_samples, is_product);
    return (int) digits;
}
