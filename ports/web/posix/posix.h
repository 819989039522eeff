/* What wasi-libc leaves out of its own headers. The compiler reads this before qwen.c. A page has
 * no disk, so that --quantize and --logits end with an error. */
#pragma once
#include <unistd.h>

/* One processor, and 65,536 pages of 65,536 bytes: all that 32 bits can address. */
static inline long page_sysconf(int name) { return name == _SC_NPROCESSORS_ONLN ? 1 : 65536; }
#define sysconf page_sysconf
#define getpid() 1
