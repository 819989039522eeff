/* The parts of POSIX that qwen.c uses and mingw-w64 has not, or has without UTF-8. The compiler
 * reads this before qwen.c; posix.c holds the functions. */
#pragma once
#define _FILE_OFFSET_BITS 64
#define __USE_MINGW_ANSI_STDIO 1        // %zu
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define main program_main               // posix.c has Windows' main, which calls it

/* Files: names in UTF-8, bytes as they are, identities of 64 bits. */
#undef stat
#undef fstat
#define stat posix_stat
#define fstat posix_fstat
#define open posix_open
#define rename posix_rename
#define unlink posix_unlink
#define dev_t uint64_t
#define ino_t uint64_t
#define fcntl(file, command) ((void)(file), (void)(command), 0)
enum { O_NONBLOCK = 0, F_GETFD = 1 };
struct posix_stat { uint64_t st_dev, st_ino; int64_t st_size; unsigned st_mode; };
int posix_stat(const char *path, struct posix_stat *status);
int posix_fstat(int file, struct posix_stat *status);
int posix_open(const char *path, int flags, ...);
int posix_rename(const char *from, const char *to);
int posix_unlink(const char *path);

/* The console. Ctrl-C ends a line that is being typed, with the byte 3. */
#define isatty posix_isatty
#define read posix_read
#define fflush posix_fflush
enum { VINTR, VEOL, NCCS, TCSANOW = 0, _POSIX_VDISABLE = 0, TIOCGWINSZ = 0 };
struct termios { unsigned char c_cc[NCCS]; };
struct winsize { unsigned short ws_col; };
int posix_isatty(int file);
ssize_t posix_read(int file, void *data, size_t n);
int posix_fflush(FILE *stream);
int ioctl(int file, int request, struct winsize *window);
static inline int tcgetattr(int file, struct termios *t) { (void)file; (void)t; return 0; }
static inline int tcsetattr(int file, int when, const struct termios *t) {
    (void)file; (void)when; (void)t; return 0;
}

/* Signals: Ctrl-C, a console that is closed, and a mapped file that cannot be read any more. */
#define signal posix_signal
enum { SIGHUP = 1, SIGQUIT = 3, SIGBUS = 7, SIGPIPE = 13, SIGXFSZ = 25 };
enum { SIG_BLOCK, SIG_SETMASK };
#define sigset_t uint64_t
void posix_signal(int number, void (*handler)(int));
static inline int sigfillset(sigset_t *set) { *set = 0; return 0; }
static inline int sigprocmask(int how, const sigset_t *set, sigset_t *before) {
    (void)how; (void)set; (void)before; return 0;
}

/* Memory. What is reserved takes no space until it is used. */
enum { PROT_READ = 1, PROT_WRITE = 2 };
enum { MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_ANONYMOUS = 4, MAP_NORESERVE = 8 };
#define MAP_FAILED ((void *)-1)
enum { _SC_PAGESIZE, _SC_PHYS_PAGES, _SC_NPROCESSORS_ONLN };
void *mmap(void *at, size_t size, int protection, int flags, int file, off_t begin);
long sysconf(int name);
