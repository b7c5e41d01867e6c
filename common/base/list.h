#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Intrusive doubly linked list. A node lies in its owner and is found back with container_of(). A
 * node that is in no list points to itself; list_remove() leaves it so.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define container_of(ptr, type, member)                                                  \
    __extension__({                                                                      \
        const __typeof__(((type *) 0)->member) *container_of_ = (ptr);                   \
        (type *) (void *) ((char *) (uintptr_t) container_of_ - offsetof(type, member)); \
    })

struct list {
    struct list *next;
    struct list *prev;
};

#define LIST_INIT(l) \
    {                \
        &(l), &(l)   \
    }

static inline void list_init(struct list *list)
{
    list->next = list->prev = list;
}

static inline bool list_is_empty(const struct list *list)
{
    return list->next == list;
}

static inline void list_append(struct list *list, struct list *node)
{
    node->prev = list->prev;
    node->next = list;
    list->prev->next = node;
    list->prev = node;
}

static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

#define list_each(pos, head) for (struct list *pos = (head)->next; pos != (head); pos = pos->next)

/* The body may remove `pos`. */
#define list_each_safe(pos, head)                                                 \
    for (struct list *pos = (head)->next, *pos##_next = pos->next; pos != (head); \
         pos = pos##_next, pos##_next = pos->next)
