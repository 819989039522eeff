/* qwen.c: Qwen1.5 inference in one plain C file.
 *
 * A base model and a chat model are the same program with other weights. This file runs both
 * and shows what makes one stop and the other run on. Read it from the top:
 *
 *     the model      the tensors of a .bin, mapped and used where they lie
 *     threads        a small pool that shares out the rounds of a loop
 *     a run          one model's buffers and KV cache
 *     maths          widen, dot, tile, matmul, rmsnorm, rope, attend
 *     forward        tokens in, logits out
 *     sampler        logits in, a token out
 *     output         text, --stop, the --watch table
 *     generate       one turn: read the prompt, then a token at a time until a rule says stop
 *     chat           how a conversation is framed
 *     commands       --score, --compare, --info, --quantize
 *     command line
 *
 * tokenizer.c holds what comes before: the file's header, its mapping, and text <-> token ids.
 */
#define QWEN_C
#include "tokenizer.c"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <time.h>

static int min_int(int a, int b) { return a < b ? a : b; }
static int max_int(int a, int b) { return a > b ? a : b; }

/* Zeroed memory for count things of a size. Never NULL. */
static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) die(1, "out of memory: %zu times %zu bytes: close other programs", count, size);
    return memory;
}

/* ---------------------------------------------------------------------------------------------
 * The model
 * ------------------------------------------------------------------------------------------- */

enum { BF16, INT8, F32 };                   // what a tensor is stored as; the first two as Header.weight_type
enum { GROUP = 64 };                        // columns that share one int8 scale

typedef struct {
    int rows, cols, type;
    size_t row_size;                        // bytes from one row to the next
    const unsigned char *data;              // [rows][row_size]; of INT8 a row is cols numbers, then its scales
} Matrix;

typedef struct {
    const float *attention_norm;            // [dim]
    Matrix wq, wk, wv;                      // [q_dim][dim], [kv_dim][dim], [kv_dim][dim]
    const float *bq, *bk, *bv;              // [q_dim], [kv_dim], [kv_dim]
    Matrix wo;                              // [dim][q_dim]
    const float *mlp_norm;                  // [dim]
    Matrix gate, up, down;                  // [hidden_dim][dim], [hidden_dim][dim], [dim][hidden_dim]
} Layer;

typedef struct {
    File file;
    Tokenizer tokenizer;
    int dim, hidden_dim, n_layers, n_heads, n_kv_heads, head_dim, vocab_size;
    int q_dim, kv_dim;                      // n_heads * head_dim, n_kv_heads * head_dim
    Matrix embedding;                       // [vocab_size][dim]
    Layer *layers;                          // [n_layers]
    const float *norm;                      // [dim]
    Matrix output;                          // [vocab_size][dim]; the embedding itself if tied
} Model;

/* A place in the file, moving on from tensor to tensor. One walk serves two ends: map_model takes
 * pointers, and --quantize (visit) writes each tensor as it comes by. The place may run past the end
 * of a file that lies about its sizes: map_model compares the two before anything is read. */
typedef struct {
    const unsigned char *data;
    uint64_t offset;
    int type;                               // of matrices
    void (*visit)(void *argument, const Matrix *m);
    void *argument;
} Cursor;

static size_t scales_offset(int cols) { return (size_t)(cols + 3) / 4 * 4; }

static size_t matrix_row_size(int type, int cols) {
    if (type == INT8) return scales_offset(cols) + (size_t)(cols + GROUP - 1) / GROUP * sizeof(float);
    return (size_t)cols * (type == BF16 ? 2 : 4);
}

static Matrix next_tensor(Cursor *at, int type, int rows, int cols) {
    Matrix m = { rows, cols, type, matrix_row_size(type, cols), NULL };
    at->offset = (at->offset + 63) / 64 * 64;
    m.data = at->data + at->offset;
    at->offset += (uint64_t)rows * m.row_size;
    if (at->visit) at->visit(at->argument, &m);
    return m;
}

static Matrix next_matrix(Cursor *at, int rows, int cols) { return next_tensor(at, at->type, rows, cols); }
static const float *next_floats(Cursor *at, int n) { return (const float *)(const void *)next_tensor(at, F32, 1, n).data; }

static Layer next_layer(Cursor *at, const Model *m) {
    Layer l;
    l.attention_norm = next_floats(at, m->dim);
    l.wq = next_matrix(at, m->q_dim, m->dim);
    l.bq = next_floats(at, m->q_dim);
    l.wk = next_matrix(at, m->kv_dim, m->dim);
    l.bk = next_floats(at, m->kv_dim);
    l.wv = next_matrix(at, m->kv_dim, m->dim);
    l.bv = next_floats(at, m->kv_dim);
    l.wo = next_matrix(at, m->dim, m->q_dim);
    l.mlp_norm = next_floats(at, m->dim);
    l.gate = next_matrix(at, m->hidden_dim, m->dim);
    l.up = next_matrix(at, m->hidden_dim, m->dim);
    l.down = next_matrix(at, m->dim, m->hidden_dim);
    return l;
}

/* All tensors, in the order of the file, which is that of the forward pass. */
static void walk_tensors(Model *m, Cursor *at) {
    m->embedding = next_matrix(at, m->vocab_size, m->dim);
    for (int i = 0; i < m->n_layers; i++) m->layers[i] = next_layer(at, m);
    m->norm = next_floats(at, m->dim);
    m->output = m->file.header->tied ? m->embedding : next_matrix(at, m->vocab_size, m->dim);
}

/* A size from the header, as an int small enough that no product below can wrap in 64 bits. */
static int checked_size(const Model *m, const char *field, uint32_t value, uint32_t most) {
    if (value < 1 || value > most)
        die(1, "the header's %s is %u, not between 1 and %u: %s: export it again", field, value, most, m->file.path);
    return (int)value;
}

/* Maps PATH and finds its tensors. Nothing is copied: the kernel reads a page when it is used. */
static Model map_model(const char *path) {
    Model m = { .file = map_file(path) };
    m.tokenizer = open_tokenizer(&m.file);
    const Header *h = m.file.header;
    m.dim = checked_size(&m, "dim", h->dim, 1 << 20);
    m.hidden_dim = checked_size(&m, "hidden_dim", h->hidden_dim, 1 << 20);
    m.n_layers = checked_size(&m, "n_layers", h->n_layers, 1 << 12);
    m.n_heads = checked_size(&m, "n_heads", h->n_heads, 1 << 12);
    m.n_kv_heads = checked_size(&m, "n_kv_heads", h->n_kv_heads, h->n_heads);
    m.head_dim = checked_size(&m, "head_dim", h->head_dim, 1 << 12);
    m.vocab_size = checked_size(&m, "vocab_size", h->vocab_size, 1 << 24);
    checked_size(&m, "max_positions", h->max_positions, 1 << 24);
    checked_size(&m, "n_eos", h->n_eos, 8);
    m.q_dim = m.n_heads * m.head_dim;
    m.kv_dim = m.n_kv_heads * m.head_dim;

    bool sane = m.head_dim % 2 == 0 && m.n_heads % m.n_kv_heads == 0
        && h->tied <= 1 && h->kind <= 1 && h->chatml <= 1 && h->do_sample <= 1
        && ((h->weight_type == BF16 && h->group_size == 0) || (h->weight_type == INT8 && h->group_size == GROUP))
        && h->rms_eps >= 0 && h->rms_eps < 1 && h->rope_theta > 0 && isfinite(h->rope_theta)
        && h->temperature >= 0 && isfinite(h->temperature) && h->top_k <= INT32_MAX
        && h->top_p >= 0 && h->top_p <= 1 && h->repetition_penalty > 0 && isfinite(h->repetition_penalty)
        && h->im_start < h->vocab_size && h->im_end < h->vocab_size && h->endoftext < h->vocab_size
        && h->system_size <= sizeof h->system && memchr(h->name, 0, sizeof h->name);
    for (uint32_t i = 0; sane && i < h->n_eos; i++) sane = h->eos[i] < h->vocab_size;
    if (!sane) die(1, "the header contradicts itself: %s: export it again", path);

    m.layers = allocate((size_t)m.n_layers, sizeof(Layer));
    Cursor at = { m.file.data, h->weights_offset, (int)h->weight_type, NULL, NULL };
    walk_tensors(&m, &at);
    if (at.offset != m.file.size)
        die(1, "the weights take %llu bytes by the header, the file ends at %llu: %s: export it again",
            (unsigned long long)at.offset, (unsigned long long)m.file.size, path);
    return m;
}

/* ---------------------------------------------------------------------------------------------
 * Threads
 * ------------------------------------------------------------------------------------------- */

/* One round of a loop: item is the loop's variable, thread says whose scratch memory to use. */
typedef void Task(void *argument, int item, int thread);

typedef struct {
    int n_threads;                          // with the caller, which is thread 0
    atomic_int started;                     // the number of the last thread that began
    Task *task;                             // what the threads do now, written before job changes
    void *argument;
    int n_items;
    atomic_uint job;                        // goes up when there is something to do
    atomic_uint next;                       // the next item nobody has taken
    atomic_uint busy;                       // threads that have not finished this job
    pthread_mutex_t mutex;
    pthread_cond_t wake;
} Pool;

/* Returns once *word is not value any more. A forward pass has some 170 jobs per token, a few
 * microseconds apart, so a thread looks for a while before it goes to sleep. */
static void wait_while(Pool *pool, atomic_uint *word, unsigned value) {
    for (int i = 0; i < 20000; i++)
        if (atomic_load_explicit(word, memory_order_acquire) != value) return;
    pthread_mutex_lock(&pool->mutex);
    while (atomic_load(word) == value) pthread_cond_wait(&pool->wake, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}

/* Called after a word was changed. The mutex keeps this out from between a sleeper's last look at
 * the word and its sleep. */
static void wake_sleepers(Pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

static void take_items(Pool *pool, int thread) {
    int item;
    while ((item = (int)atomic_fetch_add(&pool->next, 1)) < pool->n_items)
        pool->task(pool->argument, item, thread);
}

static void *run_thread(void *argument) {
    Pool *pool = argument;
    int thread = atomic_fetch_add(&pool->started, 1) + 1;
    for (unsigned job = 0;; job++) {
        wait_while(pool, &pool->job, job);
        take_items(pool, thread);
        if (atomic_fetch_sub(&pool->busy, 1) == 1) wake_sleepers(pool);
    }
    return NULL;
}

static Pool *start_pool(int n_threads) {
    Pool *pool = allocate(1, sizeof *pool);
    pool->n_threads = n_threads;
    if (pthread_mutex_init(&pool->mutex, NULL) || pthread_cond_init(&pool->wake, NULL))
        die(1, "no mutex for the threads: -t: try -t 1");
    for (int i = 1; i < n_threads; i++) {
        pthread_t id;
        if (pthread_create(&id, NULL, run_thread, pool) || pthread_detach(id))
            die(1, "thread %d of %d cannot be started: -t: ask for fewer", i + 1, n_threads);
    }
    return pool;
}

/* for (item = 0; item < n_items; item++) task(argument, item, thread), shared out among the
 * threads. Which thread takes an item never changes what is computed for it. Waking them costs
 * about a microsecond: below 100,000 multiply-adds that is not worth it. */
static void parallel(Pool *pool, int n_items, double multiply_adds, Task *task, void *argument) {
    if (pool->n_threads == 1 || n_items == 1 || multiply_adds < 100e3) {
        for (int item = 0; item < n_items; item++) task(argument, item, 0);
        return;
    }
    pool->task = task;
    pool->argument = argument;
    pool->n_items = n_items;
    atomic_store(&pool->next, 0);
    atomic_store(&pool->busy, (unsigned)pool->n_threads - 1);
    atomic_fetch_add(&pool->job, 1);
    wake_sleepers(pool);
    take_items(pool, 0);
    for (unsigned left; (left = atomic_load(&pool->busy)) > 0; ) wait_while(pool, &pool->busy, left);
}

/* ---------------------------------------------------------------------------------------------
 * A run: one model, its threads, its KV cache
 * ------------------------------------------------------------------------------------------- */

enum {
    BATCH = 256,                            // tokens that go through the layers together, at most
    LANES = 32,                             // values side by side in vector registers: tokens of a tile, sums of a product
    ROWS = 6,                               // weight rows of a tile
    FEW = 8                                 // below so many tokens the plain loops are faster
};

typedef struct {
    const Model *model;
    Pool *pool;
    int context;                            // positions the cache has room for
    int position;                           // positions filled
    float *keys, *values;                   // [n_layers][n_kv_heads][context][head_dim]  the KV cache
    float *x, *normed;                      // [BATCH][dim]  residual stream; its norm, then what a block adds to the stream
    float *q, *attended;                    // [BATCH][q_dim]
    float *k, *v;                           // [BATCH][kv_dim]
    float *gate, *up;                       // [BATCH][hidden_dim]
    float *cosine, *sine;                   // [BATCH][head_dim / 2]
    float *logits;                          // [BATCH][vocab_size]
    int columns;                            // of the widest matrix, in whole groups
    float *packed;                          // [BATCH / LANES][columns][LANES]
    int16_t *quantized;                     // [FEW][columns]  tokens in 16 bits, for int8 matrices, and
    float *quantized_scale;                 // [FEW][columns]  a scale per group: the first columns / GROUP
    float *scratch;                         // [n_threads][scratch_size]
    size_t scratch_size;
} Run;

/* Zeroed memory for count * size floats that costs nothing until it is touched: a cache for
 * 32,768 positions of the 1.8B shape is 12.9 GB, and a short chat fills a hundredth of it. */
static float *reserve(uint64_t count, uint64_t size) {
    uint64_t bytes = count * size * sizeof(float);
    void *memory = MAP_FAILED;
    if (size == 0 || count <= (uint64_t)PTRDIFF_MAX / sizeof(float) / size)
        memory = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) die(1, "no address space for %.1f GB of cache and activations: -c: ask for a smaller context", (double)count * (double)size * 4e-9);
    return memory;
}

static Run new_run(const Model *m, Pool *pool, int context) {
    Run r = { .model = m, .pool = pool, .context = context };
    r.columns = (max_int(m->q_dim, max_int(m->dim, m->hidden_dim)) + GROUP - 1) / GROUP * GROUP;
    uint64_t cache = (uint64_t)m->n_layers * (uint64_t)context + ROWS;     // a tile may look past the end
    r.keys = reserve(cache, (uint64_t)m->kv_dim);
    r.values = reserve(cache, (uint64_t)m->kv_dim);
    r.x = reserve(BATCH, (uint64_t)m->dim);
    r.normed = reserve(BATCH, (uint64_t)m->dim);
    r.q = reserve(BATCH, (uint64_t)m->q_dim);
    r.attended = reserve(BATCH, (uint64_t)m->q_dim);
    r.k = reserve(BATCH, (uint64_t)m->kv_dim);
    r.v = reserve(BATCH, (uint64_t)m->kv_dim);
    r.gate = reserve(BATCH, (uint64_t)m->hidden_dim);
    r.up = reserve(BATCH, (uint64_t)m->hidden_dim);
    r.cosine = reserve(BATCH, (uint64_t)m->head_dim);
    r.sine = reserve(BATCH, (uint64_t)m->head_dim);
    r.logits = reserve(BATCH, (uint64_t)m->vocab_size);
    r.packed = reserve(BATCH, (uint64_t)r.columns);
    r.quantized = (int16_t *)(void *)reserve(FEW, (uint64_t)r.columns / 2);
    r.quantized_scale = reserve(FEW, (uint64_t)r.columns);
    r.scratch_size = (size_t)max_int(ROWS * r.columns, (context + ROWS + m->head_dim) * LANES);
    r.scratch = reserve((uint64_t)pool->n_threads, r.scratch_size);
    return r;
}

/* ---------------------------------------------------------------------------------------------
 * Maths
 * ------------------------------------------------------------------------------------------- */

/* A bf16 is a float whose low 16 bits are missing. */
static inline float from_bf16(uint16_t high) {
    uint32_t bits = (uint32_t)high << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The nearest whole number, in operations that vectorise: so far up a float has no fraction. */
static inline float nearest(float x) { return (x + 12582912.0f) - 12582912.0f; }

/* In this order NaN becomes low. */
static inline float clamp(float x, float low, float high) {
    x = x > low ? x : low;
    return x < high ? x : high;
}

/* e^x = 2^whole * e^rest with |rest| <= ln(2) / 2, in operations that vectorise. */
static inline float exponential(float x) {
    x = clamp(x, -87.0f, 88.0f);            // a score masked by -INFINITY becomes 1e-38: nothing beside the highest, 1
    float whole = nearest(x * 1.44269504f);
    float r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    float p = 1.0f + r * (1.0f + r * (0.5f + r * (0.166666657f + r * (0.0416657962f + r * (8.33345205e-3f + r * 1.39353172e-3f)))));
    int32_t bits;
    memcpy(&bits, &p, sizeof bits);
    bits += (int32_t)whole * (1 << 23);
    memcpy(&p, &bits, sizeof p);
    return p;
}

/* The sum of sums that were kept side by side. A compiler may not reorder a sum of floats, so the
 * order that vectorises is written out, here and in the three products that follow. */
static float add_lanes(float sums[LANES]) {
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int lane = 0; lane < width; lane++) sums[lane] += sums[lane + width];
    return sums[0];
}

/* a · b */
static float dot(const float *restrict a, const float *restrict b, int n) {
    float sums[LANES] = { 0 }, rest = 0;
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int lane = 0; lane < LANES; lane++) sums[lane] += a[i + lane] * b[i + lane];
    for (; i < n; i++) rest += a[i] * b[i];
    return rest + add_lanes(sums);
}

/* Row w · x, for weights in bf16. */
static float dot_bf16(const uint16_t *restrict w, const float *restrict x, int n) {
    float sums[LANES] = { 0 }, rest = 0;
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int lane = 0; lane < LANES; lane++) sums[lane] += from_bf16(w[i + lane]) * x[i + lane];
    for (; i < n; i++) rest += from_bf16(w[i]) * x[i];
    return rest + add_lanes(sums);
}

/* A group of floats is stored as whole numbers up to `most` and one scale. Returns the scale. */
static float group_scale(const float *x, int n, float most) {
    float highest = 0;
    for (int i = 0; i < n; i++) highest = fabsf(x[i]) > highest ? fabsf(x[i]) : highest;
    return highest / most;
}

static inline float quantize_value(float x, float scale, float most) {
    return scale > 0 ? clamp(nearest(x / scale), -most, most) : 0;
}

/* Row w · x for weights in int8, group by group in whole numbers: 64 products of 8 and 16 bits fit
 * into 32. Of x, 16 bits are enough to lose nothing that shows. */
static float dot_int8(const int8_t *restrict w, const float *w_scale, const int16_t *restrict x, const float *x_scale, int n) {
    float sum = 0;
    for (; n > 0; n -= GROUP, w += GROUP, x += GROUP) {
        int32_t products = 0;
        if (n >= GROUP) for (int i = 0; i < GROUP; i++) products += w[i] * x[i];
        else for (int i = 0; i < n; i++) products += w[i] * x[i];
        sum += *w_scale++ * *x_scale++ * (float)products;
    }
    return sum;
}

/* out[cols] = row `row` of a matrix, as floats. */
static void widen(float *restrict out, const Matrix *m, int row) {
    const unsigned char *data = m->data + (size_t)row * m->row_size;
    if (m->type == BF16) {
        const uint16_t *w = (const uint16_t *)(const void *)data;
        for (int i = 0; i < m->cols; i++) out[i] = from_bf16(w[i]);
    } else {
        const int8_t *w = (const int8_t *)(const void *)data;
        const float *scale = (const float *)(const void *)(data + scales_offset(m->cols));
        for (int begin = 0; begin < m->cols; begin += GROUP, scale++)
            for (int i = begin; i < min_int(begin + GROUP, m->cols); i++) out[i] = (float)w[i] * *scale;
    }
}

/* out[ROWS][LANES] = a[ROWS][n] · x[n][LANES], where a's element (row, k) is
 * a[row * row_stride + k * column_stride]. Six sums by name: compilers keep those in registers,
 * rows of a two-dimensional array they do not, and that is eight times slower. */
static void tile(float *restrict out, const float *restrict a, size_t row_stride, size_t column_stride,
                 const float *restrict x, int n) {
    float s0[LANES] = { 0 }, s1[LANES] = { 0 }, s2[LANES] = { 0 }, s3[LANES] = { 0 }, s4[LANES] = { 0 }, s5[LANES] = { 0 };
    for (int k = 0; k < n; k++, a += column_stride, x += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            s0[lane] += a[0] * x[lane];
            s1[lane] += a[row_stride] * x[lane];
            s2[lane] += a[2 * row_stride] * x[lane];
            s3[lane] += a[3 * row_stride] * x[lane];
            s4[lane] += a[4 * row_stride] * x[lane];
            s5[lane] += a[5 * row_stride] * x[lane];
        }
    const float *sums[ROWS] = { s0, s1, s2, s3, s4, s5 };
    for (int row = 0; row < ROWS; row++) memcpy(out + (size_t)row * LANES, sums[row], sizeof s0);
}

typedef struct { Run *run; float *out; const float *x; int n; const Matrix *w; const float *bias; } Product;

enum { ROW_BLOCK = 48 };                    // rows that a thread takes at a time

/* The plain loop: each row of weights times each token. */
static void multiply_rows(void *argument, int item, int thread) {
    const Product *p = argument;
    const Matrix *w = p->w;
    (void)thread;
    for (int row = item * ROW_BLOCK; row < min_int((item + 1) * ROW_BLOCK, w->rows); row++) {
        const void *data = w->data + (size_t)row * w->row_size, *scales = (const char *)data + scales_offset(w->cols);
        for (int t = 0; t < p->n; t++) {
            size_t offset = (size_t)t * p->run->columns;
            p->out[(size_t)t * w->rows + row] = (p->bias ? p->bias[row] : 0) + (w->type == BF16
                ? dot_bf16(data, p->x + (size_t)t * w->cols, w->cols)
                : dot_int8(data, scales, p->run->quantized + offset, p->run->quantized_scale + offset, w->cols));
        }
    }
}

/* The same for many tokens: ROWS rows at a time times LANES tokens at a time. */
static void multiply_tiles(void *argument, int item, int thread) {
    const Product *p = argument;
    int cols = p->w->cols, rows = p->w->rows, end = min_int((item + 1) * ROW_BLOCK, rows);
    float *weights = p->run->scratch + (size_t)thread * p->run->scratch_size;      // [ROWS][cols]
    float sums[ROWS * LANES];
    for (int row = item * ROW_BLOCK; row < end; row += ROWS) {
        int n_rows = min_int(ROWS, end - row);
        for (int i = 0; i < n_rows; i++) widen(weights + (size_t)i * cols, p->w, row + i);
        for (int t = 0; t < p->n; t += LANES) {
            tile(sums, weights, (size_t)cols, 1, p->run->packed + (size_t)t * cols, cols);
            for (int lane = 0; lane < min_int(LANES, p->n - t); lane++)
                for (int i = 0; i < n_rows; i++)
                    p->out[(size_t)(t + lane) * rows + row + i] = sums[i * LANES + lane] + (p->bias ? p->bias[row + i] : 0);
        }
    }
}

/* packed[item][cols][LANES] = LANES of the tokens x[n][cols] side by side, zeros for those past the last. */
static void pack_tile(void *argument, int item, int thread) {
    const Product *p = argument;
    int cols = p->w->cols, first = item * LANES;
    float *packed = p->run->packed + (size_t)first * cols;
    (void)thread;
    for (int lane = 0; lane < LANES; lane++) {
        const float *x = first + lane < p->n ? p->x + (size_t)(first + lane) * cols : NULL;
        for (int k = 0; k < cols; k++) packed[(size_t)k * LANES + lane] = x ? x[k] : 0;
    }
}

/* x[n][cols] in 16 bits, for dot_int8. */
static void quantize_tokens(Run *r, const float *x, int n, int cols) {
    for (int t = 0; t < n; t++, x += cols)
        for (int begin = 0; begin < cols; begin += GROUP) {
            int size = min_int(GROUP, cols - begin);
            float scale = group_scale(x + begin, size, INT16_MAX);
            r->quantized_scale[t * r->columns + begin / GROUP] = scale;
            for (int i = 0; i < size; i++) r->quantized[t * r->columns + begin + i] = (int16_t)quantize_value(x[begin + i], scale, INT16_MAX);
        }
}

/* out[n][rows] = x[n][cols] · w[rows][cols]^T + bias[rows]; bias may be NULL. */
static void matmul(Run *r, float *out, const float *x, int n, const Matrix *w, const float *bias) {
    Product p = { r, out, x, n, w, bias };
    if (n >= FEW) parallel(r->pool, (n + LANES - 1) / LANES, (double)n * w->cols, pack_tile, &p);
    else if (w->type == INT8) quantize_tokens(r, x, n, w->cols);
    parallel(r->pool, (w->rows + ROW_BLOCK - 1) / ROW_BLOCK, (double)w->rows * w->cols * n,
             n < FEW ? multiply_rows : multiply_tiles, &p);
}

/* RMSNorm (Zhang & Sennrich 2019) of the residual stream: normed[n][dim] = x / rms(x) * weight. */
static void rmsnorm(Run *r, const float *weight, int n) {
    int dim = r->model->dim;
    float *out = r->normed;
    const float *x = r->x;
    for (int t = 0; t < n; t++, x += dim, out += dim) {
        float scale = 1.0f / sqrtf(dot(x, x, dim) / (float)dim + r->model->file.header->rms_eps);
        for (int i = 0; i < dim; i++) out[i] = weight[i] * (x[i] * scale);
    }
}

/* RoPE (Su et al. 2021): pair i of a head turns by position * theta^(-2i / head_dim). The product of
 * a turned query and a turned key depends on the distance of their positions only, so that a key in
 * the cache, turned once by its own, serves every later query. As in the reference implementation a
 * pair is (i, i + head_dim / 2), and the angle is a float. */
static void rope_angles(Run *r, int n) {
    int head_dim = r->model->head_dim;
    float *c = r->cosine, *s = r->sine;
    for (int t = 0; t < n; t++)
        for (int i = 0; i < head_dim; i += 2) {
            float frequency = 1.0f / (float)pow(r->model->file.header->rope_theta, (double)((float)i / (float)head_dim));
            float angle = (float)(r->position + t) * frequency;
            *c++ = cosf(angle);
            *s++ = sinf(angle);
        }
}

/* Turns x[n][n_heads][head_dim] in place. */
static void rope(const Run *r, float *x, int n, int n_heads) {
    int half = r->model->head_dim / 2;
    const float *c = r->cosine, *s = r->sine;
    for (int t = 0; t < n; t++, c += half, s += half)
        for (int head = 0; head < n_heads; head++, x += 2 * (size_t)half)
            for (int i = 0; i < half; i++) {
                float a = x[i], b = x[i + half];
                x[i] = a * c[i] - b * s[i];
                x[i + half] = b * c[i] + a * s[i];
            }
}

/* Where a layer's cache has what a head sees: [context][head_dim], so that all of it lies together. */
static size_t cache_offset(const Run *r, int layer, int kv_head) {
    return ((size_t)layer * r->model->n_kv_heads + kv_head) * r->context * r->model->head_dim;
}

/* Writes keys and values of n new positions to the cache. */
static void store(Run *r, int layer, int n) {
    const Model *m = r->model;
    size_t size = (size_t)m->head_dim * sizeof(float);
    for (int head = 0; head < m->n_kv_heads; head++)
        for (int t = 0; t < n; t++) {
            size_t to = cache_offset(r, layer, head) + (size_t)(r->position + t) * m->head_dim;
            size_t from = (size_t)t * m->kv_dim + (size_t)head * m->head_dim;
            memcpy(r->keys + to, r->k + from, size);
            memcpy(r->values + to, r->v + from, size);
        }
}

typedef struct { Run *run; int layer, n; } Attention;

/* Attention of one head for a few tokens: scores against all keys so far, softmax, and the
 * values' mean by these weights. Several query heads share a key head (GQA: Ainslie et al. 2023). */
static void attend_head(void *argument, int head, int thread) {
    const Attention *a = argument;
    const Run *r = a->run;
    const Model *m = r->model;
    int head_dim = m->head_dim;
    size_t offset = (size_t)head * head_dim, cache = cache_offset(r, a->layer, head / (m->n_heads / m->n_kv_heads));
    float *scores = r->scratch + (size_t)thread * r->scratch_size;                  // [position + 1]
    for (int t = 0; t < a->n; t++) {
        const float *q = r->q + (size_t)t * m->q_dim + offset;
        float *out = r->attended + (size_t)t * m->q_dim + offset;
        int n_keys = r->position + t + 1;                                          // the causal mask
        float most = -INFINITY, sum = 0;
        for (int k = 0; k < n_keys; k++) {
            scores[k] = dot(q, r->keys + cache + (size_t)k * head_dim, head_dim) / sqrtf((float)head_dim);
            if (scores[k] > most) most = scores[k];
        }
        for (int k = 0; k < n_keys; k++) scores[k] = exponential(scores[k] - most);
        for (int k = 0; k < n_keys; k++) sum += scores[k];
        memset(out, 0, (size_t)head_dim * sizeof *out);
        for (int k = 0; k < n_keys; k++) {
            const float *v = r->values + cache + (size_t)k * head_dim;
            float weight = scores[k] / sum;
            for (int i = 0; i < head_dim; i++) out[i] += weight * v[i];
        }
    }
}

/* The same for many tokens: LANES queries of one head side by side, with the tile of matmul. */
static void attend_tile(void *argument, int item, int thread) {
    const Attention *a = argument;
    const Run *r = a->run;
    const Model *m = r->model;
    int head_dim = m->head_dim, head = item % m->n_heads, first = item / m->n_heads * LANES;
    int n_queries = min_int(LANES, a->n - first), n_keys = r->position + first + n_queries;
    size_t offset = (size_t)head * head_dim, cache = cache_offset(r, a->layer, head / (m->n_heads / m->n_kv_heads));
    float *q = r->scratch + (size_t)thread * r->scratch_size;                       // [head_dim][LANES]
    float *scores = q + (size_t)head_dim * LANES;                                   // [n_keys][LANES]
    float most[LANES], sum[LANES] = { 0 }, out[ROWS * LANES];

    for (int i = 0; i < head_dim; i++)
        for (int lane = 0; lane < LANES; lane++)
            q[(size_t)i * LANES + lane] = lane < n_queries
                ? r->q[(size_t)(first + lane) * m->q_dim + offset + i] / sqrtf((float)head_dim) : 0;
    for (int k = 0; k < n_keys; k += ROWS)
        tile(scores + (size_t)k * LANES, r->keys + cache + (size_t)k * head_dim, (size_t)head_dim, 1, q, head_dim);
    for (int k = r->position + first + 1; k < n_keys; k++)                          // the causal mask
        for (int lane = 0; lane < k - r->position - first; lane++) scores[(size_t)k * LANES + lane] = -INFINITY;

    for (int lane = 0; lane < LANES; lane++) most[lane] = -INFINITY;
    for (int k = 0; k < n_keys; k++)
        for (int lane = 0; lane < LANES; lane++)
            most[lane] = scores[(size_t)k * LANES + lane] > most[lane] ? scores[(size_t)k * LANES + lane] : most[lane];
    for (int k = 0; k < n_keys; k++)
        for (int lane = 0; lane < LANES; lane++) {
            float e = exponential(scores[(size_t)k * LANES + lane] - most[lane]);
            scores[(size_t)k * LANES + lane] = e;
            sum[lane] += e;
        }
    for (int i = 0; i < head_dim; i += ROWS) {
        tile(out, r->values + cache + i, 1, (size_t)head_dim, scores, n_keys);
        for (int lane = 0; lane < n_queries; lane++)
            for (int row = 0; row < min_int(ROWS, head_dim - i); row++)
                r->attended[(size_t)(first + lane) * m->q_dim + offset + i + row] = out[row * LANES + lane] / sum[lane];
    }
}

static void attend(Run *r, int layer, int n) {
    const Model *m = r->model;
    Attention a = { r, layer, n };
    double multiply_adds = 2.0 * n * (r->position + n) * m->q_dim;
    if (n < FEW) parallel(r->pool, m->n_heads, multiply_adds, attend_head, &a);
    else parallel(r->pool, m->n_heads * ((n + LANES - 1) / LANES), multiply_adds, attend_tile, &a);
}

/* SwiGLU (Shazeer 2020): gate[i] = silu(gate[i]) * up[i], with silu(g) = g / (1 + e^-g). */
static void swiglu(float *gate, const float *up, size_t n) {
    for (size_t i = 0; i < n; i++) gate[i] = gate[i] / (1.0f + exponential(-gate[i])) * up[i];
}

static void add(float *x, const float *y, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] += y[i];
}

/* ---------------------------------------------------------------------------------------------
 * Forward
 * ------------------------------------------------------------------------------------------- */

/* Reads ids[n], 1 <= n <= BATCH, at the next n positions of the cache, and returns
 * logits[n_logits][vocab_size] for the last n_logits of them: what may come after each. */
static const float *forward(Run *r, const int *ids, int n, int n_logits) {
    const Model *m = r->model;
    size_t batch = (size_t)n * m->dim;
    for (int t = 0; t < n; t++) widen(r->x + (size_t)t * m->dim, &m->embedding, ids[t]);
    rope_angles(r, n);

    for (int layer = 0; layer < m->n_layers; layer++) {
        const Layer *l = &m->layers[layer];

        // x += attention(norm(x))
        rmsnorm(r, l->attention_norm, n);
        matmul(r, r->q, r->normed, n, &l->wq, l->bq);
        matmul(r, r->k, r->normed, n, &l->wk, l->bk);
        matmul(r, r->v, r->normed, n, &l->wv, l->bv);
        rope(r, r->q, n, m->n_heads);
        rope(r, r->k, n, m->n_kv_heads);        // turned by its own position once and for all, see rope_angles
        store(r, layer, n);                     // here the KV cache is written
        attend(r, layer, n);
        matmul(r, r->normed, r->attended, n, &l->wo, NULL);
        add(r->x, r->normed, batch);

        // x += mlp(norm(x))
        rmsnorm(r, l->mlp_norm, n);
        matmul(r, r->gate, r->normed, n, &l->gate, NULL);
        matmul(r, r->up, r->normed, n, &l->up, NULL);
        swiglu(r->gate, r->up, (size_t)n * m->hidden_dim);
        matmul(r, r->normed, r->gate, n, &l->down, NULL);
        add(r->x, r->normed, batch);
    }
    r->position += n;
    if (n_logits == 0) return NULL;
    rmsnorm(r, m->norm, n);
    matmul(r, r->logits, r->normed + (size_t)(n - n_logits) * m->dim, n_logits, &m->output, NULL);
    return r->logits;
}

/* ---------------------------------------------------------------------------------------------
 * Sampler
 * ------------------------------------------------------------------------------------------- */

typedef struct { float logit; int id; } Candidate;

typedef struct {
    bool greedy;
    float temperature, top_p, penalty;
    int top_k;                              // 0: off
    uint64_t random;                        // the generator's state
    Candidate *candidates;                  // [vocab_size]
} Sampler;

/* A number in [0, 1): splitmix64 (Steele, Lea & Flood 2014), its upper 53 bits. */
static double random_uniform(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

/* Makes c[at] no less likely than what is below it, in the heap c[n]. */
static void sift_down(Candidate *c, int n, int at) {
    for (int child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && c[child + 1].logit > c[child].logit) child++;
        if (!(c[child].logit > c[at].logit)) return;
        Candidate swap = c[at];
        c[at] = c[child];
        c[child] = swap;
    }
}

/* Moves the most likely of the heap c[n] to its end. */
static void pop(Candidate *c, int n) {
    Candidate swap = c[0];
    c[0] = c[n - 1];
    c[n - 1] = swap;
    sift_down(c, n - 1, 0);
}

/* The repetition penalty (Keskar et al. 2019). From the raw logit, so that an id that stands in the
 * history several times is penalised once. */
static void penalise(Sampler *s, const float *logits, const Ids *history) {
    for (size_t i = 0; i < history->n; i++) {
        int id = history->id[i];
        s->candidates[id].logit = logits[id] < 0 ? logits[id] * s->penalty : logits[id] / s->penalty;
    }
}

/* What a candidate's probability is a multiple of. */
static double odds(const Sampler *s, Candidate c, float most) { return exp((double)(c.logit - most) / s->temperature); }

/* Chooses the next token from logits[n], with transformers' order: repetition penalty,
 * temperature, top-k (ties at the k-th place all stay), top-p (Holtzman et al. 2020).
 * The candidates are a heap whose most likely are popped, as many as top-k and top-p ask for:
 * the i-th most likely then stands at c[n - 1 - i]. */
static int sample(Sampler *s, const float *logits, int n, const Ids *history) {
    Candidate *c = s->candidates;
    int best = 0;
    for (int i = 0; i < n; i++) c[i] = (Candidate){ logits[i], i };
    penalise(s, logits, history);
    for (int i = 0; i < n; i++) if (c[i].logit > c[best].logit) best = i;
    if (s->greedy) return best;

    float most = c[best].logit;
    double mass = 0;
    bool top_k = s->top_k > 0 && s->top_k < n, top_p = s->top_p < 1;
    int kept = n, sorted = 0;               // may be chosen; c[n - sorted .. n) are sorted, the rest is a heap
    if (top_k || top_p) for (int i = n / 2; i >= 0; i--) sift_down(c, n, i);
    if (top_k) {
        while (sorted < n && (sorted < s->top_k || c[0].logit == c[n - sorted].logit)) pop(c, n - sorted++);
        kept = sorted;
    }
    for (int i = n - kept; i < n; i++) mass += odds(s, c[i], most);
    if (top_p) {                            // as few as hold top_p of the mass, at least one
        double enough = s->top_p * mass;
        int likely = kept;
        for (mass = 0, kept = 0; kept < likely && (kept == 0 || mass < enough); kept++) {
            if (kept == sorted) pop(c, n - sorted++);
            mass += odds(s, c[n - 1 - kept], most);
        }
    }
    double left = random_uniform(&s->random) * mass;
    for (int i = n - 1; i > n - kept; i--)
        if ((left -= odds(s, c[i], most)) < 0) return c[i].id;
    return c[n - kept].id;
}

/* log(sum(e^logits[i])): logits[i] minus this is the log of token i's probability. */
static double log_sum_exp(const float *logits, int n) {
    float most = logits[0];
    for (int i = 1; i < n; i++) if (logits[i] > most) most = logits[i];
    double sum = exponential(logits[0] - most);
    for (int i = 1; i < n; i++) sum += exponential(logits[i] - most);
    return most + log(sum);
}

/* ---------------------------------------------------------------------------------------------
 * Output
 * ------------------------------------------------------------------------------------------- */

static int char_columns(const Tokenizer *t, uint32_t c) { return (int)(char_properties(t, c) >> 11 & 3); }

/* How many bytes at the end of s[n] are the beginning of a character that is not whole. */
static size_t utf8_incomplete(const unsigned char *s, size_t n) {
    for (size_t i = 1; i <= 3 && i <= n; i++) {
        uint32_t c;
        Utf8 kind;
        if (utf8_decode(s + n - i, i, &c, &kind) == i && kind == UTF8_CUT) return i;
    }
    return 0;
}

/* How text is shown to a person: as it flows (newlines and tabs are), on one line, or as a token
 * in a table, where a space must be seen. */
typedef enum { FLOWING, ONE_LINE, TOKEN } Style;

/* Prints s[n], at most so many columns of it, and returns the columns used. What a terminal would
 * obey (escape sequences, the bell) and what is no text is shown as \xHH, never sent. */
static int print_visible(const Tokenizer *t, FILE *out, const char *s, size_t n, Style style, int columns) {
    int used = 0;
    for (size_t i = 0; i < n; ) {
        char hex[32] = "";
        uint32_t c;
        Utf8 kind = UTF8_VALID;
        size_t size = utf8_decode((const unsigned char *)s + i, n - i, &c, &kind);
        int width = char_columns(t, c);
        const char *symbol = NULL;          // what stands for it, if it does not stand for itself
        if (c == '\n' && style != FLOWING) symbol = "⏎", width = 1;
        else if (c == ' ' && style == TOKEN) symbol = "␣", width = 1;
        else if (kind != UTF8_VALID || (is_control(c) && !(style == FLOWING && (c == '\n' || c == '\t')))) {
            symbol = hex;
            width = 0;
            for (size_t k = 0; k < size; k++) width += sprintf(hex + width, "\\x%02x", (unsigned char)s[i + k]);
        }
        if (used + width > columns - (i + size < n)) { fputs("…", out); return used + 1; }
        if (symbol) fputs(symbol, out);
        else fwrite(s + i, 1, size, out);
        used += width;
        i += size;
    }
    return used;
}

/* The texts of a flag that may be given several times. */
typedef struct { Text *text; size_t n, capacity; } Texts;

static void push_text(Texts *texts, Text text) {
    texts->text = grow(texts->text, &texts->capacity, texts->n + 1, sizeof *texts->text);
    texts->text[texts->n++] = text;
}

/* Where generated text goes. What might become a --stop text is held back until it is clear that
 * it does not; on a terminal, so is a character whose last bytes have not come yet. */
typedef struct {
    const Tokenizer *tokenizer;
    bool silent;                            // a table is printed instead
    bool terminal;
    Texts stops;                            // --stop
    Text text;                              // of this turn, to the end of what was generated
    size_t released;                        // its bytes that were let go
} Output;

/* Lets the text go up to `end`. */
static void release(Output *out, size_t end) {
    size_t begin = out->released, n = end - begin;
    out->released = end;
    if (n == 0 || out->silent) return;
    const char *text = out->text.data + begin;
    if (out->terminal) print_visible(out->tokenizer, stdout, text, n, FLOWING, INT_MAX);
    else fwrite(text, 1, n, stdout);
    flush_output();
}

/* Where `stop` is in what was not let go yet, or may be about to begin at its end; else the end. */
static size_t find_stop(const Output *out, const Text *stop) {
    const Text *text = &out->text;
    size_t at = out->released;
    while (at < text->n && memcmp(text->data + at, stop->data, stop->n < text->n - at ? stop->n : text->n - at) != 0) at++;
    return at;
}

/* Takes the next bytes of the output. Returns the --stop text that they complete, or NULL. */
static const Text *write_output(Output *out, const void *bytes, size_t n) {
    const Text *found = NULL;
    push_bytes(&out->text, bytes, n);
    size_t sure = out->text.n;
    for (size_t i = 0; i < out->stops.n; i++) {
        const Text *stop = &out->stops.text[i];
        size_t at = find_stop(out, stop);
        bool complete = at + stop->n <= out->text.n;
        if (complete && (!found || at <= sure)) { found = stop; sure = at; }
        else if (!found && at < sure) sure = at;
    }
    if (found) out->text.n = sure;
    else if (out->terminal && sure > out->released)
        sure -= utf8_incomplete((const unsigned char *)out->text.data + out->released, sure - out->released);
    release(out, sure);
    return found;
}

/* The end of a turn: what was held back is text after all. */
static void end_output(Output *out) {
    release(out, out->text.n);
    if (!out->terminal || out->silent || out->text.n == 0 || out->text.data[out->text.n - 1] == '\n') return;
    putchar('\n');
    flush_output();
}

/* The table of --watch and --score: a token, its probability, and those of the two stop tokens at
 * the same place. Aligned with a bar for people, tab-separated for programs. What comes first in a text
 * has no probability: p is NAN. */
static void print_row(const Output *out, int n, int id, double p, double p_im_end, double p_endoftext) {
    size_t size;
    const char *piece = (const char *)token_bytes(out->tokenizer, id, &size);
    if (!out->terminal) {
        if (n == 1) puts("n\tid\tpiece\tp\tp_im_end\tp_endoftext");
        printf("%d\t%d\t", n, id);
        write_piece(out->tokenizer, stdout, (const unsigned char *)piece, size);
        printf("\t%.6g\t%.6g\t%.6g\n", p, p_im_end, p_endoftext);
    } else {
        if (n == 1) puts("   n      id  token                   p  P(<|im_end|>)                           P(<|endoftext|>)");
        printf("%4d  %6d  ", n, id);
        int used = print_visible(out->tokenizer, stdout, piece, size, TOKEN, 18);
        if (isnan(p)) printf("%*s      -\n", 18 - used, "");
        else {
            printf("%*s %6.4f         %6.4f  %s", 18 - used, "", p, p_im_end, p_im_end >= 0.5 ? "\033[1;32m" : "");
            for (int i = 0; i < 30; i++) fputs(p_im_end * 30 >= i + 0.5 ? "█" : "·", stdout);
            printf("%s    %6.4f\n", p_im_end >= 0.5 ? "\033[0m" : "", p_endoftext);
        }
    }
    flush_output();
}

/* The name of a file being written. It gets its final name only once it is whole, so this one is
 * global: every way out of the program removes it. */
static char *unfinished;

static void remove_unfinished(void) { if (unfinished) unlink(unfinished); }

static FILE *create_file(const char *path) {
    struct stat status;
    if (stat(path, &status) == 0 && !S_ISREG(status.st_mode))
        die(1, "not a regular file: %s: give the name of a file to write", path);
    Text name = { 0 };
    push_bytes(&name, path, strlen(path));
    push_bytes(&name, ".tmp", 5);
    FILE *file = fopen(name.data, "wb");
    if (!file) die(1, "cannot create: %s: %s", name.data, strerror(errno));
    unfinished = name.data;
    return file;
}

static void write_bytes(FILE *file, const void *data, size_t n) {
    if (n > 0 && fwrite(data, 1, n, file) != n) die(1, "cannot write: %s: %s", unfinished, strerror(errno));
}

static void finish_file(FILE *file, const char *path) {
    bool failed = fflush(file) != 0 || ferror(file);
    if (fclose(file) != 0 || failed || rename(unfinished, path) != 0)
        die(1, "cannot write: %s: %s", path, strerror(errno));
    unfinished = NULL;
}

/* ---------------------------------------------------------------------------------------------
 * Generate
 * ------------------------------------------------------------------------------------------- */

#define UNSET UINT64_MAX

/* What the command line asks for; NULL, UNSET or NAN where it says nothing. parse_options fills it. */
typedef struct {
    const char *model, *compare, *ids, *system, *mode, *logits, *quantize;
    Texts prompts, stops;
    uint64_t max_tokens, context, threads, top_k, seed;
    double temperature, top_p, penalty;
    bool greedy, ignore_stop, watch, score, info, help;
} Options;

/* A conversation, or a text being continued. history holds every id so far; the cache holds the
 * first run.position of them, the rest is read by the next turn. */
typedef struct {
    const Options *options;
    const Model *model;
    bool chat;                              // how prompts are framed, where generation ends
    int max_tokens;
    Run run;
    Sampler sampler;
    Ids history;
    Output output;
    FILE *logits;                           // --logits, or NULL
    float *p_im_end;                        // [max_tokens] of this turn: P(<|im_end|>) at each new token
} Session;

typedef enum { STOP_TOKEN, STOP_TEXT, TOKEN_LIMIT, CONTEXT_FULL, INTERRUPTED } Reason;

typedef struct {
    Reason reason;
    const Text *text;                       // STOP_TEXT: which
    int id;                                 // STOP_TOKEN: which
    int n_prompt, n_new;
    double prompt_seconds, new_seconds;
} Turn;

static volatile sig_atomic_t interrupted;

/* The first Ctrl-C ends the turn, a second one the program. Who waits for input sets the flag
 * beforehand: nothing is there to end but the program. */
static void on_interrupt(int signal_number) {
    (void)signal_number;
    if (interrupted) {
        remove_unfinished();
        _exit(130);
    }
    interrupted = 1;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* A line on a terminal that the next one overwrites; done == total erases it. */
static void progress(int done, int total, double since) {
    if (!isatty(2)) return;
    if (done == total) fputs("\r\033[K", stderr);
    else fprintf(stderr, "\r\033[Kreading the prompt: %d of %d tokens, %.0f tok/s", done, total, done / (seconds() - since));
}

/* The runner's half of stopping: the tokens at which generation ends. Whether the model ever says one
 * is up to its weights, and that is all that base and chat differ in. */
static bool is_stop(const Session *s, int id) {
    const Header *h = s->model->file.header;
    if (s->chat) return id == (int)h->im_end || id == (int)h->endoftext;
    for (uint32_t i = 0; i < h->n_eos; i++) if (id == (int)h->eos[i]) return true;
    return false;
}

/* log_sum_exp of the logits, which no weights of a real model make infinite. */
static double checked_sum(const Session *s, const float *logits) {
    double sum = log_sum_exp(logits, s->model->vocab_size);
    if (!isfinite(sum)) die(1, "the logits are not numbers, so its weights cannot be right: %s: export it again", s->model->file.path);
    return sum;
}

/* Nothing is dropped to make it fit. */
static void check_room(const Session *s) {
    bool later = s->run.position > 0;
    if (s->history.n > (size_t)s->run.context)
        die(1, "the %s is %zu tokens, the context has room for %d: -c: raise it, or %s", later ? "conversation" : "prompt",
            s->history.n, s->run.context, later ? "begin a new one" : "shorten the prompt");
}

/* Reads the part of the history that the cache does not have. Returns the logits after its last
 * token, or NULL if interrupted. */
static const float *read_history(Session *s) {
    Run *run = &s->run;
    const float *logits = NULL;
    double start = seconds();
    check_room(s);
    int begin = run->position, end = (int)s->history.n;
    while (run->position < end && !interrupted) {
        int n = min_int(BATCH, end - run->position);
        logits = forward(run, s->history.id + run->position, n, run->position + n == end);
        if (end - begin > BATCH) progress(run->position - begin, end - begin, start);
    }
    if (interrupted && end - begin > BATCH) progress(end, end, start);
    return interrupted ? NULL : logits;
}

/* One turn: reads what is new in the history, then chooses a token at a time, until a rule says
 * stop. A chosen token is in the history at once, in the cache when the next one is asked for. */
static Turn generate(Session *s) {
    const Header *h = s->model->file.header;
    int vocab_size = s->model->vocab_size;
    Turn turn = { .reason = TOKEN_LIMIT, .n_prompt = (int)s->history.n - s->run.position };
    double start = seconds();
    s->output.text.n = s->output.released = 0;
    const float *logits = read_history(s);
    double middle = seconds();
    for (;;) {
        if (interrupted || !logits) { turn.reason = INTERRUPTED; break; }
        if (turn.n_new == s->max_tokens) break;
        if (turn.n_new > 0) {
            if (s->run.position == s->run.context) { turn.reason = CONTEXT_FULL; break; }
            logits = forward(&s->run, &s->history.id[s->run.position], 1, 1);
        }
        if (s->logits) write_bytes(s->logits, logits, (size_t)vocab_size * sizeof *logits);
        double total = checked_sum(s, logits), p_im_end = exp(logits[h->im_end] - total);
        int id = sample(&s->sampler, logits, vocab_size, &s->history);
        s->p_im_end[turn.n_new++] = (float)p_im_end;
        push_id(&s->history, id);
        if (s->options->watch)
            print_row(&s->output, turn.n_new, id, exp(logits[id] - total), p_im_end, exp(logits[h->endoftext] - total));
        if (is_stop(s, id) && !s->options->ignore_stop && !s->options->compare) { turn.reason = STOP_TOKEN; turn.id = id; break; }
        size_t size;
        const unsigned char *bytes = token_bytes(&s->model->tokenizer, id, &size);
        if ((turn.text = write_output(&s->output, bytes, size))) { turn.reason = STOP_TEXT; break; }
    }
    end_output(&s->output);
    turn.prompt_seconds = middle - start;
    turn.new_seconds = seconds() - middle;
    return turn;
}

/* A special token's text; in a file that lies it may be any. */
static void print_token(const Tokenizer *t, FILE *out, int id) {
    size_t size;
    const unsigned char *bytes = token_bytes(t, id, &size);
    print_visible(t, out, (const char *)bytes, size, ONE_LINE, 60);
}

/* The new token, of the first n, at which P(<|im_end|>) was highest. */
static int highest_im_end(const Session *s, int n) {
    int best = 0;
    for (int i = 1; i < n; i++) if (s->p_im_end[i] > s->p_im_end[best]) best = i;
    return best;
}

static void print_probability(FILE *out, double p) { fprintf(out, "%.*g", p < 0.01 ? 2 : 4, p); }

static void print_reason(FILE *out, const Session *s, const Turn *turn) {
    const Tokenizer *t = &s->model->tokenizer;
    switch (turn->reason) {
    case STOP_TOKEN: print_token(t, out, turn->id); break;
    case STOP_TEXT:
        fputs("--stop \"", out);
        write_piece(t, out, (const unsigned char *)turn->text->data, turn->text->n);
        fputc('"', out);
        break;
    case TOKEN_LIMIT: fprintf(out, "-n %d", s->max_tokens); break;
    case CONTEXT_FULL: fputs("context full", out); break;
    case INTERRUPTED: fputs("interrupted", out); break;
    }
}

static double rate(int n, double time) { return n > 0 && time > 0 ? n / time : 0; }

/* The two lines after a turn, on standard error: why it ended, and how fast it was. */
static void print_closing(const Session *s, const Turn *turn) {
    fputs("stopped: ", stderr);
    print_reason(stderr, s, turn);
    fprintf(stderr, " after %d tokens; ", turn->n_new);
    int at = highest_im_end(s, turn->n_new), last = max_int(turn->n_new - 1, 0);
    double p = s->p_im_end[at];
    if (turn->n_new == 0) fputs("nothing was generated", stderr);
    else if (turn->reason == STOP_TOKEN) {
        bool im_end = turn->id == (int)s->model->file.header->im_end;
        fprintf(stderr, "P(<|im_end|>) was ");
        print_probability(stderr, s->p_im_end[last]);
        fputs(im_end ? " there: the model ended its turn" : " there: it ended a document, not a turn", stderr);
    } else if (p < 0.5) {
        fputs(p < 0.01 ? "P(<|im_end|>) never passed " : "P(<|im_end|>) came to ", stderr);
        print_probability(stderr, p);
        fprintf(stderr, p < 0.01 ? " (token %d): it saw no end" : " at token %d: it thought of an end there", at + 1);
    } else {
        for (at = 0; s->p_im_end[at] < 0.5; ) at++;
        fputs("P(<|im_end|>) was ", stderr);
        print_probability(stderr, s->p_im_end[at]);
        fprintf(stderr, " at token %d: it would have ended its turn there", at + 1);
    }
    fprintf(stderr, "\nspeed: prompt %d tokens, %.1f tok/s; new %d tokens, %.1f tok/s; seed %llu\n",
            turn->n_prompt, rate(turn->n_prompt, turn->prompt_seconds),
            turn->n_new, rate(turn->n_new - 1, turn->new_seconds), (unsigned long long)s->options->seed);
}

/* ---------------------------------------------------------------------------------------------
 * Chat
 * ------------------------------------------------------------------------------------------- */

/* ChatML is <|im_start|>role\ncontent<|im_end|>\n, turn after turn. This writes a turn as far as its
 * content. Role and content are encoded as one plain text: a newline that opens the content may merge
 * with the one after the role, and an <|im_end|> that a user types stays text. */
static void open_turn(Session *s, const char *role, const char *content, size_t n) {
    Text text = { 0 };
    push_bytes(&text, role, strlen(role));
    push_bytes(&text, "\n", 1);
    push_bytes(&text, content, n);
    push_id(&s->history, (int)s->model->file.header->im_start);
    encode(&s->model->tokenizer, text.data, text.n, false, &s->history);
    free(text.data);
}

/* However a turn ended, in the conversation it is closed with <|im_end|> and a newline. The last
 * token the model chose is not in the cache yet, so it can still become <|im_end|>. */
static void close_turn(Session *s) {
    const Header *h = s->model->file.header;
    int last = s->history.id[s->history.n - 1];
    if (last == (int)h->im_end || last == (int)h->endoftext) s->history.n--;
    push_id(&s->history, (int)h->im_end);
    encode(&s->model->tokenizer, "\n", 1, false, &s->history);
}

/* Adds a prompt to the history: as a turn of a chat, or in place of all that was before. */
static void add_prompt(Session *s, const char *text, size_t n) {
    const Header *h = s->model->file.header;
    if (!s->chat) {
        s->history.n = 0;
        s->run.position = 0;
        encode(&s->model->tokenizer, text, n, true, &s->history);
        if (s->history.n == 0) die(1, "the prompt is empty: -p: Qwen has no start token, a base model needs a text to continue");
        return;
    }
    if (s->history.n > 0) close_turn(s);    // the model's
    else {
        const char *system = s->options->system;
        size_t size = system ? strlen(system) : h->system_size;
        if (size > 0) { open_turn(s, "system", system ? system : h->system, size); close_turn(s); }
    }
    open_turn(s, "user", text, n);
    close_turn(s);
    open_turn(s, "assistant", "", 0);       // left open, for the model to write
}

/* ---------------------------------------------------------------------------------------------
 * Commands
 * ------------------------------------------------------------------------------------------- */

static bool chat_mode(const Options *o, const Model *m) {
    bool chat = o->mode ? strcmp(o->mode, "chat") == 0 : m->file.header->kind == 1;
    if (chat && !m->file.header->chatml)
        die(1, "its chat template is not ChatML: %s: use -m base", m->file.path);
    return chat;
}

/* More than the machine's memory works, through the disk, but slowly: said, not refused. */
static void warn_memory(const Run *r) {
    const Model *m = r->model;
    double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    double cache = 2.0 * sizeof(float) * m->n_layers * (double)r->context * m->kv_dim;
    if ((double)m->file.size > memory)
        fprintf(stderr, "%s: note: %s is %.1f GB, this machine's memory %.1f GB: it will be read from disk again and again\n",
                program, m->file.path, (double)m->file.size * 1e-9, memory * 1e-9);
    if (cache > memory)
        fprintf(stderr, "%s: note: a full cache of %d positions takes %.1f GB, this machine's memory is %.1f GB: -c sets a smaller one\n",
                program, r->context, cache * 1e-9, memory * 1e-9);
    if (r->context > (int)m->file.header->max_positions)
        fprintf(stderr, "%s: note: -c %d is more than the %u positions the model was made for\n",
                program, r->context, m->file.header->max_positions);
}

static Session new_session(const Options *o, const Model *m, Pool *pool, FILE *logits) {
    const Header *h = m->file.header;
    Session s = { .options = o, .model = m, .chat = chat_mode(o, m), .logits = logits };
    if (o->system && !s.chat) die(2, "a base model's prompt has no system message: -s: add -m chat");
    int context = o->context == UNSET ? (int)h->max_positions : (int)o->context;
    s.max_tokens = o->max_tokens == UNSET ? 512 : (int)o->max_tokens;
    s.run = new_run(m, pool, context);
    warn_memory(&s.run);
    bool sampling = h->do_sample || !isnan(o->temperature) || !isnan(o->top_p) || o->top_k != UNSET;
    s.sampler = (Sampler){
        .temperature = isnan(o->temperature) ? h->temperature : (float)o->temperature,
        .top_k = o->top_k == UNSET ? (int)h->top_k : (int)o->top_k,
        .top_p = isnan(o->top_p) ? h->top_p : (float)o->top_p,
        .penalty = isnan(o->penalty) ? h->repetition_penalty : (float)o->penalty,
        .random = o->seed,
        .candidates = allocate((size_t)m->vocab_size, sizeof(Candidate)),
    };
    s.sampler.greedy = !sampling || o->greedy || s.sampler.temperature == 0;
    s.output = (Output){ .tokenizer = &m->tokenizer, .silent = o->watch || o->compare, .terminal = isatty(1), .stops = o->stops };
    s.p_im_end = allocate((size_t)min_int(s.max_tokens, context) + 1, sizeof(float));
    return s;
}

/* --score: what the model thinks of each token of the prompt, given those before it. */
static void score(Session *s) {
    const Header *h = s->model->file.header;
    const int *ids = s->history.id;
    int n = (int)s->history.n, vocab_size = s->model->vocab_size;
    double sum = 0;
    check_room(s);
    print_row(&s->output, 1, ids[0], NAN, NAN, NAN);
    for (int begin = 0; begin < n && !interrupted; begin = s->run.position) {
        int size = min_int(LANES, n - begin);                       // few at a time: the table appears as it is computed
        const float *logits = forward(&s->run, ids + begin, size, size);
        if (s->logits) write_bytes(s->logits, logits, (size_t)size * vocab_size * sizeof *logits);
        for (int i = begin + 1; i <= begin + size && i < n; i++, logits += vocab_size) {
            double total = checked_sum(s, logits);
            sum += total - logits[ids[i]];
            print_row(&s->output, i + 1, ids[i], exp(logits[ids[i]] - total), exp(logits[h->im_end] - total), exp(logits[h->endoftext] - total));
        }
    }
    if (interrupted) exit(130);
    if (n == 1) puts("perplexity undefined over 0 tokens");
    else printf("perplexity %.6g over %d tokens\n", exp(sum / (n - 1)), n - 1);
    flush_output();
}

/* One of --compare's four cases: the text on one line, and how it ended. */
static void print_case(const Session *s, const char *title, const Turn *turn, const Text *text) {
    struct winsize window;
    int width = isatty(1) && ioctl(1, TIOCGWINSZ, &window) == 0 && window.ws_col >= 40 ? window.ws_col : 100;
    printf("  %-14s  \"", title);
    print_visible(&s->model->tokenizer, stdout, text->data, text->n, ONE_LINE, width - 20);
    printf("\"\n%18s%d tokens; stopped: ", "", turn->n_new);
    print_reason(stdout, s, turn);
    if (turn->n_new > 0) {
        fputs("; highest P(<|im_end|>) ", stdout);
        print_probability(stdout, s->p_im_end[highest_im_end(s, turn->n_new)]);
    }
    putchar('\n');
    flush_output();
}

/* --compare, one of the two models: it runs once without stopping; where it stops is a prefix. */
static void compare(Session *s) {
    printf("%s weights: %s\n", s->model->file.header->kind ? "chat" : "base", s->model->file.path);
    flush_output();
    Turn on = generate(s), stopping = on;
    Text prefix = { 0 };
    for (int i = 0; i < on.n_new; i++) {
        size_t size;
        int id = s->history.id[s->history.n - (size_t)on.n_new + (size_t)i];
        const unsigned char *bytes = token_bytes(&s->model->tokenizer, id, &size);
        if (is_stop(s, id)) { stopping.reason = STOP_TOKEN; stopping.id = id; stopping.n_new = i + 1; break; }
        push_bytes(&prefix, bytes, size);
    }
    print_case(s, "runner stops", &stopping, stopping.reason == STOP_TOKEN ? &prefix : &s->output.text);
    print_case(s, "runner runs on", &on, &s->output.text);
    print_closing(s, &on);
    free(prefix.data);
}

static void print_text(const Model *m, const char *label, const char *s, size_t n) {
    fputs(label, stdout);
    print_visible(&m->tokenizer, stdout, s, n, ONE_LINE, 800);
    putchar('\n');
}

static void print_info(const Model *m) {
    const Header *h = m->file.header;
    print_text(m, "name             ", h->name, strlen(h->name));
    printf("kind             %s%s\n", h->kind ? "chat" : "base", h->chatml ? "" : ", without a ChatML template");
    printf("weights          %s, %.1f MB\n", h->weight_type == BF16 ? "bf16" : "int8", (double)h->weights_size * 1e-6);
    printf("dim              %d\nhidden_dim       %d\nn_layers         %d\nn_heads          %d\nn_kv_heads       %d\nhead_dim         %d\n",
           m->dim, m->hidden_dim, m->n_layers, m->n_heads, m->n_kv_heads, m->head_dim);
    printf("vocab_size       %d, tokenizer %u, %s\n", m->vocab_size, m->tokenizer.n_vocab, h->tied ? "output tied to the embedding" : "output of its own");
    printf("context          %u\nrope_theta       %g\nrms_eps          %g\n", h->max_positions, h->rope_theta, (double)h->rms_eps);
    printf("ends at          ");
    for (uint32_t i = 0; i < h->n_eos; i++) {
        printf("%u ", h->eos[i]);
        print_token(&m->tokenizer, stdout, (int)h->eos[i]);
        fputs(i + 1 < h->n_eos ? ", " : "\n", stdout);
    }
    printf("sampling         %s: temperature %g, top-k %u, top-p %g, repetition penalty %g\n", h->do_sample ? "on" : "off (greedy)",
           (double)h->temperature, h->top_k, (double)h->top_p, (double)h->repetition_penalty);
    print_text(m, "system message   ", h->system_size ? h->system : "none", h->system_size ? h->system_size : 4);
    print_text(m, "Unicode          ", m->tokenizer.unicode_version, strnlen(m->tokenizer.unicode_version, 16));
    flush_output();
}

/* Zeros up to where the next tensor may begin. */
static void write_padding(FILE *file) {
    static const char zeros[64];
    write_bytes(file, zeros, (64 - (size_t)ftello(file) % 64) % 64);
}

/* Norms and biases stay as they are. Of a matrix, each group of 64 weights in a row becomes whole
 * numbers from -127 to 127 and one scale. */
static void write_quantized(void *argument, const Matrix *m) {
    FILE *file = argument;
    write_padding(file);
    if (m->type == F32) { write_bytes(file, m->data, m->row_size); return; }
    size_t row_size = matrix_row_size(INT8, m->cols);
    float *row = allocate((size_t)m->cols, sizeof *row);
    unsigned char *data = allocate(row_size, 1);
    for (int r = 0; r < m->rows; r++) {
        if (interrupted) exit(130);
        int8_t *w = (int8_t *)data;
        float *scale = (float *)(void *)(data + scales_offset(m->cols));
        widen(row, m, r);
        for (int begin = 0; begin < m->cols; begin += GROUP, scale++) {
            int size = min_int(GROUP, m->cols - begin);
            *scale = group_scale(row + begin, size, INT8_MAX);
            for (int i = begin; i < begin + size; i++) w[i] = (int8_t)quantize_value(row[i], *scale, INT8_MAX);
        }
        write_bytes(file, data, row_size);
    }
    free(row);
    free(data);
}

/* --quantize: the same model with int8 matrices. */
static void quantize(Model *m, const char *path) {
    Header h = *m->file.header;
    if (h.weight_type != BF16) die(1, "its weights are int8 already: %s: quantize the bf16 file", m->file.path);
    FILE *file = create_file(path);
    Cursor at = { m->file.data, h.weights_offset, BF16, write_quantized, file };
    write_bytes(file, m->file.data, h.weights_offset);                  // the header, once more at the end
    walk_tensors(m, &at);
    h.weight_type = INT8;
    h.group_size = GROUP;
    h.file_size = (uint64_t)ftello(file);
    h.weights_size = h.file_size - h.weights_offset;
    rewind(file);
    write_bytes(file, &h, sizeof h);
    finish_file(file, path);
    fprintf(stderr, "%s: %s: int8, %.1f MB (bf16: %.1f MB)\n", program, path, (double)h.file_size * 1e-6, (double)m->file.size * 1e-6);
}

/* ---------------------------------------------------------------------------------------------
 * Command line
 * ------------------------------------------------------------------------------------------- */

static const char usage[] =
    "usage: ./qwen MODEL.bin [options]\n"
    "\n"
    "prompt\n"
    "  -p, --prompt TEXT       a prompt; repeated, the next turns of the conversation. Without it standard input\n"
    "  -s, --system TEXT       system message of a chat (default: the checkpoint's own; \"\" for no system turn)\n"
    "  -m, --mode base|chat    how the prompt is framed and where generation ends (default: the checkpoint's kind)\n"
    "      --ids \"ID ID ...\"   the prompt as token ids, taken as they are, without framing\n"
    "stopping\n"
    "  -n, --max-tokens N      at most N new tokens a turn, the stop token counted (default 512)\n"
    "      --stop TEXT         also stop where this text appears in the output (repeatable)\n"
    "      --ignore-stop       print stop tokens and run on\n"
    "      --compare BASE.bin  the same prompt through BASE.bin and MODEL.bin, each stopping and not stopping\n"
    "      --watch             a line per new token: the token, its probability, P(<|im_end|>), P(<|endoftext|>)\n"
    "      --score             generate nothing: that table for the framed prompt itself, and its perplexity\n"
    "sampling (defaults: the checkpoint's own generation_config)\n"
    "      --temp T  --top-k K  --top-p P  --repeat-penalty R  --seed S\n"
    "      --greedy            always the most likely token\n"
    "machine\n"
    "  -c, --context N         positions kept (default: the checkpoint's limit)\n"
    "  -t, --threads N         (default: the processors available)\n"
    "files\n"
    "      --info              what MODEL.bin is\n"
    "      --quantize OUT.bin  write an int8 copy\n"
    "      --logits OUT.f32    the raw float32 logits of every step, for experiments\n"
    "  -h, --help\n";

typedef struct {
    const char *name;                       // "-n, --max-tokens" is { "max-tokens", 'n' }
    char letter;
    enum { SWITCH, TEXT, TEXTS, WHOLE, REAL } kind;
    void *target;                           // bool, const char *, Texts, uint64_t, double
    double least, most;                     // of a number
} Flag;

static void set_flag(const Flag *flag, const char *given, char *value) {
    char *end = NULL;
    errno = 0;
    switch (flag->kind) {
    case SWITCH: *(bool *)flag->target = true; return;
    case TEXT: *(const char **)flag->target = value; return;
    case TEXTS: push_text(flag->target, (Text){ value, strlen(value), 0 }); return;
    case WHOLE: {
        unsigned long long whole = strtoull(value, &end, 10);
        if (*value < '0' || *value > '9' || *end || errno || (double)whole < flag->least || (double)whole > flag->most)
            die(2, "not a whole number from %.0f to %.0f: %s %s", flag->least, flag->most, given, value);
        *(uint64_t *)flag->target = whole;
        return;
    }
    case REAL: {
        double real = strtod(value, &end);
        if (end == value || *end || !(real >= flag->least && real <= flag->most))
            die(2, "not a number from %g to %g: %s %s", flag->least, flag->most, given, value);
        *(double *)flag->target = real;
        return;
    }
    }
}

static Options parse_options(int argc, char **argv) {
    Options o = { .max_tokens = UNSET, .context = UNSET, .threads = UNSET, .top_k = UNSET, .seed = UNSET,
                  .temperature = NAN, .top_p = NAN, .penalty = NAN };
    const Flag flags[] = {
        { "prompt", 'p', TEXTS, &o.prompts, 0, 0 },
        { "system", 's', TEXT, &o.system, 0, 0 },
        { "mode", 'm', TEXT, &o.mode, 0, 0 },
        { "ids", 0, TEXT, &o.ids, 0, 0 },
        { "max-tokens", 'n', WHOLE, &o.max_tokens, 0, INT32_MAX },
        { "stop", 0, TEXTS, &o.stops, 0, 0 },
        { "ignore-stop", 0, SWITCH, &o.ignore_stop, 0, 0 },
        { "compare", 0, TEXT, &o.compare, 0, 0 },
        { "watch", 0, SWITCH, &o.watch, 0, 0 },
        { "score", 0, SWITCH, &o.score, 0, 0 },
        { "temp", 0, REAL, &o.temperature, 0, 1e6 },
        { "top-k", 0, WHOLE, &o.top_k, 0, INT32_MAX },
        { "top-p", 0, REAL, &o.top_p, 0, 1 },
        { "repeat-penalty", 0, REAL, &o.penalty, 1e-6, 1e6 },
        { "seed", 0, WHOLE, &o.seed, 0, 1.8e19 },
        { "greedy", 0, SWITCH, &o.greedy, 0, 0 },
        { "context", 'c', WHOLE, &o.context, 1, 1 << 24 },
        { "threads", 't', WHOLE, &o.threads, 1, 1024 },
        { "info", 0, SWITCH, &o.info, 0, 0 },
        { "quantize", 0, TEXT, &o.quantize, 0, 0 },
        { "logits", 0, TEXT, &o.logits, 0, 0 },
        { "help", 'h', SWITCH, &o.help, 0, 0 },
    };
    for (int i = 1; i < argc; i++) {
        const char *given = argv[i];
        const Flag *flag = NULL;
        for (size_t k = 0; k < sizeof flags / sizeof *flags; k++)
            if ((given[0] == '-' && given[1] == '-' && strcmp(given + 2, flags[k].name) == 0)
                || (given[0] == '-' && flags[k].letter && given[1] == flags[k].letter && !given[2])) flag = &flags[k];
        if (flag && flag->kind != SWITCH && i + 1 == argc) die(2, "a value is missing: %s: see --help", given);
        if (flag) set_flag(flag, given, flag->kind == SWITCH ? NULL : argv[++i]);
        else if (given[0] == '-') die(2, "no such flag: %s: see --help", given);
        else if (o.model) die(2, "more than one model file: %s and %s: a prompt goes after -p", o.model, given);
        else o.model = given;
    }
    return o;
}

/* Refuses what makes no sense together. */
static void check_options(const Options *o) {
    if (!o->model) die(2, "no model: MODEL.bin: make one with export.py, and see --help");
    if (o->mode && strcmp(o->mode, "base") != 0 && strcmp(o->mode, "chat") != 0)
        die(2, "neither base nor chat: -m %s", o->mode);
    for (size_t i = 0; i < o->stops.n; i++)
        if (o->stops.text[i].n == 0) die(2, "an empty text is everywhere: --stop: give the text to stop at");
    if (o->ids && !o->ids[strspn(o->ids, " \t\r\n")]) die(2, "no ids: --ids: give at least one");
    const struct { bool both; const char *flags; } clashes[] = {
        { o->ids && o->prompts.n > 0, "--ids and -p" },
        { o->ids && o->system, "--ids and -s" },
        { o->ids && o->compare, "--ids and --compare" },
        { o->system && o->mode && strcmp(o->mode, "base") == 0, "-s and -m base" },
        { o->watch && o->score, "--watch and --score" },
        { o->score && o->ignore_stop, "--score and --ignore-stop" },
        { o->score && o->stops.n > 0, "--score and --stop" },
        { o->score && o->prompts.n > 1, "--score and a second -p" },
        { o->compare && o->score, "--compare and --score" },
        { o->compare && o->watch, "--compare and --watch" },
        { o->compare && o->logits, "--compare and --logits" },
        { o->compare && o->ignore_stop, "--compare and --ignore-stop" },
        { o->compare && o->prompts.n > 1, "--compare and a second -p" },
        { (o->info || o->quantize) && (o->prompts.n > 0 || o->ids || o->compare || o->watch || o->score || o->logits),
          "--info or --quantize and a prompt or another command" },
        { o->info && o->quantize, "--info and --quantize" },
    };
    for (size_t i = 0; i < sizeof clashes / sizeof *clashes; i++)
        if (clashes[i].both) die(2, "these make no sense together: %s: leave one out", clashes[i].flags);
}

/* Standard input as one prompt; one final newline is the shell's, not the prompt's. */
static Text read_prompt(void) {
    interrupted = 1;
    Text text = read_input();
    interrupted = 0;
    if (text.n > 0 && text.data[text.n - 1] == '\n') text.n--;
    return text;
}

/* What the command line wants done with the prompt that is in the history now. */
static void run_prompt(Session *s) {
    if (s->options->compare) compare(s);
    else if (s->options->score) score(s);
    else {
        Turn turn = generate(s);
        print_closing(s, &turn);
    }
}

/* At a terminal: in chat mode a conversation, in base mode each line a fresh prompt. */
static void converse(Session *s) {
    char *line = NULL;
    size_t capacity = 0;
    for (;;) {
        interrupted = 1;
        fputs("> ", stderr);
        ssize_t n = getline(&line, &capacity, stdin);
        interrupted = 0;
        if (n < 0) {
            fputc('\n', stderr);
            free(line);
            return;
        }
        if (n > 0 && line[n - 1] == '\n') n--;
        if (n == 0) continue;
        add_prompt(s, line, (size_t)n);
        run_prompt(s);
    }
}

/* Those that this process may use (taskset, a container), where the system tells. */
static int available_processors(void) {
#ifdef CPU_COUNT
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return max_int(1, CPU_COUNT(&set));
#endif
    return max_int(1, (int)sysconf(_SC_NPROCESSORS_ONLN));
}

int main(int argc, char **argv) {
    program = "qwen";
    signal(SIGPIPE, SIG_IGN);               // a closed pipe is an error like others, for flush_output
    Options o = parse_options(argc, argv);
    if (o.help) { fputs(usage, stdout); flush_output(); return 0; }
    check_options(&o);
    if (o.seed == UNSET) o.seed = (uint64_t)time(NULL);
    if (o.threads == UNSET) o.threads = (uint64_t)available_processors();
    if (o.compare) {
        if (!o.mode) o.mode = "chat";
        if (isnan(o.penalty)) o.penalty = 1;
        if (isnan(o.temperature) && isnan(o.top_p) && o.top_k == UNSET) o.greedy = true;
    }
    // A file opened below must not get the number of a standard stream that is closed.
    for (int i = 0; i < 3; i++) if (fcntl(i, F_GETFD) < 0 && open("/dev/null", O_RDONLY) < 0) return 1;
    struct sigaction action = { .sa_handler = on_interrupt, .sa_flags = SA_RESTART };
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    atexit(remove_unfinished);

    static Model models[2];                 // BASE.bin and MODEL.bin; without --compare, the second alone
    int first = o.compare ? 0 : 1;
    if (o.compare) models[0] = map_model(o.compare);
    models[1] = map_model(o.model);
    if (o.info) print_info(&models[1]);
    if (o.quantize) quantize(&models[1], o.quantize);
    if (o.info || o.quantize) return 0;
    for (int i = first; i < 2; i++) chat_mode(&o, &models[i]);      // refuses before anything is printed

    bool conversation = !o.ids && o.prompts.n == 0 && isatty(0) && !o.score && !o.compare;
    if (!o.ids && o.prompts.n == 0 && !conversation) push_text(&o.prompts, read_prompt());
    FILE *logits = o.logits ? create_file(o.logits) : NULL;
    Pool *pool = start_pool((int)o.threads);
    for (int i = first; i < 2 && !interrupted; i++) {
        static Session s;
        s = new_session(&o, &models[i], pool, logits);
        if (conversation) converse(&s);
        if (o.ids) { read_ids(o.ids, "--ids", models[i].file.header->vocab_size, &s.history); run_prompt(&s); }
        for (size_t k = 0; k < o.prompts.n; k++) {
            interrupted = 0;                                        // a Ctrl-C ended the turn before
            add_prompt(&s, o.prompts.text[k].data, o.prompts.text[k].n);
            run_prompt(&s);
        }
    }
    if (logits) finish_file(logits, o.logits);
    return interrupted ? 130 : 0;
}
