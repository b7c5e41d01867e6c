#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a table's function works with. Private to agent/inventory.
 *
 *     static void read_hosts(struct table *t)
 *     {
 *         char *text = table_read(t, "etc/hosts");
 *         for (char *line; (line = table_line(&text));) {
 *             table_put(t, ...);      as often as there are columns
 *             table_end_row(t);
 *         }
 *     }
 *
 * A function that puts nothing makes an empty table, unless it said table_absent(): then there is
 * none.
 */

#include <dirent.h>
#include <stdio.h>
#include <sys/types.h>

#include "agent/inventory/inventory.h"

struct table {
    const struct inventory_options *options;
    int root_fd;
    struct inventory_table *to;
    size_t n_put;      /* values of the row at hand */
    size_t row_begins; /* where it begins in to->values */
    bool is_known;     /* the hub has it */
    bool is_absent, is_unreadable, is_failed, is_full;
    uint64_t max_rows, max_bytes;
    struct buf text; /* of the file read last */
    struct buf word; /* for values that are put together */
};

/* ---- values, in the order of the columns ---- */

/* NULL is "". What is not UTF-8 becomes U+FFFD. */
/* What is no UTF-8, and NUL, becomes U+FFFD; longer than TABLE_MAX_VALUE_BYTES is cut, and said. */
#define TABLE_MAX_VALUE_BYTES 4096 /* the hub's inventory.value_size: it refuses longer ones */
void table_put(struct table *t, const char *value);
void table_put_span(struct table *t, struct span value);
void table_put_u64(struct table *t, uint64_t value);
void table_put_i64(struct table *t, int64_t value);
void table_put_format(struct table *t, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Fills what is missing of the row with "". */
void table_end_row(struct table *t);

/* This machine has no such thing. */
void table_absent(struct table *t);
/* It has, but it could not be read: what the hub has stays. `what`: the path. */
void table_unreadable(struct table *t, const char *what, int error);
/* The same for a table that is whole or nothing: what was put is dropped, and nothing is taken any
 * more. Without what the hub has there is no table. The words name what failed, and the remedy. */
void table_failed(struct table *t, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* ---- reading; paths are below the root, without a leading / ---- */

#define TABLE_MAX_FILE_BYTES ((size_t) 64 << 20)
/* Of table_read_if(): files of users and packages, who may make as many as they like. */
#define TABLE_MAX_OPEN_FILE_BYTES ((size_t) 1 << 20)

/* The text, which may be written to, in a buffer that the next read overwrites; NULL when it is not
 * there. Not readable: NULL too, and said with table_unreadable(). */
char *table_read(struct table *t, const char *path);
/* The same where not being allowed to, or the length, is no fault of the table: then it is NULL,
 * and errno tells (EFBIG: too long). */
char *table_read_if(struct table *t, const char *path);
/* The first line without space around it, or "" when there is none; `to` is filled. */
const char *table_fact(struct table *t, const char *path, char *to, size_t size);
uint64_t table_number(struct table *t, const char *path);
/* NULL: not there. The caller closes it. */
DIR *table_directory(struct table *t, const char *path);
/* The next entry but . and ..; NULL at the end. */
const char *table_entry(DIR *directory);
/* What a link points to, its last part; "" when it is none. */
const char *table_link_name(struct table *t, const char *path, char *to, size_t size);
DEFINE_CLEANUP(DIR *, closedir);

/* Cuts the next line off; NULL at the end. */
char *table_line(char **cursor);
/* Cuts the next word off (spaces and tabs); NULL at the end of the line. */
char *table_word(char **cursor);
/* Cuts up to the next `separator`; NULL at the end. Empty fields count. */
char *table_field(char **cursor, char separator);
/* Without white space at both ends. */
char *table_trim(char *text);
/* Whether `line` begins with "key" and then `separator` (spaces before it are skipped): then the
 * rest, trimmed; else NULL. */
char *table_after(char *line, const char *key, char separator);

/* Runs a program with a clean environment; its output as text, NULL when it is not there, fails or
 * takes too long (then table_unreadable()). argv ends with NULL. */
char *table_run(struct table *t, const char *const *argv);

/* Starts it in a process group of its own; the end of a pipe with what it prints, to be closed, or
 * -1 with errno. Who starts it waits for it. */
int table_spawn(const char *const *argv, pid_t *ret_pid);
/* Waits for its end, until `due_us` of clock_mono() or as long as the snapshot is wanted. False: it
 * had to be killed, with its group. */
bool table_wait(const struct table *t, pid_t pid, int64_t due_us, int *ret_status);
/* How long a program, or an engine, may take. */
int64_t table_timeout_us(const struct table *t);

typedef void table_fn(struct table *t);

/* system.c */
table_fn table_system_info, table_os_version, table_kernel_info, table_kernel_modules,
    table_platform_info, table_cpu_info, table_reboot_required, table_uptime, table_time;
/* dmi.c */
table_fn table_memory_devices;
/* One structure of SMBIOS type 17 after the other out of a table; false at the end or where it is
 * broken. Pure. */
struct dmi_memory {
    struct span device_locator, bank_locator, manufacturer, serial, part, asset;
    uint64_t size_bytes; /* 0: no module */
    uint32_t speed_mts;
    uint8_t form_factor, type;
    uint16_t total_width, data_width;
};
bool dmi_next_memory(struct span *from, struct dmi_memory *ret);
/* block.c */
table_fn table_block_devices, table_mounts;
/* bus.c */
table_fn table_pci_devices, table_usb_devices;
/* network.c */
table_fn table_interface_details, table_interface_addresses, table_routes, table_dns_resolvers,
    table_arp_cache;
/* sockets.c */
table_fn table_listening_ports, table_process_open_sockets, table_processes;
/* users.c */
table_fn table_users, table_groups, table_logged_in_users, table_last, table_authorized_keys,
    table_sudoers;
/* schedule.c */
table_fn table_crontab, table_systemd_units;
/* packages.c */
table_fn table_deb_packages, table_rpm_packages, table_python_packages;
/* updates.c */
table_fn table_apt_updates;
/* engine.c */
table_fn table_docker_containers, table_docker_images;
/* certificates.c */
table_fn table_certificates;

struct table_row {
    struct inventory_kind kind;
    const char *const *columns; /* ends with NULL */
    table_fn *fn;
};
extern const struct table_row table_registry[];
extern const size_t table_n_registry;

/* Sorts, hashes: the rows are canonical then. */
int table_finish(struct table *t) MUST_USE;
