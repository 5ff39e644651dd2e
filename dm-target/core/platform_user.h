/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's types, lists and helpers that core/ uses, for user space. Only
 * platform.h includes this file. Behaves as the kernel's of the same name.
 */
#ifndef COW_PLATFORM_USER_H
#define COW_PLATFORM_USER_H

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

#define le16_to_cpu(x) le16toh(x)
#define le32_to_cpu(x) le32toh(x)
#define le64_to_cpu(x) le64toh(x)
#define cpu_to_le16(x) htole16(x)
#define cpu_to_le32(x) htole32(x)
#define cpu_to_le64(x) htole64(x)

#define BUILD_BUG_ON(condition) ((void)sizeof(char[1 - 2 * !!(condition)]))
#define WARN_ON_ONCE(condition) ({ bool warn_ = (condition); assert(!warn_); warn_; })
#ifndef __cplusplus /* where they would break std::min and std::max, and other headers */
#define noinline __attribute__((__noinline__))
#define min(a, b) ({ __typeof__(a) a_ = (a); __typeof__(b) b_ = (b); a_ < b_ ? a_ : b_; })
#define max(a, b) ({ __typeof__(a) a_ = (a); __typeof__(b) b_ = (b); a_ > b_ ? a_ : b_; })
#define max3(a, b, c) max(max((a), (__typeof__(a))(b)), (__typeof__(a))(c))
#define swap(a, b) do { __typeof__(a) swap_ = (a); (a) = (b); (b) = swap_; } while (0)
#define min_t(type, a, b) min((type)(a), (type)(b))
#define max_t(type, a, b) max((type)(a), (type)(b))
#endif
#define DIV_ROUND_UP(n, d) (((n) + (d)-1) / (d))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define hweight16(x) ((unsigned int)__builtin_popcount((u16)(x)))
#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))
#define READ_ONCE(x) (*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, value) (*(volatile __typeof__(x) *)&(x) = (value))
#define smp_store_release(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
#define smp_load_acquire(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)

static inline u32 hash_64(u64 value, unsigned int bits)
{
	return (u32)((value * 0x61C8864680B583EBull) >> (64 - bits));
}

struct list_head {
	struct list_head *next, *prev;
};

static inline void INIT_LIST_HEAD(struct list_head *list)
{
	list->next = list;
	list->prev = list;
}

static inline void list_add(struct list_head *entry, struct list_head *head)
{
	entry->next = head->next;
	entry->prev = head;
	head->next->prev = entry;
	head->next = entry;
}

static inline void list_add_tail(struct list_head *entry, struct list_head *head)
{
	list_add(entry, head->prev);
}

static inline void list_del_init(struct list_head *entry)
{
	entry->prev->next = entry->next;
	entry->next->prev = entry->prev;
	INIT_LIST_HEAD(entry);
}

static inline void list_del(struct list_head *entry)
{
	list_del_init(entry);
}

static inline bool list_empty(const struct list_head *head)
{
	return head->next == head;
}

static inline bool list_is_singular(const struct list_head *head)
{
	return !list_empty(head) && head->next == head->prev;
}

static inline void list_move_tail(struct list_head *entry, struct list_head *head)
{
	list_del_init(entry);
	list_add_tail(entry, head);
}

static inline void list_splice_tail_init(struct list_head *list, struct list_head *head)
{
	if (list_empty(list))
		return;
	list->next->prev = head->prev;
	head->prev->next = list->next;
	list->prev->next = head;
	head->prev = list->prev;
	INIT_LIST_HEAD(list);
}

#define list_entry(p, type, member) container_of(p, type, member)
#define list_first_entry(head, type, member) list_entry((head)->next, type, member)
#define list_last_entry(head, type, member) list_entry((head)->prev, type, member)
#define list_next_entry(p, member) list_entry((p)->member.next, __typeof__(*(p)), member)
#define list_prev_entry(p, member) list_entry((p)->member.prev, __typeof__(*(p)), member)
#define list_entry_is_head(p, head, member) (&(p)->member == (head))
#define list_for_each_entry(p, head, member)                                             \
	for (p = list_first_entry(head, __typeof__(*p), member); &p->member != (head);   \
	     p = list_next_entry(p, member))
#define list_for_each_entry_reverse(p, head, member)                                     \
	for (p = list_last_entry(head, __typeof__(*p), member); &p->member != (head);    \
	     p = list_prev_entry(p, member))
#define list_for_each_entry_safe(p, n, head, member)                                     \
	for (p = list_first_entry(head, __typeof__(*p), member),                         \
	    n = list_next_entry(p, member);                                              \
	     &p->member != (head); p = n, n = list_next_entry(n, member))

/* As the kernel's: always terminated; the length or -E2BIG. */
static inline int strscpy(char *to, const char *from, size_t bytes)
{
	size_t length = strlen(from);

	if (!bytes)
		return -E2BIG;
	if (length >= bytes) {
		memcpy(to, from, bytes - 1);
		to[bytes - 1] = 0;
		return -E2BIG;
	}
	memcpy(to, from, length + 1);
	return (int)length;
}

/* As the kernel's; @swap is not needed here. */
static inline void sort(void *base, size_t count, size_t size,
			int (*compare)(const void *, const void *), void *swap)
{
	(void)swap;
	qsort(base, count, size, compare);
}

u32 cow_crc32c(u32 crc, const void *data, size_t bytes);

/* For tests: when this is set, memory is had only if it says so. */
extern bool (*cow_alloc_allowed)(size_t bytes);

static inline void *cow_alloc(size_t bytes)
{
	if (cow_alloc_allowed && !cow_alloc_allowed(bytes))
		return NULL;
	return calloc(1, bytes ? bytes : 1);
}

static inline bool cow_memory_short(void)
{
	return false;
}

static inline void cond_resched(void)
{
}

static inline void cow_free(const void *p)
{
	free((void *)(uintptr_t)p);
}

#endif
