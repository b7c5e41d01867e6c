#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Roll-ups on disk, and the sealer's part that makes them.
 *
 *   <db>/default/rollup-1m/202611/   windows of a minute; a record has an hour of them
 *   <db>/default/rollup-1h/2026/     windows of an hour; a record has a day of them
 *     blocks   agent u32, layout u32, slice u16,
 *              begin of the hour or day i64 (sign bit turned), all big-endian
 *              -> struct day_prefix, then a block with one part
 *     marks    agent u32, day u32, big-endian -> struct roll_mark
 *     agents   as in a day: the spans of each layout; no position
 *     meta     as in a day; "seal" is the highest seal number of a mark
 *
 * A record has ROLL_COLUMNS columns of a layout at most (a slice), so that a question about one
 * series reads little else. The block's part has the layout's id and a row for each window in which
 * the layout has a row; the row's time is that of the layout's last one in the window. Columns:
 *
 *   0                  rows of the layout in the window
 *   1                  the first one's time, from the window's begin on, us
 *   2 + 9 x column + struct store_window's fields, by enum roll_field: absent where they follow
 *                      from the others:
 *     MIN MAX SUM LAST   absent: no sample of the series
 *     BASE               absent: the window is chained
 *     INCREASE           absent: last less base; chained: less the last of the
 *                        window before in this record. Written where that is
 *                        not so: resets, NaN
 *     COUNT              absent: as many as the layout has rows
 *     BASE_AT            from the window's begin on, us; absent: the layout's
 *                        first time; chained: the last time of the window
 *                        before in this record
 *     LAST_AT            the same; absent: the layout's last time
 *
 * Why a record knows nothing of the hour before: it depends on the rows of its hour alone, so what
 * is late makes one record anew and no other, whatever came first. The growth from hour to hour is
 * the reader's, who sees both.
 *
 * Marks: which hours of the day are rolled up, all blocks up to a seal number counted; of one that
 * no block met there is nothing, and it is marked, as a larger block may span it one day. An hour
 * is due when it is over, a block meets it, and the mark does not have it or the block is newer; in
 * the tier of hours when its day is over: a record that grew by a row each hour would be encoded
 * two dozen times, and samples of a day are quickly read. Mark and records are one transaction, and
 * the two tiers have each their own: a kill between leaves the rest to the next sweep. The
 * compactor replaces only blocks that the mark counts, by one with a number of theirs: nothing is
 * due for that.
 *
 * An hour of which a block is damaged stays as it was rolled up before, if it was.
 *
 * A day that lost its past: it went (retention by size) or was set aside (damage), and rows came
 * late that made it anew. Its windows are then all that is left of what was, and blocks know less:
 * an hour made anew of them would be the late rows alone. So a day that is made where a mark says
 * that there are windows carries the seal number of then (struct day, begun), a mark up to that
 * number is one of before, and its hours with windows are "lost" from then on. What comes late in a
 * lost hour joins the windows: of blocks newer than the mark alone, and not of those of rows that a
 * start found in the journal where damage took the day, as they had been in it. So no row counts
 * twice, and the compactor, which would put rows that are counted and rows that are not into one
 * block, only works on hours that are rolled up. Windows of a lost hour are ready whatever blocks
 * and heads have: late rows are in the answers from the next sweep on, and what was before always
 * is. Leaving the windows as they were would be simpler, and would not answer with rows that were
 * acknowledged.
 *
 * Where the day was lost before it was over, the tier of hours has nothing of it yet, and gets it
 * out of windows of minutes.
 *
 * What joins is exact but for the growth: a late sample between two old ones adds nothing to it, as
 * their delta spans it, which is right unless it hides a reset of a counter; and deltas between
 * layouts that share a series are those of the old rows.
 *
 * Files:  record.c a record's block; rollup.c making: due.c what, load.c from which rows,
 *         series.c into windows, join.c those of before; commit.c on disk;
 *         windows.c reading; survey/rolled.c verifying.
 * Thread: the sealer; reading any.
 */

#include "common/base/buf.h"
#include "server/store/block/block.h"
#include "server/store/days/days.h"
#include "server/store/store_windows.h"

#define ROLL_COLUMNS 128u
#define ROLL_HEAD 2u
#define ROLL_WINDOWS_MAX 60u
#define ROLL_KEY_BYTES 18
#define ROLL_MARK_KEY_BYTES 8
#define DAY_HOURS 24u

enum roll_tier { ROLL_MINUTES, ROLL_HOURS, ROLL_TIERS };

enum roll_field {
    ROLL_MIN,
    ROLL_MAX,
    ROLL_SUM,
    ROLL_LAST,
    ROLL_BASE,
    ROLL_INCREASE,
    ROLL_COUNT,
    ROLL_BASE_AT,
    ROLL_LAST_AT,
    ROLL_FIELDS
};

struct roll_key {
    uint32_t agent, layout;
    uint16_t slice; /* its first column is slice x ROLL_COLUMNS */
    int64_t begin_us;
};

/* Bit h is the day's hour h. */
struct roll_mark {
    uint32_t crc32c; /* of the key, then of what follows */
    uint32_t hours;  /* rolled up */
    uint64_t seal;
    uint32_t windows; /* a block met it once: there may be windows */
    uint32_t lost;    /* the windows have samples that no block has */
};

static_assert(sizeof(struct roll_mark) == 24, "on disk");

/* Hours of which windows know more than samples; has_day: there is one, begun as it says. */
static inline uint32_t roll_lost(const struct roll_mark *mark, bool has_day, uint64_t begun)
{
    return has_day && mark->seal > begun ? mark->lost : mark->windows;
}

static inline int64_t roll_window_us(enum roll_tier tier)
{
    return tier == ROLL_MINUTES ? STORE_MINUTE_US : STORE_HOUR_US;
}

/* What one record spans. */
static inline int64_t roll_record_us(enum roll_tier tier)
{
    return tier == ROLL_MINUTES ? STORE_HOUR_US : DAY_US;
}

static inline int64_t floor_to_us(int64_t time_us, int64_t unit_us)
{
    int64_t rest = time_us % unit_us;

    return time_us - (rest < 0 ? rest + unit_us : rest);
}

/* ---- record.c ---- */

/* What the layout has in a window. */
struct roll_row {
    int64_t begin_us;
    int64_t first_us, last_us;
    uint64_t n_rows; /* 0: none, and no window of any column */
};

/*
 * A slice of a layout, window by window; zero is ready. Row i has column c at
 * windows[i * n_columns + c]: n_samples is 0 where there is none.
 */
struct roll_sheet {
    size_t n_rows, n_columns;
    struct roll_row rows[ROLL_WINDOWS_MAX];
    struct store_window *windows; /* ROLL_WINDOWS_MAX x ROLL_COLUMNS of them, or NULL */
};

static inline struct store_window *roll_at(const struct roll_sheet *sheet, size_t row, size_t c)
{
    return &sheet->windows[row * sheet->n_columns + c];
}

/* Empty, with room. Faults: no memory. */
int roll_sheet_begin(struct roll_sheet *sheet, size_t n_columns) MUST_USE;
void roll_sheet_deinit(struct roll_sheet *sheet);

/* Room for encoding and decoding; zero is ready. */
struct roll_work {
    struct codec_work codec;
    double *values;
    uint64_t *marks;
    struct buf opened;
};
void roll_work_deinit(struct roll_work *work);

/*
 * Appends the block of the rows that have any (at least one), and fills n_rows, n_samples and
 * last_us of the prefix.
 */
int roll_encode(struct roll_work *work,
                const struct roll_key *key,
                const struct roll_sheet *sheet,
                struct day_prefix *ret_prefix,
                struct buf *out) MUST_USE;

/* What is wanted of a record: columns are counted from the slice's first one, ascending. */
struct roll_wish {
    enum roll_tier tier;
    unsigned parts; /* of enum store_window_part */
    const uint32_t *columns;
    size_t n_columns;
};

/* All rows of a record. Outcomes: BLOCK_BAD. */
int roll_decode(struct roll_work *work,
                const struct roll_key *key,
                const struct roll_wish *wish,
                struct span block,
                struct roll_sheet *ret) MUST_USE;

void roll_key_put(uint8_t to[static ROLL_KEY_BYTES], const struct roll_key *key);
bool roll_key_get(MDB_val from, struct roll_key *ret);

MDB_val roll_mark_key(uint8_t to[static ROLL_MARK_KEY_BYTES], uint32_t agent, int32_t day);
/* False: it is damaged. */
bool roll_mark_read(MDB_val key, MDB_val value, struct roll_mark *ret);
/* Zero where there is none, or it is damaged: then all is made anew. */
int roll_mark_get(struct day *period,
                  MDB_txn *txn,
                  uint32_t agent,
                  int32_t day,
                  struct roll_mark *ret) MUST_USE;
/* Outcomes: STORE_FULL. */
int roll_mark_put(struct day *period,
                  MDB_txn *txn,
                  uint32_t agent,
                  int32_t day,
                  const struct roll_mark *mark) MUST_USE;

/* ---- series.c, join.c: samples into windows ---- */

struct found_block;
struct rows;

/* One of the layouts that have a series, and where in its rows. */
struct roll_source {
    const struct rows *rows;
    size_t column;
    size_t next; /* roll_series()'s */
};

/* Rows of the first source, and hour by hour what they make; the others serve the growth. */
struct roll_series {
    struct roll_source *sources;
    size_t n_sources;
    bool is_counter;
    bool is_late; /* no window is chained */
    int64_t hour_us;
    size_t column;              /* in both sheets */
    struct roll_sheet *minutes; /* n_rows is 60 */
    struct roll_sheet *hours;   /* n_rows is 24 */
    size_t hour;                /* row of `hours` */
};
void roll_series(const struct roll_series *series);
/* The rows of both sheets, of one hour. */
void roll_rows(const struct rows *rows,
               int64_t hour_us,
               struct roll_sheet *minutes,
               struct roll_row *ret_hour);

/*
 * Windows of late rows, by their place from begin_us on, none chained, join those of before, one
 * behind the other: `late` becomes both.
 */
void roll_join(struct roll_sheet *late,
               const struct roll_sheet *before,
               int64_t begin_us,
               enum roll_tier tier,
               const bool *are_counters);

/* ---- due.c ---- */

struct store;

/* Whether some agent has windows of a day. */
int roll_has_windows(struct store *store, int32_t day, bool *ret) MUST_USE;

/* ---- rollup.c ---- */

struct sealer;
struct agent;
struct roller;

struct roller *roller_new(void);
struct roller *roller_free(struct roller *roller);

/*
 * Makes what is due of an agent on a day, for roller_commit(): of hours that ended before over_us.
 * *ret_is_done: false when there is more, for after the commit. Outcomes: STORE_FULL.
 */
int roller_agent(struct sealer *sealer,
                 struct day *day,
                 struct agent *agent,
                 int64_t over_us,
                 bool *ret_is_done) MUST_USE;
/* Bytes that wait for it. */
size_t roller_bytes(const struct roller *roller);
/* Of one day only. Outcomes: STORE_FULL; what was not committed is dropped and is due again. */
int roller_commit(struct sealer *sealer) MUST_USE;
