/* A web page has no terminal. */
#pragma once

enum { NCCS = 2, VINTR = 0, VEOL = 1, TCSANOW = 0 };
struct termios { unsigned char c_cc[NCCS]; };

static inline int tcgetattr(int descriptor, struct termios *t) {
    (void)descriptor; (void)t; return -1;
}
static inline int tcsetattr(int descriptor, int when, const struct termios *t) {
    (void)descriptor; (void)when; (void)t; return -1;
}
