/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/text.h"
#include "common/json/json.h"
#include "server/ops/ops.h"
#include "server/store/store.h"

static const char *const level_names[STORE_LEVELS] = { "as sealed", "of an hour", "of hours" };

struct line {
    const char *name;
    uint64_t n_bytes, n_blocks, n_samples, n_free_pages;
    bool has_free_pages;
};

static void print_line(const struct line *line)
{
    char size[TEXT_SIZE_BYTES], rate[32] = "-", pages[32] = "";

    if (line->n_samples)
        snprintf(rate, sizeof(rate), "%.3f", (double) line->n_bytes / (double) line->n_samples);
    if (line->has_free_pages)
        snprintf(pages, sizeof(pages), "%llu", (unsigned long long) line->n_free_pages);
    printf("%-22s %11s %11llu %16llu %12s %11s\n", line->name, text_of_size(line->n_bytes, size),
           (unsigned long long) line->n_blocks, (unsigned long long) line->n_samples, rate, pages);
}

static const struct {
    const char *window, *line;
} tiers[STORE_TIERS] = { { "1m", "  windows of a minute" }, { "1h", "  windows of an hour" } };

static void print_rolled(const struct store_found *found)
{
    printf("\n%-22s %11s %11s %16s %12s %11s\n", "roll-ups", "size", "records", "windows",
           "periods", "free pages");
    for (int i = 0; i < STORE_TIERS; i++) {
        const struct store_rolled *rolled = &found->rolled[i];
        char size[TEXT_SIZE_BYTES];

        printf("%-22s %11s %11llu %16llu %12llu %11llu\n", tiers[i].line,
               text_of_size(rolled->n_bytes, size), (unsigned long long) rolled->n_records,
               (unsigned long long) rolled->n_windows, (unsigned long long) rolled->n_periods,
               (unsigned long long) rolled->n_free_pages);
    }
}

static void print_inventory(const struct store_found *found)
{
    char size[TEXT_SIZE_BYTES], sent[TEXT_SIZE_BYTES], packed[TEXT_SIZE_BYTES];

    if (found->n_inventories)
        printf("\ninventories: %s; %llu agents, %llu revisions, %llu tables of %s in %s\n",
               text_of_size(found->inventory_bytes, size),
               (unsigned long long) found->n_inventories,
               (unsigned long long) found->n_inventory_revisions,
               (unsigned long long) found->n_inventory_contents,
               text_of_size(found->inventory_table_bytes, sent),
               text_of_size(found->inventory_packed_bytes, packed));
}

static void print_logs(const struct store_found *found)
{
    const struct store_found_logs *logs = &found->logs;
    char size[TEXT_SIZE_BYTES], raw[TEXT_SIZE_BYTES], ratio[32] = "-";

    if (logs->n_bytes)
        snprintf(ratio, sizeof(ratio), "%.1f", (double) logs->n_raw_bytes / (double) logs->n_bytes);
    printf("\n%-22s %11s %11s %16s %12s %11s\n", "logs", "size", "blocks", "records", "as sent",
           "ratio");
    printf("%-22s %11s %11llu %16llu %12s %11s\n", "  days", text_of_size(logs->n_bytes, size),
           (unsigned long long) logs->n_blocks, (unsigned long long) logs->n_records,
           text_of_size(logs->n_raw_bytes, raw), ratio);
    printf("%-22s %11s %11s %16llu %12s %11s\n", "  in the journal", "", "",
           (unsigned long long) found->n_journal_records,
           text_of_size(found->n_journal_raw_bytes, raw), "");
}

static void print_uploads(const struct store_found *found)
{
    char content[TEXT_SIZE_BYTES], size[TEXT_SIZE_BYTES];

    printf("\n%-22s %11s %11s %16s %12s %11s\n", "uploads", "size", "uploads", "unfinished",
           "contents", "free pages");
    printf("%-22s %11s %11s %16s %12llu %11s\n", "  contents",
           text_of_size(found->content_bytes, content), "", "",
           (unsigned long long) found->n_contents, "");
    printf("%-22s %11s %11llu %16llu %12s %11llu\n", "  index",
           text_of_size(found->objects_bytes, size), (unsigned long long) found->n_uploads,
           (unsigned long long) found->n_unfinished, "",
           (unsigned long long) found->n_objects_free_pages);
}

void ops_print_found(const struct store_found *found)
{
    struct line journal = { "journal",
                            found->journal_bytes,
                            found->n_chunks,
                            found->n_journal_samples,
                            found->n_journal_free_pages,
                            true };
    struct line days = { "days", found->day_bytes, 0, 0, found->n_day_free_pages, true };
    char size[TEXT_SIZE_BYTES], time[TEXT_TIME_BYTES];

    for (int i = 0; i < STORE_LEVELS; i++) {
        days.n_blocks += found->levels[i].n_blocks;
        days.n_samples += found->levels[i].n_samples;
    }
    printf("%-22s %11s %11s %16s %12s %11s\n", "", "size", "blocks", "samples", "bytes/sample",
           "free pages");
    print_line(&journal);
    print_line(&days);
    for (int i = 0; i < STORE_LEVELS; i++) {
        const struct store_level *level = &found->levels[i];
        char name[40];

        snprintf(name, sizeof(name), "  level %d, %s", i, level_names[i]);
        print_line(
            &(struct line){ name, level->n_bytes, level->n_blocks, level->n_samples, 0, false });
    }
    printf("%-22s %11s %11s %16s %12s %11llu\n", "state", text_of_size(found->state_bytes, size),
           "", "", "", (unsigned long long) found->n_state_free_pages);
    print_rolled(found);
    print_inventory(found);
    print_logs(found);
    print_uploads(found);
    printf("\n%llu segments, %llu days, %llu days of logs; %llu agents, %llu series, %llu "
           "definitions, %llu layouts, "
           "%llu certificates\n",
           (unsigned long long) found->n_segments, (unsigned long long) found->n_days,
           (unsigned long long) found->logs.n_days, (unsigned long long) found->n_agents,
           (unsigned long long) found->n_series, (unsigned long long) found->n_definitions,
           (unsigned long long) found->n_layouts, (unsigned long long) found->n_certificates);
    if (found->newest_commit_us)
        printf("newest batch received %s\n",
               text_of_time((wall_us){ found->newest_commit_us }, time));
}

static void put_level(struct json_writer *writer, const struct store_level *level, int number)
{
    json_open_object(writer);
    json_put_u64(writer, "level", (uint64_t) number);
    json_put_u64(writer, "blocks", level->n_blocks);
    json_put_u64(writer, "rows", level->n_rows);
    json_put_u64(writer, "samples", level->n_samples);
    json_put_u64(writer, "bytes", level->n_bytes);
    if (level->n_samples)
        json_put_f64(writer, "bytes_per_sample",
                     (double) level->n_bytes / (double) level->n_samples);
    json_close_object(writer);
}

static void put_days(struct json_writer *writer, const struct store_found *found)
{
    uint64_t n_samples = 0, n_blocks = 0;

    for (int i = 0; i < STORE_LEVELS; i++) {
        n_samples += found->levels[i].n_samples;
        n_blocks += found->levels[i].n_blocks;
    }
    json_key(writer, "days");
    json_open_object(writer);
    json_put_u64(writer, "days", found->n_days);
    json_put_u64(writer, "blocks", n_blocks);
    json_put_u64(writer, "samples", n_samples);
    json_put_u64(writer, "bytes", found->day_bytes);
    if (n_samples)
        json_put_f64(writer, "bytes_per_sample", (double) found->day_bytes / (double) n_samples);
    json_put_u64(writer, "free_pages", found->n_day_free_pages);
    json_key(writer, "levels");
    json_open_array(writer);
    for (int i = 0; i < STORE_LEVELS; i++)
        put_level(writer, &found->levels[i], i);
    json_close_array(writer);
    json_close_object(writer);
}

static void put_rolled(struct json_writer *writer, const struct store_found *found)
{
    json_key(writer, "rollups");
    json_open_array(writer);
    for (int i = 0; i < STORE_TIERS; i++) {
        const struct store_rolled *rolled = &found->rolled[i];

        json_open_object(writer);
        json_put_text(writer, "window", tiers[i].window);
        json_put_u64(writer, "periods", rolled->n_periods);
        json_put_u64(writer, "records", rolled->n_records);
        json_put_u64(writer, "windows", rolled->n_windows);
        json_put_u64(writer, "samples", rolled->n_samples);
        json_put_u64(writer, "bytes", rolled->n_bytes);
        json_put_u64(writer, "free_pages", rolled->n_free_pages);
        json_close_object(writer);
    }
    json_close_array(writer);
}

static void put_logs(struct json_writer *writer, const struct store_found *found)
{
    const struct store_found_logs *logs = &found->logs;

    json_key(writer, "logs");
    json_open_object(writer);
    json_put_u64(writer, "days", logs->n_days);
    json_put_u64(writer, "blocks", logs->n_blocks);
    json_put_u64(writer, "records", logs->n_records);
    json_put_u64(writer, "raw_bytes", logs->n_raw_bytes);
    json_put_u64(writer, "bytes", logs->n_bytes);
    if (logs->n_bytes)
        json_put_f64(writer, "ratio", (double) logs->n_raw_bytes / (double) logs->n_bytes);
    json_put_u64(writer, "free_pages", logs->n_free_pages);
    json_close_object(writer);
}

static void put_journal(struct json_writer *writer, const struct store_found *found)
{
    json_key(writer, "journal");
    json_open_object(writer);
    json_put_u64(writer, "segments", found->n_segments);
    json_put_u64(writer, "chunks", found->n_chunks);
    json_put_u64(writer, "batches", found->n_batches);
    json_put_u64(writer, "rows", found->n_journal_rows);
    json_put_u64(writer, "samples", found->n_journal_samples);
    json_put_u64(writer, "log_packs", found->n_journal_packs);
    json_put_u64(writer, "log_records", found->n_journal_records);
    json_put_u64(writer, "log_raw_bytes", found->n_journal_raw_bytes);
    json_put_u64(writer, "bytes", found->journal_bytes);
    if (found->n_journal_samples)
        json_put_f64(writer, "bytes_per_sample",
                     (double) found->journal_bytes / (double) found->n_journal_samples);
    json_put_u64(writer, "free_pages", found->n_journal_free_pages);
    json_close_object(writer);
}

static void put_inventory(struct json_writer *writer, const struct store_found *found)
{
    json_key(writer, "inventory");
    json_open_object(writer);
    json_put_u64(writer, "agents", found->n_inventories);
    json_put_u64(writer, "revisions", found->n_inventory_revisions);
    json_put_u64(writer, "tables", found->n_inventory_contents);
    json_put_u64(writer, "table_bytes", found->inventory_table_bytes);
    json_put_u64(writer, "packed_bytes", found->inventory_packed_bytes);
    json_put_u64(writer, "bytes", found->inventory_bytes);
    json_put_u64(writer, "free_pages", found->n_inventory_free_pages);
    json_close_object(writer);
}

static void put_uploads(struct json_writer *writer, const struct store_found *found)
{
    json_key(writer, "uploads");
    json_open_object(writer);
    json_put_u64(writer, "uploads", found->n_uploads);
    json_put_u64(writer, "unfinished", found->n_unfinished);
    json_put_u64(writer, "contents", found->n_contents);
    json_put_u64(writer, "content_bytes", found->content_bytes);
    json_put_u64(writer, "index_bytes", found->objects_bytes);
    json_put_u64(writer, "free_pages", found->n_objects_free_pages);
    json_close_object(writer);
}

void ops_put_found(struct json_writer *writer, const struct store_found *found)
{
    char time[TEXT_TIME_BYTES];

    put_journal(writer, found);
    put_days(writer, found);
    put_rolled(writer, found);
    put_inventory(writer, found);
    put_logs(writer, found);
    put_uploads(writer, found);
    json_key(writer, "state");
    json_open_object(writer);
    json_put_u64(writer, "bytes", found->state_bytes);
    json_put_u64(writer, "free_pages", found->n_state_free_pages);
    json_put_u64(writer, "agents", found->n_agents);
    json_put_u64(writer, "series", found->n_series);
    json_put_u64(writer, "definitions", found->n_definitions);
    json_put_u64(writer, "layouts", found->n_layouts);
    json_put_u64(writer, "certificates", found->n_certificates);
    json_put_u64(writer, "counted_samples", found->n_samples);
    json_put_u64(writer, "counted_skipped", found->n_skipped);
    json_put_u64(writer, "counted_lost", found->n_lost);
    json_put_u64(writer, "counted_log_records", found->n_log_records);
    json_put_u64(writer, "counted_log_bytes", found->n_log_bytes);
    json_close_object(writer);
    json_key(writer, "newest_commit");
    if (found->newest_commit_us)
        json_text(writer, text_of_time((wall_us){ found->newest_commit_us }, time));
    else
        json_null(writer);
}
