/*
 * Programs that a preload shim cannot reach (kind.h): static ones, those that gain rights when they are executed, those
 * executed without LD_PRELOAD, and Go's. Called by exec.c and app.c under LDP_DEBUG only, in the thread that executes.
 *
 * A file tells by its ELF program headers: no PT_INTERP means that no loader runs (the loader itself is such a file,
 * too, but loads us). Go's linker leaves a PT_NOTE with the name "Go" (its build id). A script is judged by its
 * interpreter. elf(5), ld.so(8).
 */
#include "kind.h"

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KIND_SCRIPTS 4 /* interpreters that are scripts themselves */
#define KIND_HEADERS 64
#define KIND_LINE    256

/* The first file of that name in PATH that may be executed; false: none. */
static bool kind_search(const char *name, char *path, size_t room) {
  const char *list = getenv("PATH");
  if (strchr(name, '/'))
    return snprintf(path, room, "%s", name) < (int)room;
  if (!list)
    list = "/bin:/usr/bin";
  for (;;) {
    size_t len = strcspn(list, ":");
    int n = snprintf(path, room, "%.*s%s%s", (int)len, list, len > 0 ? "/" : "", name);
    if (n > 0 && (size_t)n < room && access(path, X_OK) == 0)
      return true;
    if (list[len] == '\0')
      return false;
    list += len + 1;
  }
}

static bool kind_has_interp(int fd, const ElfW(Ehdr) * eh) {
  ElfW(Phdr) ph;
  for (unsigned i = 0; i < eh->e_phnum && i < KIND_HEADERS; i++) {
    if (pread(fd, &ph, sizeof(ph), (off_t)(eh->e_phoff + i * sizeof(ph))) != (ssize_t)sizeof(ph))
      return true; /* broken: nothing to tell */
    if (ph.p_type == PT_INTERP)
      return true;
  }
  return false;
}

static bool kind_gains_rights(int fd) {
  struct stat st;
  if (fstat(fd, &st) < 0)
    return false;
  return ((st.st_mode & S_ISUID) && st.st_uid != geteuid()) || ((st.st_mode & S_ISGID) && st.st_gid != getegid());
}

/* "#! /path argument": the path into `path`. */
static bool kind_script(const char *line, char *path, size_t room) {
  if (line[0] != '#' || line[1] != '!')
    return false;
  line += 2;
  line += strspn(line, " \t");
  size_t len = strcspn(line, " \t\n");
  if (len == 0 || len >= room)
    return false;
  memcpy(path, line, len);
  path[len] = '\0';
  return true;
}

/* `next`: the interpreter to look at, or empty. */
static const char *kind_of_file(int fd, char *next, size_t room) {
  union {
    ElfW(Ehdr) eh;
    char line[KIND_LINE + 1];
  } head;
  memset(&head, 0, sizeof(head));
  next[0] = '\0';
  if (pread(fd, &head, KIND_LINE, 0) < (ssize_t)sizeof(head.eh) && head.line[0] != '#')
    return NULL;
  if (kind_script(head.line, next, room))
    return NULL;
  if (memcmp(head.eh.e_ident, ELFMAG, SELFMAG) != 0 || head.eh.e_phentsize != sizeof(ElfW(Phdr)))
    return NULL;
  if (kind_gains_rights(fd))
    return "it gains rights, so the loader leaves LD_PRELOAD out";
  return kind_has_interp(fd, &head.eh) ? NULL : "it is static, so no loader runs";
}

static bool kind_env_has(char *const env[], const char *name) {
  size_t len = strlen(name);
  for (; env && *env; env++)
    if (strncmp(*env, name, len) == 0 && (*env)[len] == '=' && (*env)[len + 1] != '\0')
      return true;
  return false;
}

const char *kind_unpreloaded(const char *path, int fd, bool search, char *const env[]) {
  char now[PATH_MAX], next[PATH_MAX];
  if (!kind_env_has(env, "LD_PRELOAD"))
    return "its environment has no LD_PRELOAD";
  if (!path)
    return kind_of_file(fd, next, sizeof(next));
  if (search ? !kind_search(path, now, sizeof(now)) : snprintf(now, sizeof(now), "%s", path) >= (int)sizeof(now))
    return NULL;
  for (int i = 0; i <= KIND_SCRIPTS; i++) {
    const char *base = strrchr(now, '/');
    int file = open(now, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (file < 0)
      return NULL;
    const char *why = kind_of_file(file, next, sizeof(next));
    close(file);
    if (why && strncmp(base ? base + 1 : now, "ld-", 3) == 0) /* the loader by name: it loads us */
      return NULL;
    if (why || next[0] == '\0')
      return why;
    memcpy(now, next, sizeof(now));
  }
  return NULL;
}

/* dl_iterate_phdr: the first object is the program. */
static int kind_look(struct dl_phdr_info *info, size_t size, void *ctx) {
  bool *go = ctx;
  (void)size;
  for (unsigned i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
    if (ph->p_type != PT_NOTE || ph->p_memsz < sizeof(ElfW(Nhdr)) + 4)
      continue;
    const char *note = (const char *)(info->dlpi_addr + ph->p_vaddr);
    ElfW(Nhdr) nh;
    memcpy(&nh, note, sizeof(nh));
    *go = *go || (nh.n_namesz == 4 && memcmp(note + sizeof(nh), "Go\0", 4) == 0);
  }
  return 1;
}

bool kind_is_go(void) {
  bool go = false;
  (void)dl_iterate_phdr(kind_look, &go);
  return go;
}
