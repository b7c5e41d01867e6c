/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/text.h"
#include "server/ctl/ctl.h"

/*
 * A cell of the canvas is 2 x 4 dots, drawn as one braille character: U+2800 plus a bit for each
 * dot.
 *
 *      0 3
 *      1 4
 *      2 5
 *      6 7
 */
static const unsigned char dot_bit[4][2] = { { 0x01, 0x08 },
                                             { 0x02, 0x10 },
                                             { 0x04, 0x20 },
                                             { 0x40, 0x80 } };

#define MAX_COLORS 6
static const char *const colors[MAX_COLORS] = { "\033[36m", "\033[33m", "\033[32m",
                                                "\033[35m", "\033[31m", "\033[34m" };
static const char marks[MAX_COLORS] = { '*', '+', 'o', 'x', '#', '@' };

#define AXIS_WIDTH 10

struct canvas {
    int width, height;   /* cells */
    unsigned char *dots; /* of each cell */
    unsigned char *line; /* the newest line in each cell, + 1 */
    double low, high;
};

static void set_dot(struct canvas *canvas, int x, int y, size_t line)
{
    int cell = y / 4 * canvas->width + x / 2;

    if (x < 0 || y < 0 || x >= 2 * canvas->width || y >= 4 * canvas->height)
        return;
    canvas->dots[cell] |= dot_bit[y % 4][x % 2];
    canvas->line[cell] = (unsigned char) (line % MAX_COLORS + 1);
}

static int y_of(const struct canvas *canvas, double value)
{
    return (int) lround((canvas->high - value) / (canvas->high - canvas->low) *
                        (4 * canvas->height - 1));
}

static void draw_line(struct canvas *canvas, const struct plot *plot, size_t at)
{
    const struct plot_line *line = &plot->lines[at];
    double span = (double) (plot->to_us - plot->from_us);
    int last_x = 0, last_y = 0;
    bool has_last = false;

    for (size_t i = 0; i < line->n_points; i++) {
        int x, y, steps;

        if (!isfinite(line->values[i])) {
            has_last = false;
            continue;
        }
        x = (int) ((double) (line->times_us[i] - plot->from_us) / span * (2 * canvas->width - 1));
        y = y_of(canvas, line->values[i]);
        /* A gap of more than two steps stays a gap. */
        if (has_last && line->times_us[i] - line->times_us[i - 1] <= 2 * plot->step_us) {
            steps = abs(x - last_x) > abs(y - last_y) ? abs(x - last_x) : abs(y - last_y);
            for (int step = 1; step < steps; step++)
                set_dot(canvas, last_x + (x - last_x) * step / steps,
                        last_y + (y - last_y) * step / steps, at);
        }
        set_dot(canvas, x, y, at);
        last_x = x;
        last_y = y;
        has_last = true;
    }
}

static bool find_bounds(const struct plot *plot, double *ret_low, double *ret_high)
{
    double low = INFINITY, high = -INFINITY;

    for (size_t i = 0; i < plot->n_lines; i++)
        for (size_t j = 0; j < plot->lines[i].n_points; j++) {
            double value = plot->lines[i].values[j];

            if (isfinite(value)) {
                low = value < low ? value : low;
                high = value > high ? value : high;
            }
        }
    if (low > high)
        return false;
    if (low > 0 && low < high / 2)
        low = 0;
    if (high - low < 1e-12 * (fabs(high) + 1)) {
        high += fabs(high) / 10 + 0.5;
        low -= low != 0 ? fabs(low) / 10 + 0.5 : 0;
    }
    *ret_low = low;
    *ret_high = high;
    return true;
}

static void print_cell(const struct canvas *canvas, const struct plot *plot, int cell, FILE *to)
{
    unsigned char dots = canvas->dots[cell], line = canvas->line[cell];

    if (!dots) {
        fputc(' ', to);
        return;
    }
    if (plot->has_color)
        fputs(colors[line - 1], to);
    if (plot->is_ascii)
        fputc(marks[line - 1], to);
    else
        fprintf(to, "%c%c%c", 0xe2, 0xa0 | dots >> 6, 0x80 | (dots & 0x3f));
    if (plot->has_color)
        fputs("\033[0m", to);
}

static void
print_canvas(struct ctl *ctl, const struct canvas *canvas, const struct plot *plot, FILE *to)
{
    char from[TEXT_TIME_BYTES], until[TEXT_TIME_BYTES];

    for (int y = 0; y < canvas->height; y++) {
        double value = canvas->high - (canvas->high - canvas->low) * y /
                                          (canvas->height > 1 ? canvas->height - 1 : 1);
        bool has_label = y % 4 == 0 || y == canvas->height - 1;

        fprintf(to, "%*s %s", AXIS_WIDTH, has_label ? format_number(ctl, value) : "",
                plot->is_ascii ? "|" : "│");
        for (int x = 0; x < canvas->width; x++)
            print_cell(canvas, plot, y * canvas->width + x, to);
        fputc('\n', to);
    }
    fprintf(to, "%*s %s", AXIS_WIDTH, "", plot->is_ascii ? "+" : "└");
    for (int x = 0; x < canvas->width; x++)
        fputs(plot->is_ascii ? "-" : "─", to);
    text_of_time((wall_us){ plot->from_us }, from);
    text_of_time((wall_us){ plot->to_us }, until);
    fprintf(to, "\n%*s  %.19s%*s%.19s UTC\n", AXIS_WIDTH, "", from,
            canvas->width > 42 ? canvas->width - 42 : 1, "", until);
}

void plot_print(struct ctl *ctl, const struct plot *plot, FILE *to)
{
    struct canvas canvas = { .width = plot->width, .height = plot->height };
    size_t cells = (size_t) plot->width * (size_t) plot->height;

    fprintf(to, "%s%s%s%s\n", format_printable(ctl, plot->title), *plot->unit ? " [" : "",
            format_printable(ctl, plot->unit), *plot->unit ? "]" : "");
    if (!find_bounds(plot, &canvas.low, &canvas.high)) {
        fprintf(to, "no samples in this range\n");
        return;
    }
    canvas.dots = arena_alloc(&ctl->arena, cells);
    canvas.line = arena_alloc(&ctl->arena, cells);
    if (!canvas.dots || !canvas.line)
        return;
    for (size_t i = 0; i < plot->n_lines; i++)
        draw_line(&canvas, plot, i);
    print_canvas(ctl, &canvas, plot, to);
    for (size_t i = 0; i < plot->n_lines && plot->lines[i].name; i++) {
        const struct plot_line *line = &plot->lines[i];
        size_t color = i % MAX_COLORS;

        fprintf(to, "%*s  %s%s%s %s", AXIS_WIDTH, "", plot->has_color ? colors[color] : "",
                plot->is_ascii ? (char[2]){ marks[color], 0 } : "━",
                plot->has_color ? "\033[0m" : "", format_printable(ctl, line->name));
        if (line->n_points > 0)
            fprintf(to, "  last %s",
                    format_printable(
                        ctl, format_value(ctl, line->values[line->n_points - 1], plot->unit)));
        fputc('\n', to);
    }
}
