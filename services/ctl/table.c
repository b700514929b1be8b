/*
 * Text tables: columns as wide as their widest cell, two spaces between.
 */
#include "hsctl.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const char *table_plain(char *buf, size_t size, const char *text) {
  size_t n = 0;
  for (; text && text[n] && n + 1 < size; n++)
    buf[n] = (unsigned char)text[n] < 0x20 || text[n] == 0x7f ? '?' : text[n];
  buf[n] = '\0';
  return buf;
}

void table_row(struct table *t, size_t columns, ...) {
  va_list ap;
  t->columns = columns;
  if (t->n + columns > t->cap) {
    t->cap = (t->n + columns) * 2;
    t->cell = realloc(t->cell, t->cap * sizeof *t->cell);
    if (!t->cell)
      abort();
  }
  va_start(ap, columns);
  for (size_t i = 0; i < columns; i++) {
    const char *text = va_arg(ap, const char *);
    char plain[256];
    t->cell[t->n++] = strdup(text && *text ? table_plain(plain, sizeof plain, text) : "-");
  }
  va_end(ap);
}

void table_print(struct table *t, FILE *f) {
  size_t width[32] = {0};
  for (size_t i = 0; i < t->n; i++)
    if (strlen(t->cell[i]) > width[i % t->columns])
      width[i % t->columns] = strlen(t->cell[i]);
  for (size_t i = 0; i < t->n; i++) {
    int last = (i + 1) % t->columns == 0;
    fprintf(f, "%-*s%s", last ? 0 : (int)width[i % t->columns], t->cell[i], last ? "\n" : "  ");
    free(t->cell[i]);
  }
  free(t->cell);
  *t = (struct table){0};
}
