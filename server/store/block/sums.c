/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Columns that are nearly a sum of others: time in all modes is what has passed, a total that of
 * its parts. Sums are made in integers, so that they are exact: of cents, where the values have two
 * digits behind the point.
 */

#include <math.h>

#include "server/store/block/parts.h"

#define WINDOW 96 /* columns either way: what belongs together stands together */
#define BEAM 4    /* so many first terms are followed to their ends */

/* Up to here integers are exact, also as sums of PARTS_TERMS_MAX and one. */
#define INTEGER_MAX 1125899906842624.0 /* 2^50 */

/* Adding it and taking it away rounds to an integer. */
#define ROUNDER 6755399441055744.0 /* 1.5 * 2^52 */

static const double powers[PARTS_CLASSES] = { 1, 1e2, 1e3, 1e6 };

static inline double whole(double value, double power)
{
    return value * power + ROUNDER - ROUNDER;
}

void parts_sum_begin(unsigned class, double *values, size_t n)
{
    double power = powers[class];

    for (size_t i = 0; class > 0 && i < n; i++)
        values[i] = whole(values[i], power);
}

void parts_sum_add(unsigned class, double *values, const double *terms, bool is_minus, size_t n)
{
    double power = powers[class], sign = is_minus ? -1 : 1;

    if (class > 0)
        for (size_t i = 0; i < n; i++)
            values[i] += sign * whole(terms[i], power);
    else
        for (size_t i = 0; i < n; i++)
            values[i] += sign * terms[i];
}

void parts_sum_end(unsigned class, double *values, size_t n)
{
    double power = powers[class];

    for (size_t i = 0; class > 0 && i < n; i++)
        values[i] /= power;
}

/* The integer that the value is of its class; false: none. */
static bool as_whole(double value, unsigned class, double *ret)
{
    double power = powers[class], integer = whole(value, power);

    *ret = integer;
    return fabs(integer) <= INTEGER_MAX && parts_bits(integer / power) == parts_bits(value);
}

bool parts_is_short(double value)
{
    double integer;

    return as_whole(value, PARTS_CLASSES - 1, &integer);
}

double relate_term(const struct relate *relate, const struct parts_term *term, size_t row)
{
    double value = relate->columns[term->column].values[row];

    return term->is_minus ? -value : value;
}

/* Sums of class 0 are of doubles as they are: shifted columns need not be integers. */
static bool
plain_rest(const struct relate *relate, size_t column, const struct relate_sum *sum, double *ret)
{
    const double *values = relate->columns[column].values;

    for (size_t i = 0; i < relate->n_rows; i++) {
        double rest = values[i], again;

        for (size_t k = sum->n_terms; k-- > 0;)
            rest -= relate_term(relate, &sum->terms[k], i);
        again = rest;
        for (size_t k = 0; k < sum->n_terms; k++)
            again += relate_term(relate, &sum->terms[k], i);
        /* Which NaN a sum of two is depends on the machine. */
        if (parts_bits(again) != parts_bits(values[i]) || isnan(again))
            return false;
        ret[i] = rest;
    }
    return true;
}

static bool
whole_rest(const struct relate *relate, size_t column, const struct relate_sum *sum, double *ret)
{
    const double *values = relate->columns[column].values;
    double power = powers[sum->class];

    for (size_t i = 0; i < relate->n_rows; i++) {
        double rest, again;

        if (!as_whole(values[i], sum->class, &rest))
            return false;
        for (size_t k = 0; k < sum->n_terms; k++) {
            const struct parts_term *term = &sum->terms[k];
            double other;

            if (!as_whole(relate->columns[term->column].values[i], sum->class, &other))
                return false;
            rest -= term->is_minus ? -other : other;
        }
        ret[i] = rest / power;
        if (!as_whole(ret[i], sum->class, &again) || parts_bits(again) != parts_bits(rest))
            return false;
    }
    return true;
}

bool relate_rest(const struct relate *relate,
                 size_t column,
                 const struct relate_sum *sum,
                 double *ret)
{
    return sum->class ? whole_rest(relate, column, sum, ret) : plain_rest(relate, column, sum, ret);
}

/* ---- the search ---- */

/*
 * Steps of a column from one row to the next, here and there, as floats, whose exponents tell the
 * bits that a step takes; and the same less their mean.
 */
static bool make_steps(struct relate *relate, size_t column)
{
    struct relate_steps *s = &relate->steps[column];
    const double *values = relate->columns[column].values;
    double mean = 0;

    if (s->is_made)
        return s->is_decimal;
    s->is_made = true;
    for (size_t i = 0; i < RELATE_PROBES;) {
        size_t row = 1 + (relate->n_rows - 2) * i / RELATE_PROBES;
        double here, before;

        if (as_whole(values[row], s->class, &here) &&
            as_whole(values[row - 1], s->class, &before)) {
            s->steps[0][i++] = (float) (here - before);
        } else if (++s->class < PARTS_CLASSES) {
            i = 0;
        } else {
            return false;
        }
    }
    for (size_t i = 0; i < RELATE_PROBES; i++)
        mean += (double) s->steps[0][i] / RELATE_PROBES;
    for (size_t i = 0; i < RELATE_PROBES; i++)
        s->steps[1][i] = s->steps[0][i] - (float) mean;
    s->is_decimal = true;
    return true;
}

static unsigned cost_of(const float *steps, const float *of, float sign)
{
    unsigned cost = 0;

    for (size_t i = 0; i < RELATE_PROBES; i++) {
        float rest = steps[i] - sign * of[i];
        uint32_t bits;

        memcpy(&bits, &rest, sizeof(bits));
        bits = bits >> 23 & 0xff;
        /* 1 has 127: it takes a bit, and a sign. Below a half is nothing. */
        cost += bits > 125 ? bits - 125 : 0;
    }
    return cost;
}

/* A sum under way: what is left of the column's steps, and what that costs. */
struct trial {
    struct relate_sum sum;
    float steps[2][RELATE_PROBES];
    unsigned cost;
};

static unsigned cost_with(const struct trial *trial, const struct relate_steps *of, bool is_minus)
{
    float sign = is_minus ? -1 : 1;
    unsigned plain = cost_of(trial->steps[0], of->steps[0], sign);
    unsigned centred = cost_of(trial->steps[1], of->steps[1], sign);

    return plain < centred ? plain : centred;
}

struct candidate {
    unsigned cost;
    struct parts_term term;
};

/* Keeps the n best, the best first. */
static void keep(struct candidate *best, size_t n, struct candidate candidate)
{
    size_t at = n;

    if (candidate.cost >= best[n - 1].cost)
        return;
    while (--at > 0 && best[at - 1].cost > candidate.cost)
        best[at] = best[at - 1];
    best[at] = candidate;
}

/* Fills the n best further terms; those that do not lower the cost have that of the trial. */
static void find_terms(struct relate *relate,
                       size_t column,
                       const struct trial *trial,
                       size_t n,
                       struct candidate *ret_best)
{
    size_t from = column < WINDOW ? 0 : column - WINDOW;

    for (size_t i = 0; i < n; i++)
        ret_best[i] = (struct candidate){ .cost = trial->cost };
    for (size_t i = from; i < relate->n_columns && i < column + WINDOW; i++) {
        const struct relate_steps *of = &relate->steps[i];

        if (i == column || !relate_is_free(&relate->columns[i]) || !make_steps(relate, i) ||
            of->class != trial->sum.class)
            continue;
        for (int is_minus = 0; is_minus < 2; is_minus++)
            keep(ret_best, n,
                 (struct candidate){ cost_with(trial, of, is_minus), { (uint32_t) i, is_minus } });
    }
}

static bool add_term(const struct relate *relate, struct trial *trial, const struct candidate *best)
{
    const struct relate_steps *of = &relate->steps[best->term.column];

    /* The best of many looks better than it is. */
    if (trial->sum.n_terms == PARTS_TERMS_MAX || best->cost + RELATE_PROBES / 2 > trial->cost)
        return false;
    trial->sum.terms[trial->sum.n_terms++] = best->term;
    trial->cost = best->cost;
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < RELATE_PROBES; i++)
            trial->steps[k][i] -= best->term.is_minus ? -of->steps[k][i] : of->steps[k][i];
    return true;
}

bool relate_find_sum(struct relate *relate, size_t column, struct relate_sum *ret)
{
    static const struct relate_steps none;
    const struct relate_column *c = &relate->columns[column];
    struct trial start = { 0 }, best;
    struct candidate firsts[BEAM];

    if (!relate->steps || !relate_is_free(c) || c->is_needed || !make_steps(relate, column))
        return false;
    memcpy(start.steps, relate->steps[column].steps, sizeof(start.steps));
    start.sum.class = relate->steps[column].class;
    start.cost = cost_with(&start, &none, false);
    find_terms(relate, column, &start, BEAM, firsts);
    best = start;
    for (size_t i = 0; i < BEAM; i++) {
        struct trial trial = start;
        struct candidate next = firsts[i];

        while (add_term(relate, &trial, &next))
            find_terms(relate, column, &trial, 1, &next);
        if (trial.cost < best.cost)
            best = trial;
    }
    *ret = best.sum;
    return best.sum.n_terms > 0;
}
