/* SPDX-License-Identifier: Apache-2.0 */

/* Devices on PCI and USB, by the numbers that their makers gave them. */

#include <string.h>

#include "agent/inventory/table.h"

#define PATH_BYTES 400
#define FACT_BYTES 256

static void put_fact(struct table *t, const char *device, const char *what)
{
    char path[PATH_BYTES], fact[FACT_BYTES];
    const char *value;

    snprintf(path, sizeof(path), "%s/%s", device, what);
    value = table_fact(t, path, fact, sizeof(fact));
    table_put(t, strncmp(value, "0x", 2) == 0 ? value + 2 : value);
}

void table_pci_devices(struct table *t)
{
    CLEANUP(closedirp) DIR *directory = table_directory(t, "sys/bus/pci/devices");
    const char *entry;

    if (!directory) {
        table_absent(t);
        return;
    }
    while ((entry = table_entry(directory)) != NULL) {
        char device[PATH_BYTES / 2], path[PATH_BYTES], link[FACT_BYTES];

        snprintf(device, sizeof(device), "sys/bus/pci/devices/%.100s", entry);
        table_put(t, entry);
        put_fact(t, device, "class");
        snprintf(path, sizeof(path), "%s/driver", device);
        table_put(t, table_link_name(t, path, link, sizeof(link)));
        put_fact(t, device, "vendor");
        put_fact(t, device, "device");
        put_fact(t, device, "subsystem_vendor");
        put_fact(t, device, "subsystem_device");
        table_end_row(t);
    }
}

void table_usb_devices(struct table *t)
{
    CLEANUP(closedirp) DIR *directory = table_directory(t, "sys/bus/usb/devices");
    const char *entry;

    if (!directory) {
        table_absent(t);
        return;
    }
    while ((entry = table_entry(directory)) != NULL) {
        char device[PATH_BYTES / 2];

        /* "1-4:1.0" is an interface of the device 1-4. */
        if (strchr(entry, ':'))
            continue;
        snprintf(device, sizeof(device), "sys/bus/usb/devices/%.100s", entry);
        put_fact(t, device, "devnum");
        put_fact(t, device, "devpath");
        put_fact(t, device, "manufacturer");
        put_fact(t, device, "idVendor");
        put_fact(t, device, "bcdDevice");
        put_fact(t, device, "product");
        put_fact(t, device, "idProduct");
        put_fact(t, device, "serial");
        put_fact(t, device, "bDeviceClass");
        table_end_row(t);
    }
}
