/* What wasi-libc leaves out of its own headers. The compiler reads this before qwen.c. A page has
 * no disk, so that --quantize and --logits end with an error. */
#pragma once
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static inline mode_t umask(mode_t mask) { return mask; }
static inline int mkstemp(char *name) { (void)name; errno = EROFS; return -1; }
static inline int fchmod(int file, mode_t mode) { (void)file; (void)mode; return -1; }

/* One processor, and 65,536 pages of 65,536 bytes: all that 32 bits can address. */
static inline long system_value(int name) { return name == _SC_NPROCESSORS_ONLN ? 1 : 65536; }
#define sysconf system_value
