/*
 * Intrusive doubly linked list. A head and a link are the same struct; an element embeds a `struct list` and is found
 * again by container_of. Private memory only (it holds pointers). Not thread-safe.
 *
 * A link that was zero-filled or deleted by list_del is "not linked"; a head needs list_init.
 */
#ifndef HS_BASE_LIST_H
#define HS_BASE_LIST_H

#include <stddef.h>

struct list {
  struct list *next;
  struct list *prev;
};

#ifndef container_of
/** The struct that embeds `member` at ptr. */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#endif

static inline void list_init(struct list *head) {
  head->next = head->prev = head;
}

static inline int list_empty(const struct list *head) {
  return head->next == head;
}

/** Whether an element is in some list; only for links, not for heads. */
static inline int list_linked(const struct list *link) {
  return link->next != NULL;
}

static inline void list_insert_(struct list *link, struct list *prev, struct list *next) {
  link->prev = prev;
  link->next = next;
  prev->next = link;
  next->prev = link;
}

static inline void list_add_tail(struct list *head, struct list *link) {
  list_insert_(link, head->prev, head);
}
static inline void list_add_head(struct list *head, struct list *link) {
  list_insert_(link, head, head->next);
}
/** Puts link directly before or after `at`, an element or a head. */
static inline void list_add_before(struct list *at, struct list *link) {
  list_insert_(link, at->prev, at);
}
static inline void list_add_after(struct list *at, struct list *link) {
  list_insert_(link, at, at->next);
}

/** Takes an element out of its list; nothing happens if it is in none. */
static inline void list_del(struct list *link) {
  if (link->next == NULL)
    return;
  link->prev->next = link->next;
  link->next->prev = link->prev;
  link->next = link->prev = NULL;
}

/** First or last element's link, NULL if the list is empty. */
static inline struct list *list_first(const struct list *head) {
  return list_empty(head) ? NULL : head->next;
}
static inline struct list *list_last(const struct list *head) {
  return list_empty(head) ? NULL : head->prev;
}

/** Takes the first element out and returns its link, NULL if the list is empty. */
static inline struct list *list_pop_head(struct list *head) {
  struct list *link = list_first(head);
  if (link != NULL)
    list_del(link);
  return link;
}

/** Moves all elements of `from` to the tail of `to`; `from` is empty then. */
static inline void list_splice_tail(struct list *to, struct list *from) {
  if (list_empty(from))
    return;
  from->next->prev = to->prev;
  to->prev->next = from->next;
  from->prev->next = to;
  to->prev = from->prev;
  list_init(from);
}

/** Walks links; the body must not delete `pos` unless it uses the safe form, which lets it delete `pos` alone. */
#define list_for_each(pos, head) for ((pos) = (head)->next; (pos) != (head); (pos) = (pos)->next)
#define list_for_each_safe(pos, tmp, head)                                                                             \
  for ((pos) = (head)->next, (tmp) = (pos)->next; (pos) != (head); (pos) = (tmp), (tmp) = (pos)->next)

#define list_entry(link, type, member) container_of(link, type, member)

#endif
