/* tokenizer.c: text <-> token ids, the byte-level BPE of Qwen.
 *
 * qwen.c includes this file. Compiled by itself it is a program. Read it from the top: text,
 * errors, memory, input and output; the file, a .bin's header byte by byte; the tokenizer, its
 * section of the file array by array; then the way from a text to ids: characters, NFC (one
 * spelling for each text), split (into words), BPE (merges a word's bytes to tokens), encode.
 */
#define _GNU_SOURCE                 // qwen.c needs mmap's MAP_NORESERVE, and sched_getaffinity
#define _DARWIN_C_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* -- Text ----------------------------------------------------------------------------------- */
typedef struct { const char *data; size_t n; } Bytes;       // a text, or what is left of it

static Bytes bytes_of(const char *string) { return (Bytes){ string, strlen(string) }; }

/* Bytes are BAD if they are no UTF-8. They are CUT if more bytes could still make a character. */
typedef enum { UTF8_VALID, UTF8_BAD, UTF8_CUT } Utf8;
typedef struct { uint32_t code; Utf8 kind; const char *bytes; size_t size; } Char;

/* Takes the first character off a text. Returns false if there is none. Invalid UTF-8 gives U+FFFD,
 * one for a truncated character and one for any other bad byte, as in Python's errors="replace". */
static bool next_char(Bytes *text, Char *c) {
    const unsigned char *s = (const unsigned char *)text->data;
    size_t n = text->n, i = 1;
    if (n == 0) return false;
    size_t length = s[0] < 0x80 ? 1 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    if ((s[0] >= 0x80 && s[0] < 0xC2) || s[0] > 0xF4) length = 0;           // begins no character
    // Limits of the second byte exclude overlong forms, surrogates and what is past U+10FFFF.
    unsigned char low = s[0] == 0xE0 ? 0xA0 : s[0] == 0xF0 ? 0x90 : 0x80;
    unsigned char high = s[0] == 0xED ? 0x9F : s[0] == 0xF4 ? 0x8F : 0xBF;
    uint32_t code = length == 1 ? s[0] : s[0] & (0x7Fu >> length);
    while (i < length && i < n && s[i] >= (i == 1 ? low : 0x80) && s[i] <= (i == 1 ? high : 0xBF))
        code = code << 6 | (s[i++] & 0x3Fu);
    Utf8 kind = i == length ? UTF8_VALID : i < length && i == n ? UTF8_CUT : UTF8_BAD;
    *c = (Char){ kind == UTF8_VALID ? code : 0xFFFD, kind, text->data, i };
    *text = (Bytes){ text->data + i, n - i };
    return true;
}

/* Writes c to s[4] and returns how many bytes it takes. */
static size_t utf8_encode(unsigned char *s, uint32_t c) {
    size_t length = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--, c >>= 6) s[i] = (unsigned char)(0x80 | (c & 0x3F));
    s[0] = (unsigned char)(length == 1 ? c : 0xF00 >> length | c);
    return length;
}

/* Whether a terminal may obey c: controls, line separators, marks that turn a text's direction. */
static bool is_control(uint32_t c) {
    return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x61C || c == 0x200E || c == 0x200F
        || (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

/* Makes a message fit to be shown, in place, and ends its line. Names of files and flags may hold
 * any bytes: a question mark replaces what a terminal may obey, and what is no UTF-8. */
static void end_line(char *line) {
    Bytes rest = bytes_of(line);
    unsigned char *end = (unsigned char *)line;
    for (Char c; next_char(&rest, &c); )
        end += utf8_encode(end, c.kind != UTF8_VALID || is_control(c.code) ? '?' : c.code);
    memcpy(end, "\n", 2);
}

/* -- Errors and memory ---------------------------------------------------------------------- */
static const char *program = "tokenizer";   // error lines begin with it
static char *unfinished;                    // the path of a file that is being written, or NULL

/* Ends the program with one line on standard error: what is wrong: where: what to do. */
static _Noreturn void die(int status, const char *format, ...) {
    char line[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    end_line(line);
    fprintf(stderr, "%s: %s", program, line);
    exit(status);
}

static void remove_unfinished(void) { if (unfinished) unlink(unfinished); }  // for signals, too

/* Makes room in an array, which may move, for at least `needed` elements of a size. */
static void *grow(void *array, size_t *capacity, size_t needed, size_t size) {
    if (needed <= *capacity) return array;
    if (needed > SIZE_MAX / size / 2 || !(array = realloc(array, 2 * needed * size)))
        die(1, "out of memory: %zu times %zu bytes: use a shorter text", needed, size);
    *capacity = 2 * needed;
    return array;
}

typedef struct { int *id; size_t n, capacity; } Ids;        // token ids
typedef struct { char *data; size_t n, capacity; } Text;    // bytes

static void push_id(Ids *ids, int id) {
    ids->id = grow(ids->id, &ids->capacity, ids->n + 1, sizeof *ids->id);
    ids->id[ids->n++] = id;
}

static void push_bytes(Text *text, const void *bytes, size_t n) {
    text->data = grow(text->data, &text->capacity, text->n + n, 1);
    if (n > 0) memcpy(text->data + text->n, bytes, n);
    text->n += n;
}

/* -- Input and output ----------------------------------------------------------------------- */
/* Flushes standard output. A closed pipe ends the program quietly, unless a file is unfinished. */
static void flush_output(void) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return;
    if (errno == EPIPE && !unfinished) exit(0);
    die(1, "cannot write: standard output: %s", strerror(errno));
}

/* Reads standard input to its end. */
static Text read_input(void) {
    Text text = { 0 };
    char buffer[65536];
    while (!feof(stdin) && !ferror(stdin))
        push_bytes(&text, buffer, fread(buffer, 1, sizeof buffer, stdin));
    if (ferror(stdin)) die(1, "cannot read: standard input: %s", strerror(errno));
    return text;
}

/* Appends the ids that are written in a text. The text belongs to `flag`, which errors name. */
static void read_ids(const char *text, const char *flag, uint32_t vocab_size, Ids *ids) {
    static const char space[] = " \t\r\n";
    for (text += strspn(text, space); *text; text += strspn(text, space)) {
        size_t length = strcspn(text, space);
        unsigned long id = strtoul(text, NULL, 10);
        if (strspn(text, "0123456789") != length || id >= vocab_size)
            die(2, "not a token id from 0 to %u: %s %.*s: see --help",
                vocab_size - 1, flag, (int)length, text);
        push_id(ids, (int)id);
        text += length;
    }
}

/* -- The file ------------------------------------------------------------------------------
 *
 * A .bin is this header, the tokenizer section (described at Tokenizer) and the weights (described
 * in qwen.c). Numbers are little-endian. The tokenizer section begins where the header ends, the
 * weights at the next multiple of 64 after it. Unused bytes are zero. */

typedef struct {
    char magic[8];                          //    0  "qwen.c\n" and a NUL
    uint32_t version, header_size;          //    8  2, 1152
    uint64_t file_size;                     //   16  bytes of the whole file
    uint64_t tokenizer_offset, tokenizer_size;          // 24  1152, and its bytes
    uint64_t weights_offset, weights_size;  //   40  they end where the file ends
    int32_t weight_type, group_size;        //   56  0: bf16, 0; 1: int8, 64 columns to a scale
    int32_t dim, hidden_dim, n_layers;      //   64  width of the model, of its MLP
    int32_t n_heads, n_kv_heads, head_dim;  //   76  query heads; key/value heads; size of a head
    int32_t vocab_size, max_positions;      //   88  rows of the embedding; longest context
    int32_t tied;                           //   96  1: the embedding is the output matrix, too
    float rms_eps;                          //  100
    double rope_theta;                      //  104
    int32_t qkv_bias, qk_norm;              //  112  1: q, k, v have biases; 1: heads of q, k a norm
    int32_t kind, chatml;                   //  120  0: base, 1: chat; 1: chats are framed as ChatML
    int32_t opening;                        //  128  what opens an answer. 0: nothing,
                                            //       1: <|im_start|>assistant\n, 2: and <think>\n
    int32_t cuts_reasoning;                 //  132  1: earlier answers keep what follows </think>
    int32_t im_start, im_end, endoftext;    //  136  token ids
    int32_t tokenizer_eos;                  //  148  the tokenizer's own eos token, or 0xFFFFFFFF
    int32_t max_new_tokens, do_sample;      //  152  length of an answer, or 0; 1: sample, 0: greedy
    float temperature;                      //  160
    int32_t top_k;                          //  164  0: off
    float top_p, min_p, repetition_penalty; //  168
    int32_t n_eos, eos[32];                 //  180  token ids that end a generation
    int32_t system_size;                    //  312  bytes of the default system message
    char name[64], system[768];             //  316, 380  UTF-8; only the name ends in a NUL
} Header;                                   // 1148  and 4 bytes of padding
_Static_assert(sizeof(Header) == 1152, "the header is 1,152 bytes");
enum { BASE, CHAT };                                        // values of kind
enum { OPENS_NOTHING, OPENS_ANSWER, OPENS_THINKING };       // values of opening

typedef struct {
    const char *path;
    const unsigned char *data;              // [size], mapped read-only
    size_t size;
    dev_t device;                           // with the inode: the same file under any name
    ino_t inode;
    const Header *header;                   // a copy, with the tokenizer section behind it
} File;

/* A mapped page that is gone from its file raises SIGBUS: one line instead of a crash. */
static char bus_line[1024];
static void on_bus_error(int number) {
    (void)number;
    remove_unfinished();
    if (write(STDERR_FILENO, bus_line, strlen(bus_line)) < 0) { /* nobody reads it */ }
    _exit(1);
}

/* Refuses a file that is not a whole .bin of this version. */
static void check_file(const File *file) {
    const Header *h = file->header;
    if (file->size >= 23 && memcmp(file->data, "version https://git-lfs", 23) == 0)
        die(1, "a Git LFS pointer instead of the file: %s: run git lfs pull", file->path);
    if (file->size < 16 || memcmp(h->magic, "qwen.c\n", sizeof h->magic) != 0)
        die(1, "not a model of this program: %s: make one with export.py", file->path);
    if (*(const unsigned char *)&(uint16_t){ 1 } != 1)
        die(1, "this machine is not little-endian: %s: use another machine", file->path);
    if (h->version != 2 || h->header_size != sizeof *h)
        die(1, "version %u of the format, this program reads version 2: %s: export it again",
            h->version, file->path);
    if (file->size < sizeof *h || h->file_size != file->size)
        die(1, "%zu bytes, its header says %llu: %s: copy it again, or make it with export.py",
            file->size, file->size < 24 ? 0 : (unsigned long long)h->file_size, file->path);
    if (h->tokenizer_offset != sizeof *h || h->tokenizer_size > file->size
        || h->weights_offset != (sizeof *h + h->tokenizer_size + 63) / 64 * 64
        || h->weights_offset > file->size || h->weights_size != file->size - h->weights_offset)
        die(1, "the header's offsets do not fit the file: %s: export it again", file->path);
}

/* Maps PATH: the kernel reads a page when it is used. Dies unless it is a whole .bin. */
static File map_file(const char *path) {
    static const char *other = "";          // a file that was mapped before
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_NONBLOCK);     // a pipe would wait for a writer
    if (descriptor < 0 || fstat(descriptor, &status) != 0)
        die(1, "cannot open: %s: %s", path, strerror(errno));
    if (S_ISDIR(status.st_mode)) die(1, "a directory: %s: make a .bin of it with export.py", path);
    if (!S_ISREG(status.st_mode)) die(1, "not a regular file: %s: name a file on disk", path);
    if (status.st_size == 0) die(1, "an empty file: %s: export it again", path);
    if ((uintmax_t)status.st_size > SIZE_MAX)
        die(1, "larger than the address space: %s: use a 64-bit machine", path);
    size_t size = (size_t)status.st_size;
    const void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, descriptor, 0);
    if (map == MAP_FAILED) die(1, "cannot map: %s: %s", path, strerror(errno));
    close(descriptor);
    snprintf(bus_line, sizeof bus_line - 1, "%s: a file changed while it was read: %.400s%s%.400s: "
             "copy it again", program, other, *other ? " or " : "", path);
    end_line(bus_line);
    signal(SIGBUS, on_bus_error);
    other = path;
    File file = { path, map, size, status.st_dev, status.st_ino, map };
    check_file(&file);
    // A copy: these offsets and ids were checked, and must not change if the file is overwritten.
    Header *front = malloc(file.header->weights_offset);
    if (!front) die(1, "out of memory: %s: close other programs", path);
    memcpy(front, map, file.header->weights_offset);
    file.header = front;
    return file;
}

/* -- The tokenizer -------------------------------------------------------------------------
 *
 * Its section begins with the first 64 bytes of Tokenizer, to `zeros`. The arrays follow in the
 * order of Tokenizer, each at a multiple of 64 from the section's beginning. The last one ends it.
 *
 * Token i is bytes[token_start[i] .. token_start[i + 1]], real bytes and not GPT-2's stand-ins. An
 * id without a token has none. byte_id[b] is the token of byte b alone. */

/* The tokens left and right merge to id, the lowest rank first. A pair's slot in the hash table is
 * (left * 0x9E3779B1 + right) * 0x85EBCA6B mod 2^32 * n_slots / 2^32. If it is taken, the pair is
 * in the next free slot; slot 0 follows the last (linear probing). In an empty slot id is NONE. */
typedef struct { uint32_t left, right, rank, id; } Merge;
typedef struct { uint32_t first, second, composed; } Pair;  // composed = first + second in NFC

#define NONE UINT32_MAX
#define SPECIAL 0x80000000u                 // bit of `added`: plain text where encode is told so
#define NORMALIZED 0x40000000u              // bit of `added`: looked for in the normalised text
#define ADDED_ID 0x3FFFFFFFu                // the other bits
#define ADDED 0x110000u                     // past Unicode: in a text, ADDED + k is added[k]

typedef struct {
    uint32_t n_vocab, n_added, n_slots, n_blocks, n_decompositions, n_compositions, n_bytes, zero;
    char unicode_version[16];               // of the tables, NUL-padded
    uint32_t zeros[4];
    const uint32_t *byte_id;                // [256]
    const uint32_t *token_start;            // [n_vocab + 1]
    const uint32_t *added;                  // [n_added], longest text first
    const Merge *merges;                    // [n_slots], a hash table; n_slots is a power of 2
    const uint16_t *block;                  // [0x110000 / 256], see char_properties
    const uint16_t *chars;                  // [n_blocks][256]
    const Pair *decompositions;             // [n_decompositions], by composed; second may be 0
    const Pair *compositions;               // [n_compositions], by first, then second
    const char *bytes;                      // [n_bytes]
    bool begins_added[129];                 // by the first character; 128: any past ASCII
} Tokenizer;

/* Returns the array that follows `end` in the section, count elements of a size, and moves `end` to
 * its end. Counts are below 2^41, so nothing wraps. */
static const void *next_array(const File *file, uint64_t *end, uint64_t count, uint64_t size) {
    uint64_t begin = (*end + 63) / 64 * 64;
    *end = begin + count * size;
    if (*end > file->header->tokenizer_size)
        die(1, "the tokenizer's arrays are larger than its section: %s: export it again",
            file->path);
    return (const char *)file->header + file->header->tokenizer_offset + begin;
}

/* Returns the bytes of a token: none for an id without one, since vocab_size may be larger. */
static Bytes token_bytes(const Tokenizer *t, int id) {
    if (id < 0 || (uint32_t)id >= t->n_vocab) return (Bytes){ t->bytes, 0 };
    return (Bytes){ t->bytes + t->token_start[id], t->token_start[id + 1] - t->token_start[id] };
}

static bool all_below(const void *numbers, size_t n, uint32_t limit) {
    for (size_t i = 0; i < n; i++) if (((const uint32_t *)numbers)[i] >= limit) return false;
    return true;
}

/* Names the number that would lead outside the arrays or into an endless search, or returns NULL.
 * What follows relies on this and checks no more. */
static const char *find_contradiction(const Tokenizer *t, uint32_t vocab_size) {
    if (t->n_vocab < 1 || t->n_vocab > vocab_size) return "number of tokens";
    if (t->n_added > 0x1FFFFF - ADDED) return "number of added tokens"; // a character has 21 bits
    if (t->n_slots < 2 || (t->n_slots & (t->n_slots - 1)) != 0) return "merge table's size";
    if (!all_below(t->byte_id, 256, t->n_vocab)) return "byte ids";
    const uint32_t *start = t->token_start;
    if (start[0] != 0 || start[t->n_vocab] != t->n_bytes) return "token starts";
    for (uint32_t i = 0; i < t->n_vocab; i++)               // each token is short enough to print
        if (start[i] > start[i + 1] || start[i + 1] - start[i] > 65536) return "token starts";
    uint32_t n_merges = 0;                                  // a search ends at an empty slot
    for (const Merge *m = t->merges; m < t->merges + t->n_slots; m++)
        if (m->id != NONE && (m->id >= t->n_vocab || ++n_merges == t->n_slots)) return "merges";
    for (uint32_t i = 0; i < t->n_added; i++) {
        uint32_t id = t->added[i] & ADDED_ID;
        if (id >= t->n_vocab || start[id] == start[id + 1]) return "added tokens";
    }
    for (int i = 0; i < 0x110000 / 256; i++)
        if (t->block[i] >= t->n_blocks) return "character table";
    if (!all_below(t->decompositions, 3 * (size_t)t->n_decompositions, 0x110000)
        || !all_below(t->compositions, 3 * (size_t)t->n_compositions, 0x110000))
        return "pairs of characters";
    return NULL;
}

/* Finds the arrays in the file's tokenizer section. Dies if a number in them cannot be. */
static Tokenizer open_tokenizer(const File *file) {
    const Header *h = file->header;
    if (h->vocab_size < 1 || h->vocab_size > 1 << 24)
        die(1, "the header's vocab_size is %u, not between 1 and %u: %s: export it again",
            h->vocab_size, 1 << 24, file->path);
    uint64_t end = 0;                       // of what was found so far in the section
    Tokenizer t = { 0 };
    memcpy(&t, next_array(file, &end, 1, 64), 64);
    t.byte_id = next_array(file, &end, 256, sizeof *t.byte_id);
    t.token_start = next_array(file, &end, (uint64_t)t.n_vocab + 1, sizeof *t.token_start);
    t.added = next_array(file, &end, t.n_added, sizeof *t.added);
    t.merges = next_array(file, &end, t.n_slots, sizeof *t.merges);
    t.block = next_array(file, &end, 0x110000 / 256, sizeof *t.block);
    t.chars = next_array(file, &end, (uint64_t)t.n_blocks * 256, sizeof *t.chars);
    t.decompositions = next_array(file, &end, t.n_decompositions, sizeof *t.decompositions);
    t.compositions = next_array(file, &end, t.n_compositions, sizeof *t.compositions);
    t.bytes = next_array(file, &end, t.n_bytes, 1);
    const char *wrong = end != h->tokenizer_size ? "size" : find_contradiction(&t, h->vocab_size);
    if (wrong)
        die(1, "impossible %s in the tokenizer section: %s: export it again", wrong, file->path);

    for (uint32_t i = 0; i < t.n_added; i++) {
        unsigned char first = t.bytes[t.token_start[t.added[i] & ADDED_ID]];
        t.begins_added[first < 128 ? first : 128] = true;
    }
    return t;
}

/* -- Characters ----------------------------------------------------------------------------- */
typedef enum { OTHER, LETTER, NUMBER, SPACE, END } Class;   // \p{L}, \p{N}, \s; END: no character

/* 16 bits for each character: bits 0-7 its combining class, 8-9 its Class, 10 whether NFC may
 * change it or what stands before it, 11-12 the columns that it takes on a terminal. */
static unsigned char_properties(const Tokenizer *t, uint32_t c) {
    return c < ADDED ? t->chars[t->block[c >> 8] * 256u + (c & 255)] : 0;
}

static Class class_of(const Tokenizer *t, uint32_t c) { return char_properties(t, c) >> 8 & 3; }

/* Writes a piece on one line. A newline becomes \n, a tab \t, a backslash \\. Each byte of other
 * white space (except the space), of a control character or of invalid UTF-8 becomes \xHH. */
static void write_piece(const Tokenizer *t, FILE *out, Bytes piece) {
    for (Char c; next_char(&piece, &c); ) {
        bool space = class_of(t, c.code) == SPACE && c.code != ' ';
        if (c.code == '\n') fputs("\\n", out);
        else if (c.code == '\t') fputs("\\t", out);
        else if (c.code == '\\') fputs("\\\\", out);
        else if (c.kind != UTF8_VALID || is_control(c.code) || space)
            for (size_t i = 0; i < c.size; i++) fprintf(out, "\\x%02x", c.bytes[i] & 0xFF);
        else fwrite(c.bytes, 1, c.size, out);
    }
}

/* -- NFC (Unicode Standard Annex 15) -------------------------------------------------------- */
/* A text is a list of keys, one for each character. From the top a key holds the character's
 * combining class, its place and its code point, so that sorting keys as numbers puts characters
 * into canonical order: by class, and within a class by place. */
typedef struct { uint64_t *key; size_t n, capacity; } Keys;

static void push_char(const Tokenizer *t, Keys *text, uint32_t c) {
    text->key = grow(text->key, &text->capacity, text->n + 1, sizeof *text->key);
    uint64_t combining = char_properties(t, c) & 255, place = text->n++;
    text->key[place] = combining << 56 | place << 21 | c;
}

/* Returns the character at i, or NONE past the end. */
static uint32_t char_at(const Keys *text, size_t i) {
    return i < text->n ? text->key[i] & 0x1FFFFF : NONE;
}

static int compare(uint64_t x, uint64_t y) { return (x > y) - (x < y); }
static int compare_keys(const void *a, const void *b) {
    return compare(*(const uint64_t *)a, *(const uint64_t *)b);
}

/* Compares by `composed`. If the pair x that is looked up has composed 0, compares both parts. */
static int compare_pairs(const void *a, const void *b) {
    const Pair *x = a, *y = b;
    if (x->composed) return compare(x->composed, y->composed);
    return compare((uint64_t)x->first << 32 | x->second, (uint64_t)y->first << 32 | y->second);
}

/* Appends the full decomposition of c. Unicode needs a depth of 3; a file may have a circle. */
static void push_decomposed(const Tokenizer *t, Keys *text, uint32_t c, int depth) {
    const Pair *p = c < 0xC0 || depth > 8 ? NULL
        : bsearch(&(Pair){ .composed = c }, t->decompositions, t->n_decompositions, sizeof *p,
                  compare_pairs);
    if (p) push_decomposed(t, text, p->first, depth + 1);
    if (!p || p->second) push_char(t, text, p ? p->second : c);
}

/* Brings a text to NFC: all characters are decomposed, each run of marks is sorted, and
 * what can be composed again is. Marks are the characters that have a combining class. */
static void normalize(const Tokenizer *t, Keys *text) {
    Keys raw = *text;
    *text = (Keys){ 0 };
    for (size_t i = 0; i < raw.n; i++) push_decomposed(t, text, char_at(&raw, i), 0);
    free(raw.key);
    for (size_t i = 0, begin; i < text->n; i++) {
        for (begin = i; i < text->n && text->key[i] >> 56 > 0; ) i++;
        if (i - begin > 1) qsort(text->key + begin, i - begin, sizeof *text->key, compare_keys);
    }
    size_t kept = 0, base = 0;
    int last = 0;                   // class of the last mark that stays; -1 right after the base
    for (size_t i = 0; i < text->n; i++) {
        int combining = (int)(text->key[i] >> 56);
        uint32_t c = char_at(text, i);
        const Pair *p = last >= combining || !(char_properties(t, c) >> 10 & 1) ? NULL
            : bsearch(&(Pair){ char_at(text, base), c, 0 }, t->compositions, t->n_compositions,
                      sizeof *p, compare_pairs);
        if (p) { text->key[base] = p->composed; continue; }
        if (combining == 0) base = kept;
        last = combining == 0 ? -1 : combining;
        text->key[kept++] = c;
    }
    text->n = kept;
}

/* -- Split ---------------------------------------------------------------------------------- */
static Class class_at(const Tokenizer *t, const Keys *text, size_t i) {
    uint32_t c = char_at(text, i);
    return c < ADDED ? class_of(t, c) : END;
}

static bool is_newline(uint32_t c) { return c == '\n' || c == '\r'; }

/* Returns where the word that begins at i ends. The pattern's branches, in its order:
 *     (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|
 *     \s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t word_end(const Tokenizer *t, const Keys *text, size_t i) {
    Class class = class_at(t, text, i), next = class_at(t, text, i + 1);
    if (char_at(text, i) == '\'') {
        uint32_t a = char_at(text, i + 1), b = char_at(text, i + 2) | 32;   // | 32: in lower case
        a = a == 0x17F ? 's' : a | 32;                                      // U+017F is a long s
        if (a == 's' || a == 't' || a == 'm' || a == 'd') return i + 2;
        if (((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l')) return i + 3;
    }
    if (class == LETTER || (next == LETTER && class != NUMBER && !is_newline(char_at(text, i)))) {
        do i++; while (class_at(t, text, i) == LETTER);
        return i;
    }
    if (class == NUMBER) return i + 1;
    if (class == OTHER || (next == OTHER && char_at(text, i) == ' ')) {
        do i++; while (class_at(t, text, i) == OTHER);
        while (is_newline(char_at(text, i))) i++;
        return i;
    }
    size_t end = i, after_newline = 0;
    for (; class_at(t, text, end) == SPACE; end++)
        if (is_newline(char_at(text, end))) after_newline = end + 1;
    if (after_newline) return after_newline;
    return end - i > 1 && class_at(t, text, end) != END ? end - 1 : end;  // one joins the next
}

/* -- BPE (Sennrich et al. 2016) ------------------------------------------------------------- */
/* A word starts as one token for each byte. Then the pair of neighbours whose merge has the lowest
 * rank is merged, the leftmost first. This repeats until no pair has a merge.
 *
 * A search through all pairs each time would take n^2 steps for n bytes, and a Chinese sentence is
 * one word. So the tokens are a linked list, and the ranks of all pairs are in a tree whose root is
 * the lowest. That takes n log n steps. */
typedef struct {
    uint32_t id, merged;                    // the token, and what it and the next one merge to
    uint32_t previous, next;                // the last one's next is the number of bytes
} Node;

typedef struct {
    Node *node;                             // [n], one for each byte
    uint64_t *tree;                         // [2 * n]: tree[k] = min(tree[2 * k], tree[2 * k + 1]);
                                            // leaf n + i: rank << 32 | i of node i, or UINT64_MAX
    size_t n, node_capacity, tree_capacity;
} Word;

static const Merge *find_merge(const Tokenizer *t, uint32_t left, uint32_t right) {
    uint32_t slot = (uint64_t)((left * 0x9E3779B1u + right) * 0x85EBCA6Bu) * t->n_slots >> 32;
    for (;; slot = (slot + 1) & (t->n_slots - 1)) {
        const Merge *m = &t->merges[slot];
        if (m->id == NONE) return NULL;
        if (m->left == left && m->right == right) return m;
    }
}

/* Looks up what node i and its next one merge to, and brings the tree up to date. */
static void rank_pair(const Tokenizer *t, Word *w, size_t i) {
    Node *node = &w->node[i];
    const Merge *m = node->next < w->n ? find_merge(t, node->id, w->node[node->next].id) : NULL;
    if (m) node->merged = m->id;
    uint64_t *tree = w->tree;
    size_t k = w->n + i;
    tree[k] = m ? (uint64_t)m->rank << 32 | i : UINT64_MAX;
    for (; k > 1; k /= 2) tree[k / 2] = tree[k] < tree[k ^ 1] ? tree[k] : tree[k ^ 1];
}

/* Appends the ids of one word, the characters from begin to end of a text. */
static void merge_word(const Tokenizer *t, Word *w, const Keys *text, size_t begin, size_t end,
                       Ids *ids) {
    if (end - begin > UINT32_MAX / 8)
        die(1, "a word of %zu characters: the text: put a space in it", end - begin);
    uint32_t n = 0;
    for (size_t i = begin; i < end; i++) {
        unsigned char s[4];
        size_t length = utf8_encode(s, char_at(text, i));
        w->node = grow(w->node, &w->node_capacity, n + length, sizeof *w->node);
        for (size_t k = 0; k < length; k++, n++)
            w->node[n] = (Node){ t->byte_id[s[k]], NONE, n - 1, n + 1 };
    }
    w->n = n;
    w->tree = grow(w->tree, &w->tree_capacity, 2 * w->n, sizeof *w->tree);
    memset(w->tree, 0xFF, 2 * w->n * sizeof *w->tree);
    for (uint32_t i = 0; i < n; i++) rank_pair(t, w, i);
    while (w->tree[1] != UINT64_MAX) {      // the root: which one merges next
        uint32_t i = (uint32_t)w->tree[1], gone = w->node[i].next, next = w->node[gone].next;
        w->node[i] = (Node){ w->node[i].merged, NONE, w->node[i].previous, next };
        w->node[gone].next = n;             // so it merges with nothing
        if (next < n) w->node[next].previous = i;
        rank_pair(t, w, gone);
        rank_pair(t, w, i);
        if (i > 0) rank_pair(t, w, w->node[i].previous);
    }
    for (uint32_t i = 0; i < n; i = w->node[i].next) push_id(ids, (int)w->node[i].id);
}

/* -- Encode --------------------------------------------------------------------------------- */
/* Returns where added[k] ends if it is in a text at i, or else i. */
static size_t match_added(const Tokenizer *t, uint32_t k, const Keys *text, size_t i) {
    Bytes token = token_bytes(t, (int)(t->added[k] & ADDED_ID));
    size_t end = i;
    for (Char c; next_char(&token, &c); end++) if (char_at(text, end) != c.code) return i;
    return end;
}

/* Replaces each added token in a text by one character, ADDED + k for added[k]. The leftmost match
 * wins, then the longest. Only tokens whose NORMALIZED bit equals `normalized` count. Unless
 * `special`, a special token stays text, and nothing inside it is replaced. */
static void cut_added(const Tokenizer *t, Keys *text, uint32_t normalized, bool special) {
    size_t kept = 0;
    for (size_t i = 0, end; i < text->n; ) {
        uint32_t c = char_at(text, i), k = t->begins_added[c < 128 ? c : 128] ? 0 : t->n_added;
        for (end = i; k < t->n_added; k++) {
            if ((t->added[k] & NORMALIZED) == normalized) end = match_added(t, k, text, i);
            if (end > i) break;
        }
        bool cut = end > i && (special || !(t->added[k] & SPECIAL));
        if (cut) { text->key[kept++] = ADDED + k; i = end; }
        else do text->key[kept++] = text->key[i++]; while (i < end);
    }
    text->n = kept;
}

enum { AS_TEXT, WITH_SPECIAL };             // how <|im_end|> and its like are read in a text

/* Appends the ids of a text. Added tokens are cut out first, <tool_call> always, <|im_end|> and
 * other special ones only WITH_SPECIAL. What is between them is encoded apart. */
static void encode(const Tokenizer *t, Bytes text, bool special, Ids *ids) {
    Keys chars = { 0 };
    Word word = { 0 };
    for (Char c; next_char(&text, &c); ) push_char(t, &chars, c.code);
    cut_added(t, &chars, 0, special);
    normalize(t, &chars);
    cut_added(t, &chars, NORMALIZED, special);
    for (size_t i = 0, end; i < chars.n; i = end) {
        uint32_t c = char_at(&chars, i);
        end = c < ADDED ? word_end(t, &chars, i) : i + 1;
        if (c < ADDED) merge_word(t, &word, &chars, i, end, ids);
        else push_id(ids, (int)(t->added[c - ADDED] & ADDED_ID));
    }
    free(chars.key);
    free(word.node);
    free(word.tree);
}

/* -- The program ---------------------------------------------------------------------------- */
#ifndef QWEN_C

static const char usage[] =
    "usage: ./tokenizer MODEL.bin [--ids] [--plain] [TEXT]\n"
    "       ./tokenizer MODEL.bin --decode [ID ...]\n"
    "\n"
    "A line per token of TEXT, or of standard input: id, tab, piece.\n"
    "      --ids     only the ids, on one line\n"
    "      --plain   <|im_end|> and its like are ordinary text\n"
    "      --decode  the bytes of these ids, or of the ids on standard input\n"
    "      --        what follows is no flag, though it may begin with -\n"
    "  -h, --help\n";

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);               // a closed pipe becomes an error for flush_output
    bool only_ids = false, plain = false, decode = false, help = false, flags = true;
    int n = 0;                              // arguments that are no flags; they move to the front
    for (int i = 1; i < argc; i++) {
        if (!flags || argv[i][0] != '-' || !argv[i][1]) argv[n++] = argv[i];
        else if (strcmp(argv[i], "--") == 0) flags = false;
        else if (strcmp(argv[i], "--ids") == 0) only_ids = true;
        else if (strcmp(argv[i], "--plain") == 0) plain = true;
        else if (strcmp(argv[i], "--decode") == 0) decode = true;
        else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) help = true;
        else die(2, "no such flag: %s: see --help; put -- before a text with a -", argv[i]);
    }
    if (help) { fputs(usage, stdout); flush_output(); return 0; }
    if (n == 0) die(2, "no model: MODEL.bin: make one with export.py, and see --help");
    if (n > 2 && !decode)
        die(2, "more than one text: %s: put quotes around a text with spaces", argv[2]);
    if (decode && (only_ids || plain))
        die(2, "these make no sense together: --decode and %s: leave one out",
            plain ? "--plain" : "--ids");

    File file = map_file(argv[0]);
    Tokenizer t = open_tokenizer(&file);
    static Ids ids;
    static Text input;
    if (n == 1) input = read_input();
    push_bytes(&input, "", 1);              // its NUL
    for (int i = 1; i == 1 || i < n; i++) { // one text, or ids
        Bytes text = i < n ? bytes_of(argv[i]) : (Bytes){ input.data, input.n - 1 };
        if (!decode) encode(&t, text, !plain, &ids);
        else if (strlen(text.data) == text.n)
            read_ids(text.data, "--decode", file.header->vocab_size, &ids);
        else die(2, "a NUL byte among the ids: --decode: write ids as decimal numbers");
    }

    for (size_t i = 0; i < ids.n && !ferror(stdout); i++) {
        Bytes bytes = token_bytes(&t, ids.id[i]);
        if (decode) fwrite(bytes.data, 1, bytes.n, stdout);
        else if (only_ids) printf("%s%d", i > 0 ? " " : "", ids.id[i]);
        else {
            printf("%d\t", ids.id[i]);
            write_piece(&t, stdout, bytes);
            putchar('\n');
        }
    }
    if (only_ids) putchar('\n');
    flush_output();
    return 0;
}

#endif
