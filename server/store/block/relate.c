/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "server/store/block/parts.h"

#define N_PROBES 8
#define INTEGER_MAX 9007199254740992.0 /* 2^53 */
#define NEARLY 1e-12

#define ROWS_MIN 3
#define WINDOW 256 /* columns either way: what belongs together stands together */
#define SUM_ROWS_MIN 64
#define SUM_WINDOW 96

static uint64_t bits_of(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static uint64_t mix(uint64_t hash, double value)
{
    hash = (hash ^ bits_of(value)) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

static void probe(struct relate_column *c, size_t n_rows)
{
    c->is_whole = true;
    for (size_t i = 1; i <= N_PROBES; i++) {
        double value = c->values[(n_rows - 1) * i / N_PROBES];

        c->same = mix(c->same, value);
        c->rise = mix(c->rise, value - c->values[0]);
        c->fall = mix(c->fall, c->values[0] - value);
        c->is_whole &= fabs(value) <= INTEGER_MAX && value == trunc(value);
    }
    for (size_t i = 0; i < RELATE_PROBES && c->is_whole; i++) {
        size_t row = 1 + (n_rows - 2) * i / RELATE_PROBES;
        double step = c->values[row] - c->values[row - 1];

        c->is_whole = fabs(step) <= INTEGER_MAX;
        c->steps[i] = c->is_whole ? (int64_t) step : 0;
    }
}

static double add_term(const struct relate *relate, const struct parts_term *term, size_t row)
{
    double value = relate->columns[term->column].values[row];

    return term->is_minus ? -value : value;
}

bool relate_rest(const struct relate *relate,
                 const double *values,
                 const struct parts_term *terms,
                 size_t n_terms,
                 double *ret_rest)
{
    for (size_t i = 0; i < relate->n_rows; i++) {
        double rest = values[i], again;

        for (size_t k = n_terms; k-- > 0;)
            rest -= add_term(relate, &terms[k], i);
        again = rest;
        for (size_t k = 0; k < n_terms; k++)
            again += add_term(relate, &terms[k], i);
        /* Which NaN a sum of two is depends on the machine. */
        if (bits_of(again) != bits_of(values[i]) || isnan(again))
            return false;
        ret_rest[i] = rest;
    }
    return true;
}

/* That the rest is one integer, which is then all that the column costs. */
static bool is_shifted(const struct relate *relate, size_t column, const struct parts_term *term)
{
    const double *values = relate->columns[column].values;
    double rest = values[0] - add_term(relate, term, 0);

    if (!(fabs(rest) <= INTEGER_MAX) || rest != trunc(rest))
        return false;
    for (size_t i = 0; i < relate->n_rows; i++)
        if (bits_of(rest + add_term(relate, term, i)) != bits_of(values[i]) ||
            bits_of(values[i] - add_term(relate, term, i)) != bits_of(rest))
            return false;
    return true;
}

static bool relate_pair(const struct relate *relate, size_t column, size_t other)
{
    struct relate_column *c = &relate->columns[column];
    const struct relate_column *o = &relate->columns[other];
    struct parts_term term = { (uint32_t) other, c->rise != o->rise };

    if (c->same == o->same &&
        memcmp(c->values, o->values, relate->n_rows * sizeof(*c->values)) == 0) {
        c->operation = PARTS_SAME;
        c->columns[0] = term.column;
        return true;
    }
    if ((c->rise != o->rise && c->fall != o->rise) || !is_shifted(relate, column, &term))
        return false;
    c->operation = PARTS_SUM;
    c->columns[0] = term.column;
    c->terms[0] = term;
    c->n_terms = 1;
    return true;
}

/* Whether so many comparisons may still be made. */
static bool spend(struct relate *relate, size_t effort)
{
    if (relate->effort_left < effort)
        return false;
    relate->effort_left -= effort;
    return true;
}

static bool is_free(const struct relate_column *c)
{
    return !c->is_marked && !c->is_constant && c->operation == PARTS_ZEROS;
}

void relate_columns(struct relate *relate)
{
    struct relate_column *columns = relate->columns;

    if (relate->n_rows < ROWS_MIN)
        return;
    for (size_t i = 0; i < relate->n_columns; i++) {
        size_t from = i < WINDOW ? 0 : i - WINDOW;

        if (!is_free(&columns[i]))
            continue;
        probe(&columns[i], relate->n_rows);
        for (size_t k = from; k < i; k++)
            if (is_free(&columns[k]) && relate_pair(relate, i, k)) {
                columns[k].is_needed |= columns[i].operation == PARTS_SUM;
                break;
            }
    }
}

static bool is_quotient(const double *values, const double *of, double divisor, size_t n_rows)
{
    /* The last row first: it differs from the first one more often than the second does. */
    if (bits_of(of[n_rows - 1] / divisor) != bits_of(values[n_rows - 1]))
        return false;
    for (size_t i = 0; i < n_rows; i++)
        if (bits_of(of[i] / divisor) != bits_of(values[i]) || isnan(values[i]))
            return false;
    return true;
}

static bool find_dividend(const struct relate *relate, size_t column, double divisor, size_t *ret)
{
    const double *values = relate->columns[column].values;
    double wanted = values[0] * divisor, slack = fabs(wanted) * NEARLY;
    size_t from = column < WINDOW ? 0 : column - WINDOW;

    for (size_t i = from; i < relate->n_columns && i < column + WINDOW; i++) {
        const struct relate_column *of = &relate->columns[i];

        if (of->is_marked || i == column || of->operation == PARTS_OVER)
            continue;
        if (!(fabs(of->values[0] - wanted) <= slack))
            continue;
        if (is_quotient(values, of->values, divisor, relate->n_rows)) {
            *ret = i;
            return true;
        }
    }
    return false;
}

/*
 * A column that becomes a part of another goes on as it is, and so does what it stands on: that
 * keeps rings away, and chains short. False: it stands on the other one, or on a quotient.
 */
static bool need(struct relate *relate, size_t column, size_t by)
{
    struct relate_column *c = &relate->columns[column];

    if (c->operation == PARTS_SAME) {
        struct relate_column *root = &relate->columns[c->columns[0]];

        if (root == &relate->columns[by] || root->operation != PARTS_ZEROS)
            return false;
        root->is_needed = true;
    }
    for (size_t i = 0; i < c->n_terms; i++)
        if (c->terms[i].column == by)
            return false;
    c->is_needed = true;
    return true;
}

bool relate_quotient(struct relate *relate, size_t column)
{
    struct relate_column *c = &relate->columns[column];
    size_t from = column < WINDOW ? 0 : column - WINDOW;
    double before = 1;

    if (c->is_marked || c->is_needed || relate->n_rows < ROWS_MIN)
        return false;
    for (size_t i = from; i < relate->n_columns && i < column + WINDOW; i++) {
        double divisor = relate->columns[i].values[0];
        size_t of;

        /* Often the same limit stands in several columns one after the other. */
        if (!relate->columns[i].is_constant || relate->columns[i].is_marked ||
            !(fabs(divisor) > 1) || divisor == before)
            continue;
        before = divisor;
        if (!spend(relate, (size_t) 2 * WINDOW))
            return false;
        if (!find_dividend(relate, column, divisor, &of) || !need(relate, of, column))
            continue;
        c->operation = PARTS_OVER;
        c->columns[0] = (uint32_t) of;
        c->columns[1] = (uint32_t) i;
        return true;
    }
    return false;
}

/* ---- sums ---- */

static unsigned cost_of(const int64_t *steps, const int64_t *of, bool is_minus)
{
    unsigned cost = 0;

    for (size_t i = 0; i < RELATE_PROBES; i++) {
        uint64_t step = (uint64_t) steps[i], other = of ? (uint64_t) of[i] : 0;

        step = is_minus ? step + other : step - other;
        cost += step ? 65 - (unsigned) __builtin_clzll(step >> 63 ? 0 - step : step) : 0;
    }
    return cost;
}

static bool find_term(struct relate *relate,
                      size_t column,
                      const int64_t *steps,
                      unsigned *cost,
                      struct parts_term *ret)
{
    size_t from = column < SUM_WINDOW ? 0 : column - SUM_WINDOW;
    unsigned best = *cost;

    for (size_t i = from; i < relate->n_columns && i < column + SUM_WINDOW; i++) {
        const struct relate_column *c = &relate->columns[i];

        if (i == column || !is_free(c) || !c->is_whole ||
            !spend(relate, (size_t) 2 * RELATE_PROBES))
            continue;
        for (int is_minus = 0; is_minus < 2; is_minus++) {
            unsigned with = cost_of(steps, c->steps, is_minus);

            if (with >= best)
                continue;
            best = with;
            *ret = (struct parts_term){ (uint32_t) i, is_minus };
        }
    }
    /* The best of many looks better than it is. */
    if (best + RELATE_PROBES / 2 > *cost)
        return false;
    *cost = best;
    return true;
}

size_t relate_sum(struct relate *relate, size_t column, struct parts_term *ret_terms)
{
    const struct relate_column *c = &relate->columns[column];
    int64_t steps[RELATE_PROBES];
    unsigned cost;
    size_t n = 0;

    if (!is_free(c) || c->is_needed || !c->is_whole || relate->n_rows < SUM_ROWS_MIN)
        return 0;
    memcpy(steps, c->steps, sizeof(steps));
    cost = cost_of(steps, NULL, false);
    while (n < PARTS_TERMS_MAX && find_term(relate, column, steps, &cost, &ret_terms[n])) {
        const struct parts_term *term = &ret_terms[n++];
        const int64_t *other = relate->columns[term->column].steps;

        for (size_t i = 0; i < RELATE_PROBES; i++)
            steps[i] = (int64_t) (term->is_minus ? (uint64_t) steps[i] + (uint64_t) other[i]
                                                 : (uint64_t) steps[i] - (uint64_t) other[i]);
    }
    return n;
}
