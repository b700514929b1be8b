/*
 * The table of configuration keys and what the parts of config_*.c share. Not for services: they see struct config.
 */
#ifndef HS_SVC_CONFIG_KEYS_H
#define HS_SVC_CONFIG_KEYS_H

#include "svc/config.h"

enum config_type {
  CONFIG_STR,    /* text; lo and hi are its length */
  CONFIG_PATH,   /* absolute path; length */
  CONFIG_CHOICE, /* one word of `words`; stored as its number (int) or, if stored in a text field, as the word */
  CONFIG_BOOL,
  CONFIG_U32,
  CONFIG_U64,
  CONFIG_SIZE, /* number with k, M, G: factors of 1024 */
  CONFIG_INT,
  CONFIG_PERCENT,
  CONFIG_RATE, /* bit/s with k, M, G: factors of 1000 */
  CONFIG_OCTAL,
  CONFIG_MAC,
  CONFIG_IP,     /* address; struct config_route.via */
  CONFIG_PREFIX, /* address/length of config_addr or config_route */
  CONFIG_URL,
  CONFIG_NETS, /* address or address/length, or a list of them; struct config_ns.net */
};

#define CONFIG_POW2     0x1u /* a power of two */
#define CONFIG_MIB      0x2u /* a multiple of 1 MiB */
#define CONFIG_REQUIRED 0x4u /* of a list element: must be there */
#define CONFIG_OR_ZERO  0x8u /* 0 is allowed besides lo … hi */

struct config_key {
  const char *path; /* "engine.tcp.rto-min-ms", "nicio.interfaces[].name" */
  enum config_type type;
  const char *unit; /* of the number, or "" */
  uint64_t lo, hi;
  const char *def;   /* as it would be written in the file */
  uint32_t off;      /* in struct config, or in the element's struct */
  uint32_t size;     /* of the field */
  unsigned flags;    /* CONFIG_POW2 … */
  const char *words; /* of a choice: "a b c" in order of their numbers from `lo` on */
  const char *help;
};

/** A list in the file = an array in struct config. */
struct config_list {
  const char *path;
  uint32_t off, elem_size, count_off, max;
};

#define CONFIG_ELEMS_MAX 64

extern const struct config_key config_keys[];
extern const uint32_t config_n_keys;
extern const struct config_list config_lists[];
extern const uint32_t config_n_lists;

/** Index of a key, or -1. */
int config_key_find(const char *path);

/** Where errors go, and on which line each key was found. */
struct config_ctx {
  struct config *cfg;
  const char *file;
  char *err;
  size_t err_len, err_used;
  uint32_t n_err;
  uint32_t *key_line;                      /* [config_n_keys][CONFIG_ELEMS_MAX]; 0 = not in the file */
  uint32_t list_line[8][CONFIG_ELEMS_MAX]; /* first line of an element */
};
#define CONFIG_ERRORS_MAX 20

/** One error line: "FILE:LINE: KEY: found FOUND, allowed ALLOWED". */
void config_error(struct config_ctx *cx, uint32_t line, const char *key, const char *found, const char *allowed);
/** Line of a key in element `elem` (0 outside lists), or of the element itself if the key is not there. */
uint32_t config_line(const struct config_ctx *cx, const char *path, uint32_t elem);

/** Parse one scalar into the field. 0 or -EINVAL. */
int config_value_set(const struct config_key *k, void *base, const char *text);
/** A byte count as one would write it: 4M, 64k, 100. Returns buf. */
const char *config_size_text(uint64_t v, char *buf, size_t len);
/** Word number `n` of a choice; "?" for another number. Returns buf. */
const char *config_choice_text(const struct config_key *k, int n, char *buf, size_t len);
/** What is allowed, for messages and docs. */
const char *config_value_allowed(const struct config_key *k, char *buf, size_t len);

/** What is said of VRFs; routes get that of their interface. Before config_check's other checks. */
void config_vrf_check(struct config_ctx *cx);
/** Checks that need more than one key. Errors go to cx. */
void config_check(struct config_ctx *cx);

#endif
