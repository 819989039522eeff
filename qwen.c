/* qwen.c: Qwen1.5 inference in one plain C file.
 *
 * A base model and a chat model run through the same code; only their weights differ. This file
 * runs both and shows why one of them stops. It has three parts:
 *
 *     I.   The model      All of Qwen and all of stopping, in plain loops. Read it from the top:
 *                         maths, forward, sampler, generate, chat. After it you know the model.
 *     II.  The machine    For speed and safety; skip it at first. The file and its checks, threads,
 *                         fast versions of the two slow steps, int8.
 *     III. The program    Text on a terminal, tables, commands, flags, main.
 *
 * tokenizer.c is included below and brings: Text and Ids (growing arrays of bytes and token ids,
 * with push_bytes and push_id), die (prints one error line and exits), Header and File (a mapped
 * model file), Tokenizer, encode (text to ids) and token_bytes (an id to text).
 *
 *     To add an architecture, touch Layer, list_tensors and forward here, and export.py.
 *     To add a sampler, write a stage beside keep_min_p, call it in sample and add a flag.
 *     To add a weight type, add a row to weight_types in Part II.
 */
#define QWEN_C
#include "tokenizer.c"

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>

/* =============================================================================================
 * Part I. The model
 * ========================================================================================== */

enum { BATCH = 256 };                       // tokens that go through the layers together, at most
enum { SCORED = 32 };                       // rows of logits that are computed together, at most

typedef struct WeightType WeightType;       // bf16 or int8: see weight_types in Part II

typedef struct {
    const WeightType *type;
    int rows, cols;
    size_t row_size;                        // bytes from one row to the next
    const unsigned char *data;              // [rows][row_size], in the mapped file
} Matrix;

typedef struct {                            // q_dim = n_heads * head_dim, kv_dim = n_kv_heads * head_dim
    const float *attention_norm;            // [dim]
    Matrix wq, wk, wv;                      // [q_dim][dim], [kv_dim][dim], [kv_dim][dim]
    const float *bq, *bk, *bv;              // [q_dim], [kv_dim], [kv_dim]; NULL in Qwen3
    const float *q_norm, *k_norm;           // [head_dim]; NULL except in Qwen3
    Matrix wo;                              // [dim][q_dim]
    const float *mlp_norm;                  // [dim]
    Matrix gate, up, down;                  // [hidden_dim][dim], [hidden_dim][dim], [dim][hidden_dim]
} Layer;

typedef struct {
    File file;
    const Header *header;                   // the start of the file: shape, special ids, defaults
    Tokenizer tokenizer;
    int dim, hidden_dim, n_layers, n_heads, n_kv_heads, head_dim, q_dim, kv_dim, vocab_size;
    Matrix embedding;                       // [vocab_size][dim]
    Layer *layers;                          // [n_layers]
    const float *norm;                      // [dim]
    Matrix output;                          // [vocab_size][dim]; the embedding itself if tied
} Model;

typedef struct Run Run;
struct Run {                                // one model at work: its KV cache and its buffers
    const Model *model;
    int context;                            // positions that the cache has room for
    int position;                           // positions that are filled
    float *keys, *values;                   // [n_layers][n_kv_heads][context][head_dim]
    float *x;                               // [BATCH][dim]  the residual stream
    float *normed;                          // [BATCH][dim]  its RMSNorm
    float *q, *k, *v;                       // [BATCH][q_dim], [BATCH][kv_dim], [BATCH][kv_dim]
    float *attended;                        // [BATCH][q_dim]
    float *gate, *up, *hidden;              // [BATCH][hidden_dim]
    float *delta;                           // [BATCH][dim]  what a block adds to the stream
    float *cosine, *sine;                   // [BATCH][head_dim / 2]  RoPE's angles
    float *logits;                          // [SCORED][vocab_size]
    float *row, *scores;                    // [widest matrix], [context]: scratch of the plain loops
    // The two slow steps: the plain loops of this part, or the fast ones of Part II.
    void (*matmul)(Run *r, float *out, const float *x, int n, const Matrix *w, const float *bias);
    void (*attend)(Run *r, int layer, int n);
    struct Fast *fast;                      // threads and scratch memory of the fast ones
};

/* ---- Maths ------------------------------------------------------------------------------- */

static inline float exponential(float x);   // e^x, in operations that vectorise (Part II)
static void check_finite(const Run *r, const float *x, int n);  // dies if one is not (Part II)

/* Writes a row of a matrix to out[cols] as floats. */
static void load_row(float *out, const Matrix *m, int row);

/* A bf16 is the upper half of a float: the same sign and exponent, 7 of 23 bits of fraction. */
static void load_bf16(float *out, const void *row, int cols) {
    const uint16_t *w = row;
    for (int i = 0; i < cols; i++) {
        uint32_t bits = (uint32_t)w[i] << 16;
        memcpy(&out[i], &bits, sizeof bits);
    }
}

static float dot(const float *a, const float *b, int n) {
    float sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* out[n][rows] = x[n][cols] · w[rows][cols]^T + bias[rows], for n tokens. bias may be NULL. */
static void matmul(Run *r, float *out, const float *x, int n, const Matrix *w, const float *bias) {
    for (int row = 0; row < w->rows; row++) {
        load_row(r->row, w, row);
        for (int t = 0; t < n; t++)
            out[t * w->rows + row] = dot(r->row, x + t * w->cols, w->cols) + (bias ? bias[row] : 0);
    }
}

/* RMSNorm (Zhang & Sennrich 2019) of n vectors: out[n][dim] = x / sqrt(mean(x^2) + eps) * weight. */
static void rmsnorm(float *out, const float *x, const float *weight, int n, int dim, float eps) {
    for (int t = 0; t < n; t++, x += dim, out += dim) {
        float scale = 1.0f / sqrtf(dot(x, x, dim) / (float)dim + eps);
        for (int i = 0; i < dim; i++) out[i] = weight[i] * (x[i] * scale);
    }
}

/* x[n] becomes probabilities: e^x / sum(e^x). The maximum is subtracted so that nothing overflows. */
static void softmax(float *x, int n) {
    float max = x[0], sum = 0;
    for (int i = 1; i < n; i++) max = x[i] > max ? x[i] : max;
    for (int i = 0; i < n; i++) x[i] = exponential(x[i] - max);
    for (int i = 0; i < n; i++) sum += x[i];
    for (int i = 0; i < n; i++) x[i] /= sum;
}

/* RoPE (Su et al. 2021) rotates pair i of a head by the angle position * theta^(-2i / head_dim).
 * This computes cosine and sine[n][head_dim / 2] for n positions. As in the published models, a
 * pair is (i, i + head_dim / 2) and the angle is a float. With neighbours (i, i + 1) as pairs the
 * weights would not fit: the text stays fluent and gets worse. */
static void rope_angles(float *cosine, float *sine, int position, int n, int head_dim, double theta) {
    for (int t = 0; t < n; t++)
        for (int i = 0; i < head_dim; i += 2) {
            float frequency = 1.0f / (float)pow(theta, (double)((float)i / (float)head_dim));
            float angle = (float)(position + t) * frequency;
            *cosine++ = cosf(angle);
            *sine++ = sinf(angle);
        }
}

/* Rotates x[n][n_heads][head_dim] in place. Query times key then depends only on the distance of
 * their positions, so a key is rotated once, before it goes to the cache. */
static void rope(float *x, const float *cosine, const float *sine, int n, int n_heads, int head_dim) {
    int half = head_dim / 2;
    for (int t = 0; t < n; t++, cosine += half, sine += half)
        for (int head = 0; head < n_heads; head++, x += head_dim)
            for (int i = 0; i < half; i++) {
                float a = x[i], b = x[i + half];
                x[i] = a * cosine[i] - b * sine[i];
                x[i + half] = b * cosine[i] + a * sine[i];
            }
}

/* The offset of a KV head's contiguous [context][head_dim] block in the cache. */
static size_t cache_offset(const Run *r, int layer, int kv_head) {
    const Model *m = r->model;
    return ((size_t)layer * m->n_kv_heads + kv_head) * r->context * m->head_dim;
}

/* Copies keys and values of n new positions to the cache. */
static void store(Run *r, int layer, int n) {
    const Model *m = r->model;
    for (int head = 0; head < m->n_kv_heads; head++)
        for (int t = 0; t < n; t++) {
            size_t to = cache_offset(r, layer, head) + (size_t)(r->position + t) * m->head_dim;
            int from = t * m->kv_dim + head * m->head_dim;
            memcpy(r->keys + to, r->k + from, m->head_dim * sizeof(float));
            memcpy(r->values + to, r->v + from, m->head_dim * sizeof(float));
        }
}

/* Attention of n new tokens: for each query head softmax(q·k / sqrt(head_dim)) over all keys so
 * far, and the mean of the values by these weights. Several query heads share a KV head (GQA:
 * Ainslie et al. 2023). */
static void attend(Run *r, int layer, int n) {
    const Model *m = r->model;
    int head_dim = m->head_dim, heads_per_kv = m->n_heads / m->n_kv_heads;
    for (int t = 0; t < n; t++)
        for (int head = 0; head < m->n_heads; head++) {
            size_t cache = cache_offset(r, layer, head / heads_per_kv);
            const float *q = r->q + t * m->q_dim + head * head_dim;
            const float *k = r->keys + cache, *v = r->values + cache;
            float *out = r->attended + t * m->q_dim + head * head_dim;
            int n_keys = r->position + t + 1;               // the causal mask: no key after t
            for (int i = 0; i < n_keys; i++, k += head_dim)
                r->scores[i] = dot(q, k, head_dim) / sqrtf((float)head_dim);
            softmax(r->scores, n_keys);
            for (int j = 0; j < head_dim; j++) out[j] = 0;
            for (int i = 0; i < n_keys; i++, v += head_dim)
                for (int j = 0; j < head_dim; j++) out[j] += r->scores[i] * v[j];
        }
}

/* SwiGLU (Shazeer 2020): out = silu(gate) * up, with silu(g) = g / (1 + e^-g). */
static void swiglu(float *out, const float *gate, const float *up, int n) {
    for (int i = 0; i < n; i++) out[i] = gate[i] / (1.0f + exponential(-gate[i])) * up[i];
}

static void add(float *x, const float *delta, int n) {
    for (int i = 0; i < n; i++) x[i] += delta[i];
}

/* ---- Forward ----------------------------------------------------------------------------- */

/* Reads ids[n], n <= BATCH, at the next n positions of the cache. Returns
 * logits[n_logits][vocab_size] for the last n_logits <= SCORED of them: what may follow each. */
static const float *forward(Run *r, const int *ids, int n, int n_logits) {
    const Model *m = r->model;
    float eps = m->header->rms_eps;
    for (int t = 0; t < n; t++) load_row(r->x + t * m->dim, &m->embedding, ids[t]);
    rope_angles(r->cosine, r->sine, r->position, n, m->head_dim, m->header->rope_theta);

    for (int i = 0; i < m->n_layers; i++) {
        const Layer *l = &m->layers[i];

        // x += attention(norm(x))
        rmsnorm(r->normed, r->x, l->attention_norm, n, m->dim, eps);
        r->matmul(r, r->q, r->normed, n, &l->wq, l->bq);
        r->matmul(r, r->k, r->normed, n, &l->wk, l->bk);
        r->matmul(r, r->v, r->normed, n, &l->wv, l->bv);
        if (l->q_norm) rmsnorm(r->q, r->q, l->q_norm, n * m->n_heads, m->head_dim, eps);
        if (l->k_norm) rmsnorm(r->k, r->k, l->k_norm, n * m->n_kv_heads, m->head_dim, eps);
        rope(r->q, r->cosine, r->sine, n, m->n_heads, m->head_dim);
        rope(r->k, r->cosine, r->sine, n, m->n_kv_heads, m->head_dim);
        store(r, i, n);                     // here the KV cache is written
        r->attend(r, i, n);
        r->matmul(r, r->delta, r->attended, n, &l->wo, NULL);
        add(r->x, r->delta, n * m->dim);

        // x += mlp(norm(x))
        rmsnorm(r->normed, r->x, l->mlp_norm, n, m->dim, eps);
        r->matmul(r, r->gate, r->normed, n, &l->gate, NULL);
        r->matmul(r, r->up, r->normed, n, &l->up, NULL);
        swiglu(r->hidden, r->gate, r->up, n * m->hidden_dim);
        r->matmul(r, r->delta, r->hidden, n, &l->down, NULL);
        add(r->x, r->delta, n * m->dim);
    }
    check_finite(r, r->x, n * m->dim);
    r->position += n;
    if (n_logits == 0) return NULL;
    rmsnorm(r->normed, r->x + (n - n_logits) * m->dim, m->norm, n_logits, m->dim, eps);
    r->matmul(r, r->logits, r->normed, n_logits, &m->output, NULL);
    check_finite(r, r->logits, n_logits * m->vocab_size);
    return r->logits;
}

/* ---- Sampler ----------------------------------------------------------------------------- */

typedef struct { int id; float logit, p; } Candidate;

typedef struct {
    bool greedy;
    float temperature, top_p, min_p, penalty;
    int top_k;                              // 0: off
    uint64_t random;                        // state of the random numbers, at first the seed
    float *logits;                          // [vocab_size]  after the penalty
    Candidate *candidates;                  // [vocab_size]
    float *probabilities;                   // [vocab_size]  of the candidates
} Sampler;

/* The repetition penalty (Keskar et al. 2019): out[n] = logits[n], less likely for each id that
 * stands in the history, once however often it stands there. */
static void penalise(float *out, const float *logits, int n, const Ids *history, float penalty) {
    memcpy(out, logits, n * sizeof *out);
    for (size_t i = 0; i < history->n; i++) {
        int id = history->id[i];
        out[id] = logits[id] < 0 ? logits[id] * penalty : logits[id] / penalty;
    }
}

static int most_likely(const float *logits, int n) {
    int best = 0;
    for (int i = 1; i < n; i++) if (logits[i] > logits[best]) best = i;
    return best;
}

static int likelier_first(const void *a, const void *b) {
    const Candidate *x = a, *y = b;
    return x->logit != y->logit ? (x->logit < y->logit) - (x->logit > y->logit) : x->id - y->id;
}

/* Fills c with the k most likely of n tokens and with what is tied with the last of them; k = 0:
 * with all. Returns how many. When the list is full, it is sorted and cut, so it stays short. */
static int keep_top_k(Candidate *c, const float *logits, int n, int k) {
    float least = -INFINITY;                // a logit below this is not among the k highest
    int kept = 0, full = 2 * k + 100;
    for (int i = 0; i < n; i++) {
        if (logits[i] >= least) c[kept++] = (Candidate){ i, logits[i], 0 };
        if (k == 0 || k >= n || kept <= k || (kept < full && i < n - 1)) continue;
        qsort(c, kept, sizeof *c, likelier_first);
        least = c[k - 1].logit;
        while (c[kept - 1].logit < least) kept--;
        full = 2 * kept + 100;
    }
    return kept;
}

/* Nucleus sampling (Holtzman et al. 2020): as few of the n most likely as have top_p together, at
 * least one. What is below (1 - top_p) / n cannot be among them and need not be sorted. */
static int keep_top_p(Candidate *c, int n, float top_p) {
    if (top_p >= 1) return n;
    int kept = 0, likely = 0;
    float sum = 0, least = (1 - top_p) / (float)n;
    for (int i = 0; i < n; i++) if (c[i].p >= least) c[likely++] = c[i];
    qsort(c, likely, sizeof *c, likelier_first);
    do sum += c[kept++].p; while (kept < likely && sum < top_p);
    return kept;
}

/* Min-p (Nguyen et al. 2024): those at least min_p times as likely as the most likely one. */
static int keep_min_p(Candidate *c, int n, float min_p) {
    int kept = 0;
    float max = 0;
    for (int i = 0; i < n; i++) max = c[i].p > max ? c[i].p : max;
    for (int i = 0; i < n; i++) if (c[i].p >= min_p * max) c[kept++] = c[i];
    return kept;
}

/* A random number in [0, 1): splitmix64 (Steele, Lea & Flood 2014), its upper 53 bits. */
static double random_uniform(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

/* Chooses the next token from logits[n]. The order of the stages is that of transformers. It
 * matters: temperature before top-p lets a high temperature widen the nucleus, and top-p after
 * top-k shares out what top-k has left. */
static int sample(Sampler *s, const float *logits, int n, const Ids *history) {
    Candidate *c = s->candidates;
    float *p = s->probabilities;
    penalise(s->logits, logits, n, history, s->penalty);
    if (s->greedy) return most_likely(s->logits, n);

    int kept = keep_top_k(c, s->logits, n, s->top_k);
    for (int i = 0; i < kept; i++) p[i] = c[i].logit / s->temperature;
    softmax(p, kept);
    for (int i = 0; i < kept; i++) c[i].p = p[i];
    kept = keep_top_p(c, kept, s->top_p);
    kept = keep_min_p(c, kept, s->min_p);

    double sum = 0;                         // draw: the kept ones share out the interval [0, sum)
    for (int i = 0; i < kept; i++) sum += c[i].p;
    double left = random_uniform(&s->random) * sum;
    int i = 0;
    while (i < kept - 1 && (left -= c[i].p) >= 0) i++;
    return c[i].id;
}

/* ---- Generate and stop --------------------------------------------------------------------- */

typedef struct Output Output;               // where text goes: standard output, --stop (Part III)

typedef struct Thought Thought;             // what the model thought of stopping (Part III)

typedef struct {                            // a conversation, or a text that is continued
    const Model *model;
    bool chat;                              // frames prompts as ChatML, stops at any end of a turn
    bool ignore_stop;                       // runs on where a stop token was chosen
    bool no_think;                          // a reasoning model answers at once
    const char *system;                     // --system, or NULL for the checkpoint's own
    int max_tokens;
    Run run;
    Sampler sampler;
    Ids history;                            // all ids so far; the cache holds the first run.position
    size_t turn, answer;                    // where in history the model's last turn, its text begin
    Thought *thoughts;                      // [max_tokens] of this turn
    float *probabilities;                   // [vocab_size] at the newest token
    Output *output;
} Session;

typedef enum { GOES_ON, STOP_TOKEN, STOP_TEXT, TOKEN_LIMIT, CONTEXT_FULL, INTERRUPTED } Reason;

typedef struct {
    Reason reason;                          // why generation ended
    const Text *stop_text;                  // STOP_TEXT: which
    int n_prompt, n_new;                    // tokens that were read, and generated
    double prompt_seconds, new_seconds;
} Turn;

static volatile sig_atomic_t interrupted;   // Ctrl-C was pressed: the turn shall end
static double seconds(void);                // these five are in Part III
static const float *read_history(Session *s, size_t end);
static void observe(Session *s, const float *logits, int id, int n);
static const Text *write_output(Output *out, const void *bytes, size_t n);
static void cut_reasoning(Session *s);      // of the newest answer, where the template does so

/* The tokens that end generation. The model must choose one, which is up to its weights, and the
 * runner must stop there, which is decided here. A base checkpoint names <|endoftext|> alone. In
 * chat mode all that can end a turn count, whatever the checkpoint names. */
static bool is_stop(const Session *s, int id) {
    const Header *h = s->model->header;
    for (uint32_t i = 0; i < h->n_eos; i++) if (id == (int)h->eos[i]) return true;
    return s->chat && (id == (int)h->im_end || id == (int)h->endoftext);
}

/* Why generation ends with the newest token, or GOES_ON. Prints the token, unless it ends a turn. */
static Reason stop_reason(Session *s, Turn *turn, int id) {
    if (is_stop(s, id) && !s->ignore_stop) return STOP_TOKEN;
    size_t size;
    const unsigned char *bytes = token_bytes(&s->model->tokenizer, id, &size);
    if ((turn->stop_text = write_output(s->output, bytes, size))) return STOP_TEXT;
    if (turn->n_new == s->max_tokens) return TOKEN_LIMIT;
    if (s->run.position == s->run.context) return CONTEXT_FULL;
    return interrupted ? INTERRUPTED : GOES_ON;
}

/* One turn: reads what is new in the history, then generates until there is a reason to stop. */
static Turn generate(Session *s) {
    Turn turn = { .n_prompt = (int)s->history.n - s->run.position };
    double start = seconds();
    const float *logits = read_history(s, s->history.n);
    double middle = seconds();
    if (!logits) turn.reason = INTERRUPTED;
    else if (s->max_tokens == 0) turn.reason = TOKEN_LIMIT;
    while (turn.reason == GOES_ON) {
        int id = sample(&s->sampler, logits, s->model->vocab_size, &s->history);
        push_id(&s->history, id);
        observe(s, logits, id, ++turn.n_new);
        turn.reason = stop_reason(s, &turn, id);
        if (turn.reason == GOES_ON) logits = forward(&s->run, &id, 1, 1);
    }
    turn.prompt_seconds = middle - start;
    turn.new_seconds = seconds() - middle;
    return turn;
}

/* ---- Chat -------------------------------------------------------------------------------- */

/* ChatML is <|im_start|>role\ncontent<|im_end|>\n, turn after turn. This writes a turn up to the
 * end of its content. Role and content are encoded as one plain text: a newline that opens the
 * content can merge with the one after the role, and an <|im_end|> that a user types stays text. */
static void open_turn(Session *s, const char *role, const char *content, size_t n) {
    Text text = { 0 };
    push_bytes(&text, role, strlen(role));
    push_bytes(&text, "\n", 1);
    push_bytes(&text, content, n);
    push_id(&s->history, (int)s->model->header->im_start);
    encode(&s->model->tokenizer, text.data, text.n, false, &s->history);
    free(text.data);
}

/* However a turn ended, in the conversation it ends with <|im_end|> and a newline. */
static void close_turn(Session *s) {
    push_id(&s->history, (int)s->model->header->im_end);
    encode(&s->model->tokenizer, "\n", 1, false, &s->history);
}

/* Puts a prompt into the history: in a chat as the next turn, else in place of what was there. */
static void add_prompt(Session *s, const char *text, size_t n) {
    const Header *h = s->model->header;
    if (!s->chat) {
        s->history.n = 0;
        s->run.position = 0;
        encode(&s->model->tokenizer, text, n, true, &s->history);
        if (s->history.n == 0) die(1, "the prompt is empty: -p: Qwen has no start token, "
                                      "a base model needs a text to continue");
        return;
    }
    if (s->history.n > 0) {                 // the model's turn is closed
        if (s->history.n > s->answer && is_stop(s, s->history.id[s->history.n - 1])) s->history.n--;
        if (h->cuts_reasoning) cut_reasoning(s);
        close_turn(s);
    } else {
        size_t size = s->system ? strlen(s->system) : h->system_size;
        if (size > 0) {
            open_turn(s, "system", s->system ? s->system : h->system, size);
            close_turn(s);
        }
    }
    open_turn(s, "user", text, n);
    close_turn(s);
    s->turn = s->history.n;
    if (h->opening > 0) open_turn(s, "assistant", "", 0);   // for the model to go on
    s->answer = s->history.n;
    const char *think = s->no_think ? "<think>\n\n</think>\n\n" : h->opening == 2 ? "<think>\n" : "";
    encode(&s->model->tokenizer, think, strlen(think), false, &s->history);
}

/* =============================================================================================
 * Part II. The machine: for speed and safety. Skip it at first.
 * ========================================================================================== */

static int min_int(int a, int b) { return a < b ? a : b; }
static int max_int(int a, int b) { return a > b ? a : b; }

/* Zeroed memory for count things of a size. Never NULL. */
static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) die(1, "out of memory: %zu times %zu bytes: close other programs", count, size);
    return memory;
}

/* Zeroed memory for count * size floats that takes no space until it is used: a cache of 32,768
 * positions of the 1.8B shape is 12.9 GB, and a short chat fills a hundredth of it. */
static float *reserve(uint64_t count, uint64_t size) {
    void *memory = MAP_FAILED;
    size = size ? size : 1;
    if (count <= (uint64_t)PTRDIFF_MAX / sizeof(float) / size)
        memory = mmap(NULL, (size_t)(count * size * sizeof(float)), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        die(1, "no room for %.1f GB of address space: -c: ask for a shorter context",
            (double)count * (double)size * sizeof(float) * 1e-9);
    return memory;
}

/* ---- Vectors ----------------------------------------------------------------------------- */

/* As many floats as a register holds. gcc and clang do arithmetic on such a type as on a number. */
#if defined __AVX512F__
enum { WIDTH = 16 };
#elif defined __AVX__
enum { WIDTH = 8 };
#else
enum { WIDTH = 4 };
#endif
typedef float Floats __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef uint32_t Words __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef uint16_t Halves __attribute__((vector_size(2 * WIDTH), aligned(2), may_alias));

static Floats load_floats(const float *x) { return *(const Floats *)x; }

static Floats load_halves(const uint16_t *w) {              // as load_bf16, WIDTH at a time
    return (Floats)(__builtin_convertvector(*(const Halves *)w, Words) << 16);
}

static float add_up(Floats x) {
    float sum = 0;
    for (int i = 0; i < WIDTH; i++) sum += x[i];
    return sum;
}

/* e^x = 2^whole * e^rest, where |rest| <= ln(2) / 2 and a polynomial is exact to float precision.
 * Adding 1.5 * 2^23 rounds away the fraction, and leaves the whole number in the low bits. NaN
 * stays NaN. Below -87 the result is 1e-38, which is nothing beside the maximum's 1 in a softmax. */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float shifted = x * 1.44269504f + 12582912.0f, whole = shifted - 12582912.0f, power;
    float r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    float p = 8.33345205e-3f + r * 1.39353172e-3f;
    p = 1.0f + r * (1.0f + r * (0.5f + r * (0.166666657f + r * (0.0416657962f + r * p))));
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127) << 23;                              // the exponent of 2^whole
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

/* Dies if one of x[n] is NaN or infinite: then some weight is, real ones never lead there. */
static void check_finite(const Run *r, const float *x, int n) {
    int bad = 0;
    for (int i = 0; i < n; i++) bad += !(fabsf(x[i]) <= FLT_MAX);
    if (bad) die(1, "the weights hold NaN or infinity: %s: export it again", r->model->file.path);
}

/* ---- Weight types ------------------------------------------------------------------------ */

typedef struct {                            // a token's activations, as the factor of a dot product
    const float *x;                         // [cols]
    int16_t *high, *low;                    // [cols]  the same in fixed point, for int8 weights:
    float scale;                            //         x = scale * (high * 2^15 + low)
} Factor;

struct WeightType {                         // a row of a matrix:
    const char *name;
    size_t (*row_size)(int cols);                                       // its bytes
    void (*load)(float *out, const void *row, int cols);                // to floats
    bool (*store)(void *row, const float *x, int cols);                 // from floats; false: NaN
    float (*dot)(const void *row, const Factor *factor, int cols);      // times a token
    bool fixed_point;                                                   // dot wants high and low
};

enum { AHEAD = 2048 };                      // bytes that are asked for early: measured to be enough

static size_t bf16_row_size(int cols) { return 2 * (size_t)cols; }

static float dot_bf16(const void *row, const Factor *factor, int cols) {
    const uint16_t *w = row;
    const float *x = factor->x;
    Floats sums[4] = { { 0 } };
    float rest = 0;
    int i = 0;
    for (; i + 4 * WIDTH <= cols; i += 4 * WIDTH) {
        __builtin_prefetch((const char *)(w + i) + AHEAD);
        for (int k = 0; k < 4; k++)
            sums[k] += load_halves(w + i + k * WIDTH) * load_floats(x + i + k * WIDTH);
    }
    for (; i < cols; i++) {
        float weight;
        load_bf16(&weight, w + i, 1);
        rest += weight * x[i];
    }
    return rest + add_up((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

/* int8: a row is whole numbers from -127 to 127, padding to 4 bytes, then a float scale for each
 * group of 64 columns. */
enum { GROUP = 64 };

static size_t scales_offset(int cols) { return ((size_t)cols + 3) / 4 * 4; }

static size_t int8_row_size(int cols) {
    return scales_offset(cols) + ((size_t)cols + GROUP - 1) / GROUP * sizeof(float);
}

static void load_int8(float *out, const void *row, int cols) {
    const int8_t *w = row;
    const float *scale = (const float *)(const void *)(w + scales_offset(cols));
    for (int begin = 0; begin < cols; begin += GROUP, scale++)
        for (int i = begin; i < min_int(begin + GROUP, cols); i++) out[i] = (float)w[i] * *scale;
}

static bool store_int8(void *row, const float *x, int cols) {
    int8_t *w = row;
    float *scale = (float *)(void *)(w + scales_offset(cols));
    memset(w + cols, 0, scales_offset(cols) - cols);
    for (int begin = 0; begin < cols; begin += GROUP, scale++) {
        int end = min_int(begin + GROUP, cols);
        float max = 0;
        for (int i = begin; i < end; i++) {
            if (!(fabsf(x[i]) <= FLT_MAX)) return false;
            max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
        }
        *scale = max / 127.0f;
        for (int i = begin; i < end; i++) w[i] = *scale > 0 ? (int8_t)lrintf(x[i] / *scale) : 0;
    }
    return true;
}

/* The products of 64 numbers of 8 and 16 bits fit into 32 bits, so a group is added up in whole
 * numbers. A token is 31 bits wide, in two halves: a few channels of a real model are 1,000 times
 * as large as the others, and next to them 16 bits would leave 6. */
static float dot_int8(const void *row, const Factor *factor, int cols) {
    const int8_t *w = row;
    const float *scale = (const float *)(const void *)(w + scales_offset(cols));
    float sum = 0;
    for (int begin = 0; begin < cols; begin += GROUP) {
        const int16_t *high = factor->high + begin, *low = factor->low + begin;
        int32_t highs = 0, lows = 0;
        int n = min_int(GROUP, cols - begin);
        __builtin_prefetch(w + begin + AHEAD);
        if (n == GROUP) {
            for (int i = 0; i < GROUP; i++) highs += w[begin + i] * high[i];
            for (int i = 0; i < GROUP; i++) lows += w[begin + i] * low[i];
        } else for (int i = 0; i < n; i++) {
            highs += w[begin + i] * high[i];
            lows += w[begin + i] * low[i];
        }
        sum += *scale++ * ((float)highs * 32768.0f + (float)lows);
    }
    return sum * factor->scale;
}

/* Fills in the fixed point of a token. One that holds NaN or infinity gets NaN as its scale. */
static void set_fixed_point(Factor *factor, int cols) {
    float max = 0, check = 0;
    for (int i = 0; i < cols; i++) {
        max = fabsf(factor->x[i]) > max ? fabsf(factor->x[i]) : max;
        check += factor->x[i] * 0;
    }
    bool usable = check == 0 && max > FLT_MIN * 0x1p30f;
    float inverse = usable ? 0x1p30f / max : 0;
    factor->scale = usable ? max * 0x1p-30f : check;
    for (int i = 0; i < cols; i++) {
        int32_t fixed = usable ? (int32_t)(factor->x[i] * inverse) : 0;
        factor->high[i] = (int16_t)(fixed >> 15);
        factor->low[i] = (int16_t)(fixed & 0x7FFF);
    }
}

static const WeightType weight_types[] = {  // in the order of Header.weight_type
    { "bf16", bf16_row_size, load_bf16, NULL, dot_bf16, false },
    { "int8", int8_row_size, load_int8, store_int8, dot_int8, true },
};
enum { BF16, INT8 };

static void load_row(float *out, const Matrix *m, int row) {
    m->type->load(out, m->data + row * m->row_size, m->cols);
}

/* ---- Threads ----------------------------------------------------------------------------- */

typedef void Task(void *argument, int item, int thread);

typedef struct {
    int n_threads;                          // with the caller, which is thread 0
    Task *task;                             // what the threads do now; set before job changes
    void *argument;
    int n_items;
    atomic_int started;                     // threads that have begun
    atomic_uint job;                        // goes up when there is something to do
    atomic_uint next;                       // the next item that nobody has taken
    atomic_uint busy;                       // threads that have not finished this job
    pthread_mutex_t mutex;
    pthread_cond_t wake;
} Pool;

/* Returns when *word is not value any more. The steps of a forward pass are microseconds apart, so
 * a thread looks for a while before it goes to sleep. */
static void wait_while(Pool *pool, atomic_uint *word, unsigned value) {
    for (int i = 0; i < 20000; i++)
        if (atomic_load_explicit(word, memory_order_acquire) != value) return;
    pthread_mutex_lock(&pool->mutex);
    while (atomic_load(word) == value) pthread_cond_wait(&pool->wake, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}

/* Called after a word has changed. Holding the mutex prevents a lost wake-up: a thread between its
 * last look at the word and its sleep holds it, too. */
static void wake_sleepers(Pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

static void take_items(Pool *pool, int thread) {
    for (int item; (item = (int)atomic_fetch_add(&pool->next, 1)) < pool->n_items; )
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
    static Pool pool;
    pool.n_threads = n_threads;
    if (pthread_mutex_init(&pool.mutex, NULL) || pthread_cond_init(&pool.wake, NULL))
        die(1, "no mutex for the threads: -t: try -t 1");
    for (int i = 1; i < n_threads; i++) {
        pthread_t id;
        if (pthread_create(&id, NULL, run_thread, &pool) || pthread_detach(id))
            die(1, "thread %d of %d cannot be started: -t: ask for fewer", i + 1, n_threads);
    }
    return &pool;
}

/* Calls task(argument, item, thread) for each item below n_items, shared out among the threads one
 * by one, since some processors have slow and fast cores. Which thread takes an item never changes
 * the result. Waking threads costs microseconds: too much below 100,000 multiply-adds (measured). */
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

/* ---- The fast matrix product ------------------------------------------------------------- */

enum { FEW = 4 };                           // fewer tokens are multiplied one by one
enum { LANES = 2 * WIDTH };                 // tokens side by side in a tile
enum { ROWS = 12, ROW_BLOCK = 48 };         // rows of a tile at most; rows that a thread takes

/* out[rows][vectors * WIDTH] = a · x, where a's element (row, k) is a[row * row_stride + k * stride]
 * and x is [n][vectors * WIDTH]. rows and vectors are constants where this is called, so that the
 * sums are 12 registers: 6 rows of two vectors, or 12 rows of one. */
__attribute__((always_inline))
static inline void tile(float *out, const float *a, size_t row_stride, size_t stride,
                        const float *x, int n, const int rows, const int vectors) {
    Floats sums[ROWS] = { { 0 } };
    for (int k = 0; k < n; k++, a += stride, x += vectors * WIDTH)
        for (int row = 0; row < rows; row++)
            for (int v = 0; v < vectors; v++)
                sums[row * vectors + v] += a[row * row_stride] * load_floats(x + v * WIDTH);
    memcpy(out, sums, rows * vectors * sizeof *sums);
}

/* A tile for up to WIDTH tokens, or for up to LANES. Returns its rows. */
static int wide_tile(float *out, const float *a, size_t row_stride, size_t stride,
                     const float *x, int n, int lanes) {
    if (lanes == WIDTH) tile(out, a, row_stride, stride, x, n, ROWS, 1);
    else tile(out, a, row_stride, stride, x, n, ROWS / 2, 2);
    return lanes == WIDTH ? ROWS : ROWS / 2;
}

static int lanes_for(int n) { return n <= WIDTH ? WIDTH : LANES; }

struct Fast {                               // what the fast steps need of a run
    Pool *pool;
    float *packed;                          // [BATCH][widest matrix]  tokens side by side: pack
    Factor factors[FEW];
    size_t scratch_size;
    float *scratch;                         // [n_threads][scratch_size]
};

typedef struct { Run *run; float *out; const float *x; int n; const Matrix *w; const float *bias; } Product;

/* For few tokens: each row is multiplied as it is read. */
static void multiply_rows(void *argument, int item, int thread) {
    const Product *p = argument;
    const Matrix *w = p->w;
    (void)thread;
    for (int row = item * ROW_BLOCK; row < min_int((item + 1) * ROW_BLOCK, w->rows); row++)
        for (int t = 0; t < p->n; t++)
            p->out[t * w->rows + row] = (p->bias ? p->bias[row] : 0) + w->type->dot(
                w->data + row * w->row_size, &p->run->fast->factors[t], w->cols);
}

/* For many: a block of rows is loaded to floats, and tile by tile meets all tokens. */
static void multiply_tiles(void *argument, int item, int thread) {
    const Product *p = argument;
    const struct Fast *f = p->run->fast;
    int cols = p->w->cols, begin = item * ROW_BLOCK, end = min_int(begin + ROW_BLOCK, p->w->rows);
    float *weights = f->scratch + thread * f->scratch_size;             // [ROW_BLOCK][cols]
    float sums[ROWS * WIDTH];
    for (int row = begin; row < end; row++) load_row(weights + (row - begin) * cols, p->w, row);
    for (int t = 0; t < p->n; t += LANES) {
        int lanes = lanes_for(p->n - t), n = min_int(lanes, p->n - t);
        for (int row = begin, rows; row < end; row += rows) {
            rows = wide_tile(sums, weights + (row - begin) * cols, cols, 1, f->packed + t * cols, cols, lanes);
            for (int lane = 0; lane < n; lane++)
                for (int i = 0; i < min_int(rows, end - row); i++)
                    p->out[(t + lane) * p->w->rows + row + i] =
                        sums[i * lanes + lane] + (p->bias ? p->bias[row + i] : 0);
        }
    }
}

/* packed[item][cols][lanes] = up to LANES of the tokens x[n][cols] side by side, then zeros. */
static void pack(void *argument, int item, int thread) {
    const Product *p = argument;
    int cols = p->w->cols, first = item * LANES, lanes = lanes_for(p->n - first);
    float *packed = p->run->fast->packed + first * cols;
    (void)thread;
    for (int lane = 0; lane < lanes; lane++) {
        const float *x = first + lane < p->n ? p->x + (first + lane) * cols : NULL;
        for (int k = 0; k < cols; k++) packed[k * lanes + lane] = x ? x[k] : 0;
    }
}

static void fast_matmul(Run *r, float *out, const float *x, int n, const Matrix *w, const float *bias) {
    struct Fast *f = r->fast;
    Product p = { r, out, x, n, w, bias };
    if (n < FEW)
        for (int t = 0; t < n; t++) {
            f->factors[t].x = x + t * w->cols;
            if (w->type->fixed_point) set_fixed_point(&f->factors[t], w->cols);
        }
    else parallel(f->pool, (n + LANES - 1) / LANES, (double)n * w->cols, pack, &p);
    parallel(f->pool, (w->rows + ROW_BLOCK - 1) / ROW_BLOCK, (double)w->rows * w->cols * n,
             n < FEW ? multiply_rows : multiply_tiles, &p);
}

/* ---- Fast attention ---------------------------------------------------------------------- */

typedef struct { Run *run; int layer, n; } Attention;

static float fast_dot(const float *a, const float *b, int n) {
    Floats sum = { 0 };
    float rest = 0;
    int i = 0;
    for (; i + WIDTH <= n; i += WIDTH) sum += load_floats(a + i) * load_floats(b + i);
    for (; i < n; i++) rest += a[i] * b[i];
    return rest + add_up(sum);
}

/* As attend, for one head and few tokens. */
static void attend_head(void *argument, int head, int thread) {
    const Attention *a = argument;
    const Run *r = a->run;
    const Model *m = r->model;
    int head_dim = m->head_dim;
    size_t cache = cache_offset(r, a->layer, head / (m->n_heads / m->n_kv_heads));
    float *scores = r->fast->scratch + thread * r->fast->scratch_size;    // [n_keys]
    for (int t = 0; t < a->n; t++) {
        const float *q = r->q + t * m->q_dim + head * head_dim;
        const float *k = r->keys + cache, *v = r->values + cache;
        float *out = r->attended + t * m->q_dim + head * head_dim;
        int n_keys = r->position + t + 1;
        for (int i = 0; i < n_keys; i++, k += head_dim)
            scores[i] = fast_dot(q, k, head_dim) / sqrtf((float)head_dim);
        softmax(scores, n_keys);
        memset(out, 0, head_dim * sizeof *out);
        for (int i = 0; i < n_keys; i++, v += head_dim)
            for (int j = 0; j < head_dim; j++) out[j] += scores[i] * v[j];
    }
}

/* The same for many: LANES queries of one head side by side, in the tiles of the matrix product. */
static void attend_tile(void *argument, int item, int thread) {
    const Attention *a = argument;
    const Run *r = a->run;
    const Model *m = r->model;
    int head_dim = m->head_dim, head = item % m->n_heads, first = item / m->n_heads * LANES;
    int lanes = lanes_for(a->n - first), n_queries = min_int(lanes, a->n - first);
    int before = r->position + first, n_keys = before + n_queries;
    size_t cache = cache_offset(r, a->layer, head / (m->n_heads / m->n_kv_heads));
    float *q = r->fast->scratch + thread * r->fast->scratch_size;         // [head_dim][lanes]
    float *scores = q + head_dim * LANES;                                       // [n_keys][lanes]
    float max[LANES], sum[LANES] = { 0 }, out[ROWS * WIDTH];

    for (int lane = 0; lane < lanes; lane++)
        for (int i = 0; i < head_dim; i++)
            q[i * lanes + lane] = lane >= n_queries ? 0 : r->q[(first + lane) * m->q_dim + head * head_dim + i]
                                                          / sqrtf((float)head_dim);
    for (int k = 0; k < n_keys; )
        k += wide_tile(scores + (size_t)k * lanes, r->keys + cache + (size_t)k * head_dim, head_dim, 1, q, head_dim, lanes);
    for (int k = before + 1; k < n_keys; k++)                                   // the causal mask
        for (int lane = 0; lane < k - before; lane++) scores[(size_t)k * lanes + lane] = -INFINITY;

    for (int lane = 0; lane < lanes; lane++) max[lane] = -INFINITY;             // softmax, by lanes
    for (int k = 0; k < n_keys; k++)
        for (int lane = 0; lane < lanes; lane++)
            max[lane] = scores[(size_t)k * lanes + lane] > max[lane] ? scores[(size_t)k * lanes + lane] : max[lane];
    for (int k = 0; k < n_keys; k++)
        for (int lane = 0; lane < lanes; lane++)
            sum[lane] += scores[(size_t)k * lanes + lane] = exponential(scores[(size_t)k * lanes + lane] - max[lane]);

    for (int i = 0, rows; i < head_dim; i += rows) {
        rows = wide_tile(out, r->values + cache + i, 1, head_dim, scores, n_keys, lanes);
        for (int lane = 0; lane < n_queries; lane++)
            for (int row = 0; row < min_int(rows, head_dim - i); row++)
                r->attended[(first + lane) * m->q_dim + head * head_dim + i + row] = out[row * lanes + lane] / sum[lane];
    }
}

static void fast_attend(Run *r, int layer, int n) {
    Attention a = { r, layer, n };
    double multiply_adds = 2.0 * n * (r->position + n) * r->model->q_dim;
    int n_tiles = (n + LANES - 1) / LANES, n_heads = r->model->n_heads;
    if (n < FEW) parallel(r->fast->pool, n_heads, multiply_adds, attend_head, &a);
    else parallel(r->fast->pool, n_heads * n_tiles, multiply_adds, attend_tile, &a);
}

/* ---- The file and its checks ------------------------------------------------------------- */

typedef struct {                            // a tensor of the file, and where the model has it:
    Matrix *matrix;                         // either a matrix of Header.weight_type
    const float **vector;                   // or rows = 1 of floats
    int rows, cols;                         // cols = 0: this model has none
} Tensor;

enum { TENSORS_OF_LAYER = 14 };

/* Writes all tensors to list[3 + n_layers * TENSORS_OF_LAYER] and returns how many they are. This
 * is their order in the file, in which each begins at the next multiple of 64 bytes. */
static int list_tensors(Model *m, Tensor *list) {
    const Header *h = m->header;
    int n = 0, bias = h->qkv_bias != 0, norm = h->qk_norm != 0;
    list[n++] = (Tensor){ &m->embedding, NULL, m->vocab_size, m->dim };
    for (int i = 0; i < m->n_layers; i++) {
        Layer *l = &m->layers[i];
        const Tensor tensors[TENSORS_OF_LAYER] = {
            { NULL, &l->attention_norm, 1, m->dim },
            { &l->wq, NULL, m->q_dim, m->dim }, { NULL, &l->bq, 1, bias * m->q_dim },
            { &l->wk, NULL, m->kv_dim, m->dim }, { NULL, &l->bk, 1, bias * m->kv_dim },
            { &l->wv, NULL, m->kv_dim, m->dim }, { NULL, &l->bv, 1, bias * m->kv_dim },
            { NULL, &l->q_norm, 1, norm * m->head_dim }, { NULL, &l->k_norm, 1, norm * m->head_dim },
            { &l->wo, NULL, m->dim, m->q_dim },
            { NULL, &l->mlp_norm, 1, m->dim },
            { &l->gate, NULL, m->hidden_dim, m->dim }, { &l->up, NULL, m->hidden_dim, m->dim },
            { &l->down, NULL, m->dim, m->hidden_dim },
        };
        for (int k = 0; k < TENSORS_OF_LAYER; k++) if (tensors[k].cols > 0) list[n++] = tensors[k];
    }
    list[n++] = (Tensor){ NULL, &m->norm, 1, m->dim };
    if (!h->tied) list[n++] = (Tensor){ &m->output, NULL, m->vocab_size, m->dim };
    return n;
}

/* Dies unless low <= value <= high. Written so that NaN is outside of every range. */
static void check_range(const Model *m, const char *field, double value, double low, double high) {
    if (!(value >= low && value <= high))
        die(1, "the header's %s is %.9g, not between %.9g and %.9g: %s: export it again",
            field, value, low, high, m->file.path);
}

static void check_header(const Model *m) {
    const Header *h = m->header;
    const double vocab = h->vocab_size, none = NONE;
    const struct { const char *field; double value, low, high; } ranges[] = {
        { "dim", h->dim, 1, 1 << 20 }, { "hidden_dim", h->hidden_dim, 1, 1 << 20 },
        { "n_layers", h->n_layers, 1, 1 << 12 }, { "n_heads", h->n_heads, 1, 1 << 12 },
        { "n_kv_heads", h->n_kv_heads, 1, h->n_heads }, { "head_dim", h->head_dim, 2, 1 << 12 },
        { "n_heads * head_dim", (double)h->n_heads * h->head_dim, 1, 1 << 20 },
        { "vocab_size", vocab, 1, 1 << 24 }, { "max_positions", h->max_positions, 1, 1 << 24 },
        { "head_dim % 2", h->head_dim % 2, 0, 0 },
        { "n_heads % n_kv_heads", h->n_kv_heads ? h->n_heads % h->n_kv_heads : 0, 0, 0 },
        { "weight_type", h->weight_type, BF16, INT8 },
        { "group_size", h->group_size, h->weight_type == INT8 ? GROUP : 0, h->weight_type == INT8 ? GROUP : 0 },
        { "tied", h->tied, 0, 1 }, { "qkv_bias", h->qkv_bias, 0, 1 }, { "qk_norm", h->qk_norm, 0, 1 },
        { "kind", h->kind, 0, 1 }, { "chatml", h->chatml, 0, 1 }, { "opening", h->opening, 0, 2 },
        { "cuts_reasoning", h->cuts_reasoning, 0, 1 }, { "do_sample", h->do_sample, 0, 1 },
        { "rms_eps", (double)h->rms_eps, 0, 0.999999 }, { "rope_theta", h->rope_theta, 1e-30, 1e30 },
        { "temperature", (double)h->temperature, 0, 1e6 }, { "top_k", h->top_k, 0, INT32_MAX },
        { "top_p", (double)h->top_p, 0, 1 }, { "min_p", (double)h->min_p, 0, 1 },
        { "repetition_penalty", (double)h->repetition_penalty, 1e-7, 1e7 },
        { "max_new_tokens", h->max_new_tokens, 0, INT32_MAX },
        { "im_start", h->im_start, 0, vocab - 1 }, { "im_end", h->im_end, 0, vocab - 1 },
        { "endoftext", h->endoftext, 0, vocab - 1 },
        { "tokenizer_eos", h->tokenizer_eos, 0, h->tokenizer_eos == NONE ? none : vocab - 1 },
        { "n_eos", h->n_eos, 0, sizeof h->eos / sizeof *h->eos },
        { "system_size", h->system_size, 0, sizeof h->system },
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        check_range(m, ranges[i].field, ranges[i].value, ranges[i].low, ranges[i].high);
    for (uint32_t i = 0; i < h->n_eos; i++) check_range(m, "eos", h->eos[i], 0, vocab - 1);
    check_range(m, "name's end", memchr(h->name, 0, sizeof h->name) ? 0 : 1, 0, 0);
}

/* Maps PATH and finds its tensors. Nothing is copied: the kernel reads a page when it is used. */
static Model *map_model(const char *path) {
    Model *m = allocate(1, sizeof *m);
    m->file = map_file(path);
    const Header *h = m->header = m->file.header;
    check_header(m);
    m->tokenizer = open_tokenizer(&m->file);
    m->dim = (int)h->dim;
    m->hidden_dim = (int)h->hidden_dim;
    m->n_layers = (int)h->n_layers;
    m->n_heads = (int)h->n_heads;
    m->n_kv_heads = (int)h->n_kv_heads;
    m->head_dim = (int)h->head_dim;
    m->vocab_size = (int)h->vocab_size;
    m->q_dim = m->n_heads * m->head_dim;
    m->kv_dim = m->n_kv_heads * m->head_dim;
    m->layers = allocate(m->n_layers, sizeof *m->layers);

    const WeightType *type = &weight_types[h->weight_type];
    Tensor *list = allocate(3 + m->n_layers * TENSORS_OF_LAYER, sizeof *list);
    uint64_t end = h->weights_offset, size = m->file.size;
    for (int i = 0, n = list_tensors(m, list); i < n; i++) {
        Tensor *t = &list[i];
        size_t row_size = t->matrix ? type->row_size(t->cols) : t->cols * sizeof(float);
        uint64_t begin = (end + 63) / 64 * 64;
        end = begin + (uint64_t)t->rows * row_size;
        if (end > size) break;
        const unsigned char *data = m->file.data + begin;
        if (t->matrix) *t->matrix = (Matrix){ type, t->rows, t->cols, row_size, data };
        else *t->vector = (const float *)(const void *)data;
    }
    if (end != size)
        die(1, "the weights end at byte %llu by the header, the file at %llu: %s: export it again",
            (unsigned long long)end, (unsigned long long)size, path);
    if (h->tied) m->output = m->embedding;
    free(list);
    return m;
}

/* A run with an empty cache. plain: it uses only the loops of Part I. */
static Run new_run(const Model *m, Pool *pool, int context, bool plain) {
    Run r = { .model = m, .context = context, .fast = allocate(1, sizeof *r.fast) };
    struct Fast *f = r.fast;
    uint64_t batch = min_int(BATCH, context), widest = max_int(max_int(m->dim, m->q_dim), m->hidden_dim);
    uint64_t positions = (uint64_t)m->n_layers * m->n_kv_heads * context + ROWS;        // a tile reads past the end
    uint64_t rows = (ROW_BLOCK + ROWS) * widest, queries = ((uint64_t)m->head_dim + context + ROWS) * LANES;
    r.matmul = plain ? matmul : fast_matmul;
    r.attend = plain ? attend : fast_attend;
    f->pool = pool;
    f->scratch_size = rows > queries ? rows : queries;                  // for multiply_tiles, attend_tile
    const struct { float **buffer; uint64_t count, size; } buffers[] = {
        { &r.keys, positions, m->head_dim }, { &r.values, positions, m->head_dim },
        { &r.x, batch, m->dim }, { &r.normed, batch, m->dim }, { &r.delta, batch, m->dim },
        { &r.q, batch, m->q_dim }, { &r.attended, batch, m->q_dim },
        { &r.k, batch, m->kv_dim }, { &r.v, batch, m->kv_dim },
        { &r.gate, batch, m->hidden_dim }, { &r.up, batch, m->hidden_dim },
        { &r.hidden, batch, m->hidden_dim },
        { &r.cosine, batch, m->head_dim / 2 }, { &r.sine, batch, m->head_dim / 2 },
        { &r.logits, SCORED, m->vocab_size }, { &r.row, 1, widest }, { &r.scores, 1, context },
        { &f->packed, BATCH, widest }, { &f->scratch, pool->n_threads, f->scratch_size },
    };
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        *buffers[i].buffer = reserve(buffers[i].count, buffers[i].size);
    for (int i = 0; i < FEW; i++) {
        f->factors[i].high = allocate(widest, sizeof(int16_t));
        f->factors[i].low = allocate(widest, sizeof(int16_t));
    }
    return r;
}

/* =============================================================================================
 * Part III. The program
 * ========================================================================================== */

/* ---- Options ----------------------------------------------------------------------------- */

typedef struct { Text *text; size_t n, capacity; } Texts;   // of a flag that can be repeated

static void push_text(Texts *texts, Text text) {
    texts->text = grow(texts->text, &texts->capacity, texts->n + 1, sizeof *texts->text);
    texts->text[texts->n++] = text;
}

enum { GENERATE = 1, SCORE = 2, ANSWER = 4, COMPARE = 8, INFO = 16, QUANTIZE = 32 };   // commands
enum { PROMPTED = GENERATE | SCORE | ANSWER | COMPARE, ANY = PROMPTED | INFO | QUANTIZE };

#define UNSET UINT64_MAX
typedef struct {                            // what the command line asks for
    const char *model, *system, *mode, *ids, *compare, *quantize, *logits;      // NULL: not given
    Texts prompts, stops, answers;
    uint64_t max_tokens, top, pace, top_k, seed, context, threads;              // or UNSET
    double temperature, top_p, min_p, penalty;                                  // or NAN
    bool ignore_stop, no_think, watch, score, greedy, plain, info, verbose, help;
} Options;

static Options o = { .max_tokens = UNSET, .top_k = UNSET, .seed = UNSET, .context = UNSET,
    .threads = UNSET, .temperature = NAN, .top_p = NAN, .min_p = NAN, .penalty = NAN };

/* ---- Interrupts and files ------------------------------------------------------------------ */

static volatile sig_atomic_t waiting;       // for a line at the prompt: there is no turn to end
static struct termios terminal;             // the terminal's settings, if a prompt has changed them
static volatile sig_atomic_t terminal_changed;

static void restore_terminal(void) {
    if (terminal_changed) tcsetattr(0, TCSANOW, &terminal);
    terminal_changed = 0;
}

/* The first Ctrl-C ends the turn, a second one the program. Other signals always do. */
static void on_signal(int number) {
    if (number == SIGINT && !interrupted && !waiting) { interrupted = 1; return; }
    remove_unfinished();
    restore_terminal();
    _exit(128 + number);
}

/* Prints a line on standard error, as die does. */
static void note(const char *format, ...) {
    char line[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    make_harmless(line);
    fprintf(stderr, "%s: note: %s\n", program, line);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Dies where writing PATH would replace a model that is in use, or something that is no file. */
static void check_output_path(const char *flag, const char *path, const File *const inputs[2]) {
    struct stat status;
    if (!*path) die(2, "an empty file name: %s: name the file to write", flag);
    if (stat(path, &status) != 0) return;
    if (!S_ISREG(status.st_mode)) die(1, "not a regular file: %s: name the file to write", path);
    for (int i = 0; i < 2; i++)
        if (inputs[i] && inputs[i]->device == status.st_dev && inputs[i]->inode == status.st_ino)
            die(1, "this is the model itself: %s: choose another name for %s", path, flag);
}

/* Creates a file beside PATH under a name that nobody has. finish_file gives it the final name when
 * it is whole; every other way out of the program removes it. */
static FILE *create_file(const char *path) {
    static Text name;
    sigset_t all, before;
    mode_t mask = umask(0);
    umask(mask);
    push_bytes(&name, path, strlen(path));
    push_bytes(&name, ".XXXXXX", 8);
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);  // a signal must not find a file without `unfinished`
    int descriptor = mkstemp(name.data);
    if (descriptor >= 0) unfinished = name.data;
    sigprocmask(SIG_SETMASK, &before, NULL);
    FILE *file = descriptor < 0 ? NULL : fdopen(descriptor, "wb");
    if (!file || fchmod(descriptor, 0666 & ~mask) != 0)
        die(1, "cannot create a file beside: %s: %s", path, strerror(errno));
    return file;
}

static void write_bytes(FILE *file, const void *data, size_t n) {
    if (n > 0 && fwrite(data, 1, n, file) != n)
        die(1, "cannot write: %s: %s", unfinished, strerror(errno));
}

static void finish_file(FILE *file, const char *path) {
    bool failed = fflush(file) != 0 || ferror(file);
    if (fclose(file) != 0 || failed || rename(unfinished, path) != 0)
        die(1, "cannot write: %s: %s", path, strerror(errno));
    unfinished = NULL;
}

/* ---- Text on a terminal -------------------------------------------------------------------- */

static int terminal_width(void) {
    struct winsize window;
    return ioctl(1, TIOCGWINSZ, &window) == 0 && window.ws_col > 0 ? window.ws_col : 80;
}

/* Whether a stream is a terminal that obeys escape sequences. */
static bool obeys_escapes(int descriptor) {
    const char *term = getenv("TERM");
    return isatty(descriptor) && !(term && strcmp(term, "dumb") == 0);
}

static int char_columns(const Tokenizer *t, uint32_t c) { return char_properties(t, c) >> 11 & 3; }

/* How many bytes at the end of s[n] are the beginning of a character that is not whole. */
static size_t utf8_incomplete(const unsigned char *s, size_t n) {
    for (size_t i = 1; i <= 3 && i <= n; i++) {
        uint32_t c;
        Utf8 kind;
        if (utf8_decode(s + n - i, i, &c, &kind) == i && kind == UTF8_CUT) return i;
    }
    return 0;
}

/* FLOWING passes newlines and tabs through. ONE_LINE shows a newline as ⏎, TOKEN also a space as ␣. */
typedef enum { FLOWING, ONE_LINE, TOKEN } Style;

/* Prints at most so many columns of s[n] and returns how many it used. Control characters, which a
 * terminal would obey, and bytes that are no text are printed as \xHH. */
static int print_visible(const Tokenizer *t, FILE *out, const char *s, size_t n, Style style, int columns) {
    int used = 0;
    for (size_t i = 0; i < n; ) {
        char hex[32] = "";
        uint32_t c;
        Utf8 kind = UTF8_VALID;
        size_t size = utf8_decode((const unsigned char *)s + i, n - i, &c, &kind);
        int width = char_columns(t, c);
        const char *symbol = NULL;          // what is printed instead
        bool flows = style == FLOWING && (c == '\n' || c == '\t');
        if (c == '\n' && style != FLOWING) symbol = "⏎", width = 1;
        else if (c == ' ' && style == TOKEN) symbol = "␣", width = 1;
        else if (kind != UTF8_VALID || (is_control(c) && !flows)) {
            symbol = hex;
            width = 0;
            for (size_t k = 0; k < size; k++)
                width += sprintf(hex + width, "\\x%02x", (unsigned char)s[i + k]);
        }
        if (used + width > columns - (i + size < n)) { fputs("…", out); return used + 1; }
        if (symbol) fputs(symbol, out);
        else fwrite(s + i, 1, size, out);
        used += width;
        i += size;
    }
    return used;
}

static int print_token(const Tokenizer *t, FILE *out, int id, Style style, int columns) {
    size_t size;
    const char *bytes = (const char *)token_bytes(t, id, &size);
    return print_visible(t, out, bytes, size, style, columns);
}

/* A probability from 0.000001 to 0.99999, with two digits that count and without an exponent. */
static const char *probability(double p) {
    static char text[32];
    int digits = 2;
    if (p < 0.000001) return "< 0.000001";
    for (double x = p; x < 0.1 && digits < 6; x *= 10) digits++;
    for (double x = 1 - p; x < 0.005 && digits < 5; x *= 10) digits++;
    snprintf(text, sizeof text, "%.*f", digits, p < 0.99999 ? p : 0.99999);
    return text;
}

static const char *plural(int n) { return n == 1 ? "" : "s"; }

/* ---- Output: text, --stop, --watch, --logits ---------------------------------------------- */

struct Output {
    const Tokenizer *tokenizer;
    bool text_shown, terminal, colour;      // a table may be shown instead; about standard output
    bool watch;
    int top, pace;                          // --top, --pace in milliseconds
    const Texts *stops;                     // --stop
    Text text;                              // of this turn
    size_t released;                        // bytes of it that were printed
    FILE *logits;                           // --logits, or NULL
};

struct Thought {                            // the model's at one token, by the raw logits
    int id, likely, likely_penalised;       // chosen; most likely; most likely after the penalty
    float p, p_likely, p_im_end, p_endoftext;
};

static void release(Output *out, size_t end) {
    const char *text = out->text.data + out->released;
    size_t n = end - out->released;
    out->released = end;
    if (n == 0 || !out->text_shown) return;
    if (out->terminal) print_visible(out->tokenizer, stdout, text, n, FLOWING, INT_MAX);
    else fwrite(text, 1, n, stdout);
    flush_output();
}

/* The first full or partial match of a --stop text in what is not printed yet, else the text's end. */
static size_t find_stop(const Output *out, const Text *stop) {
    const Text *text = &out->text;
    size_t at = out->released;
    while (at < text->n) {
        size_t left = text->n - at;
        if (memcmp(text->data + at, stop->data, stop->n < left ? stop->n : left) == 0) break;
        at++;
    }
    return at;
}

/* Takes the next bytes of the text and prints what is certain: not what may become a --stop text,
 * and on a terminal no half character. Returns the --stop text that is complete now, or NULL. */
static const Text *write_output(Output *out, const void *bytes, size_t n) {
    const Text *found = NULL;
    push_bytes(&out->text, bytes, n);
    size_t certain = out->text.n;
    for (size_t i = 0; i < out->stops->n; i++) {
        const Text *stop = &out->stops->text[i];
        size_t at = find_stop(out, stop);
        bool complete = at + stop->n <= out->text.n;
        if (complete && (!found || at <= certain)) { found = stop; certain = at; }
        else if (!found && at < certain) certain = at;
    }
    if (found) out->text.n = certain;
    else if (out->terminal && certain > out->released)
        certain -= utf8_incomplete((const unsigned char *)out->text.data + out->released, certain - out->released);
    release(out, certain);
    return found;
}

/* The columns of a token and its probability. */
static void print_cells(const Output *out, int id, double p, bool ids, int columns) {
    if (ids) printf("%6d  ", id);
    int used = print_token(out->tokenizer, stdout, id, TOKEN, columns);
    printf("%*s ", columns - used, "");
    if (isnan(p)) printf("     -");
    else printf("%6.4f", p < 0.9999 ? p : 0.9999);
}

/* A row of --watch, --score and --answer. On a terminal it is as wide as the terminal is now, with a
 * bar for P(<|im_end|>); what does not fit is left out, the id first. Elsewhere it is tab-separated.
 * p is NAN for the first token of a text, which nothing comes before. */
static void print_row(const Output *out, int n, int id, double p, double p_im_end, double p_endoftext) {
    const Tokenizer *t = out->tokenizer;
    size_t size;
    const unsigned char *bytes = token_bytes(t, id, &size);
    if (!out->terminal) {
        if (n == 1) puts("n\tid\tpiece\tp\tp_im_end\tp_endoftext");
        printf("%d\t%d\t", n, id);
        write_piece(t, stdout, bytes, size);
        printf("\t%.9g\t%.9g\t%.9g\n", p, p_im_end, p_endoftext);
        flush_output();
        return;
    }
    int width = terminal_width(), token = width < 72 ? 10 : 14;
    bool ids = width >= 60, documents = width >= 50;
    int bar = max_int(0, width - 22 - 8 * ids - token - 7 * documents);
    if (n == 1) {
        const char *names[] = { width < 72 ? "<|im_end|>" : "P(<|im_end|>)",
                                width < 72 ? "<|endoftext|>" : "P(<|endoftext|>)" };
        printf("   n  %s%-*s      p  %s", ids ? "    id  " : "", token + 1, "token", names[0]);
        if (documents) printf("%*s", bar + 14 - (int)strlen(names[0]), names[1]);
        putchar('\n');
    }
    printf("%4d  ", n);
    print_cells(out, id, p, ids, token);
    if (!isnan(p)) {
        printf("  %6.4f %s", p_im_end < 0.9999 ? p_im_end : 0.9999, out->colour && p_im_end >= 0.5 ? "\033[1;32m" : "");
        for (int i = 0; i < bar; i++) fputs(p_im_end * bar >= i + 0.5 ? "█" : "·", stdout);
        fputs(out->colour && p_im_end >= 0.5 ? "\033[0m" : "", stdout);
        if (documents) printf(" %6.4f", p_endoftext < 0.9999 ? p_endoftext : 0.9999);
    }
    putchar('\n');
    flush_output();
}

/* --top: the most likely tokens, as rows of their own. */
static void print_top(Session *s, int n, const float *logits) {
    const Output *out = s->output;
    const Header *h = s->model->header;
    Candidate *c = s->sampler.candidates;   // the sampler is done with them
    const float *p = s->probabilities;
    int kept = keep_top_k(c, logits, s->model->vocab_size, out->top);
    qsort(c, kept, sizeof *c, likelier_first);
    for (int i = 0; i < min_int(kept, out->top); i++)
        print_row(out, n, c[i].id, p[c[i].id], p[h->im_end], p[h->endoftext]);
}

/* Notes what the model thought where it chose token id, the n-th of this turn, and shows it. */
static void observe(Session *s, const float *logits, int id, int n) {
    const Header *h = s->model->header;
    Output *out = s->output;
    int vocab_size = s->model->vocab_size, likely = most_likely(logits, vocab_size);
    float *p = s->probabilities;
    memcpy(p, logits, vocab_size * sizeof *p);
    softmax(p, vocab_size);
    s->thoughts[n - 1] = (Thought){ id, likely, most_likely(s->sampler.logits, vocab_size),
                                    p[id], p[likely], p[h->im_end], p[h->endoftext] };
    if (out->logits) write_bytes(out->logits, logits, vocab_size * sizeof *logits);
    if (out->watch) print_row(out, n, id, p[id], p[h->im_end], p[h->endoftext]);
    if (out->top > 0) print_top(s, n, logits);
    struct timespec pause = { out->pace / 1000, out->pace % 1000 * 1000000L };
    if (out->pace > 0) nanosleep(&pause, NULL);
}

/* ---- Turns ------------------------------------------------------------------------------- */

/* A line on a terminal that the next one overwrites. done == total erases it. */
static void progress(int done, int total, double since) {
    if (!obeys_escapes(2)) return;
    fputs("\r\033[K", stderr);
    if (done < total)
        fprintf(stderr, "reading the prompt: %d of %d tokens, %.0f tok/s", done, total, done / (seconds() - since));
}

/* Reads the history up to `end`, as far as the cache does not hold it. Returns the logits after its
 * last token, or NULL if interrupted. Dies if the history exceeds the context; never truncates. */
static const float *read_history(Session *s, size_t end) {
    Run *run = &s->run;
    const float *logits = NULL;
    double start = seconds();
    int begin = run->position, total = (int)end - begin;
    if (s->history.n > (size_t)run->context)
        die(1, "the %s is %zu tokens, the context has room for %d: -c: raise it, or %s",
            begin > 0 ? "conversation" : "prompt", s->history.n, run->context,
            begin > 0 ? "begin a new one" : "shorten the prompt");
    while (run->position < (int)end && !interrupted) {
        int n = min_int(BATCH, (int)end - run->position);
        logits = forward(run, s->history.id + run->position, n, run->position + n == (int)end);
        if (total > BATCH) progress(run->position - begin, total, start);
    }
    if (interrupted && total > BATCH) progress(total, total, start);
    return interrupted ? NULL : logits;
}

/* Of an earlier answer, only what follows </think> stays in the conversation of a reasoning model,
 * as its template has it. The cache goes back to the turn's beginning and reads the rest again. */
static void cut_reasoning(Session *s) {
    static const char end[] = "</think>";
    Text text = { 0 };
    size_t from = 0, n = s->history.n;
    if (n > s->answer && is_stop(s, s->history.id[n - 1])) n--;
    for (size_t i = s->answer, size; i < n; i++) {
        const unsigned char *bytes = token_bytes(&s->model->tokenizer, s->history.id[i], &size);
        push_bytes(&text, bytes, size);
    }
    for (size_t i = 0; i + strlen(end) <= text.n; i++)
        if (memcmp(text.data + i, end, strlen(end)) == 0) from = i + strlen(end);
    while (from > 0 && from < text.n && text.data[from] == '\n') from++;
    if (from > 0 || s->no_think || s->model->header->opening == 2) {
        s->history.n = s->turn;
        if (s->run.position > (int)s->turn) s->run.position = (int)s->turn;
        s->answer = s->turn + 1;
        open_turn(s, "assistant", text.data + from, text.n - from);
    }
    free(text.data);
}

/* Whether a token ends a turn or a document by its meaning, wherever the runner stops. */
static bool is_end(const Session *s, int id) {
    const Header *h = s->model->header;
    return id == (int)h->im_end || id == (int)h->endoftext || is_stop(s, id);
}

/* What the model thought of stopping, and who is to blame if it ran on. */
static void print_verdict(const Session *s, const Turn *turn) {
    const Header *h = s->model->header;
    const Tokenizer *t = &s->model->tokenizer;
    const Thought *thoughts = s->thoughts;
    int chosen = -1, likely = -1, end = 0, im_end = 0;      // places in thoughts; -1: nowhere
    float max_end = -1;
    for (int i = 0; i < turn->n_new; i++) {
        const Thought *at = &thoughts[i];
        float p_end = at->p_im_end > at->p_endoftext ? at->p_im_end : at->p_endoftext;
        if (chosen < 0 && is_end(s, at->id)) chosen = i;
        if (likely < 0 && is_end(s, at->likely) && at->likely != at->id && at->p_likely >= 0.01f) likely = i;
        if (p_end > max_end) { max_end = p_end; end = i; }
        if (at->p_im_end > thoughts[im_end].p_im_end) im_end = i;
    }
    if (turn->n_new == 0) fputs("nothing was generated", stderr);
    else if (chosen >= 0) {
        const Thought *at = &thoughts[chosen];
        fprintf(stderr, "the model ended %s", at->id == (int)h->endoftext ? "a document" : "its turn");
        if (turn->reason == STOP_TOKEN) fprintf(stderr, " (P %s)", probability(at->p));
        else if (s->ignore_stop) fprintf(stderr, " at token %d, the runner ignored it", chosen + 1);
        else {
            fprintf(stderr, " at token %d, ", chosen + 1);
            print_token(t, stderr, at->id, ONE_LINE, 60);
            fputs(" is not among this checkpoint's eos_token_id: -m chat stops there", stderr);
        }
    } else if (likely >= 0) {
        const Thought *at = &thoughts[likely];
        fprintf(stderr, "at token %d ", likely + 1);
        print_token(t, stderr, at->likely, ONE_LINE, 60);
        fprintf(stderr, " was the most likely (P %s), %s", probability(at->p_likely), at->likely_penalised == at->likely
                ? "chance took another" : "the repetition penalty took it away: try --repeat-penalty 1");
    } else if (max_end >= 0.01f)
        fprintf(stderr, "the model thought of an end at token %d (P %s)", end + 1, probability(max_end));
    else fprintf(stderr, "the model saw no end (highest P(<|im_end|>) %s, token %d)",
                 probability(thoughts[im_end].p_im_end), im_end + 1);
}

static void print_reason(FILE *out, const Session *s, const Turn *turn) {
    const Tokenizer *t = &s->model->tokenizer;
    switch (turn->reason) {
    case GOES_ON: break;
    case STOP_TOKEN: print_token(t, out, s->thoughts[turn->n_new - 1].id, ONE_LINE, 60); break;
    case STOP_TEXT:
        fputs("--stop \"", out);
        write_piece(t, out, (const unsigned char *)turn->stop_text->data, turn->stop_text->n);
        fputc('"', out);
        break;
    case TOKEN_LIMIT: fprintf(out, "-n %d", s->max_tokens); break;
    case CONTEXT_FULL: fputs("context full", out); break;
    case INTERRUPTED: fputs("interrupted", out); break;
    }
}

static double rate(int n, double time) { return n > 0 && time > 0 ? n / time : 0; }

/* One turn with its text and, on standard error, why it ended and how fast it was. */
static Turn run_turn(Session *s) {
    Output *out = s->output;
    out->text.n = out->released = 0;
    Turn turn = generate(s);
    release(out, out->text.n);              // what was held back is text after all
    if (out->terminal && out->text_shown && out->text.n > 0 && out->text.data[out->text.n - 1] != '\n') {
        putchar('\n');
        flush_output();
    }
    fputs("stopped: ", stderr);
    print_reason(stderr, s, &turn);
    fprintf(stderr, " after %d token%s; ", turn.n_new, plural(turn.n_new));
    print_verdict(s, &turn);
    fputc('\n', stderr);
    if (!isatty(2) || o.verbose)
        fprintf(stderr, "speed: prompt %d tokens, %.1f tok/s; new %d tokens, %.1f tok/s; seed %llu\n",
                turn.n_prompt, rate(turn.n_prompt, turn.prompt_seconds),
                turn.n_new, rate(turn.n_new - 1, turn.new_seconds), (unsigned long long)o.seed);
    return turn;
}

/* ---- Commands ---------------------------------------------------------------------------- */

/* --score, --answer: the table for history[first] and what follows, and its perplexity. */
static void score(Session *s, int first) {
    const Header *h = s->model->header;
    const int *ids = s->history.id;
    int n = (int)s->history.n, vocab_size = s->model->vocab_size, before = max_int(first - 1, 0), scored = 0;
    float *p = s->probabilities;
    double sum = 0;
    read_history(s, before);
    if (first == 0) print_row(s->output, 1, ids[0], NAN, NAN, NAN);
    while (s->run.position < n && !interrupted) {
        int begin = s->run.position, size = min_int(SCORED, n - begin);     // few: rows appear early
        const float *logits = forward(&s->run, ids + begin, size, size);
        if (s->output->logits) write_bytes(s->output->logits, logits, (size_t)size * vocab_size * sizeof *logits);
        for (int i = begin + 1; i <= begin + size && i < n; i++, logits += vocab_size) {
            int likely = most_likely(logits, vocab_size);
            memcpy(p, logits, vocab_size * sizeof *p);
            softmax(p, vocab_size);
            sum += logits[likely] - logits[ids[i]] - log(p[likely]);        // -log p, also of a p below 1e-38
            scored++;
            print_row(s->output, i - first + 1, ids[i], p[ids[i]], p[h->im_end], p[h->endoftext]);
        }
    }
    if (interrupted) exit(130);
    if (scored == 0) fputs("perplexity undefined over 0 tokens\n", stderr);
    else fprintf(stderr, "perplexity %.6g over %d token%s\n", exp(sum / scored), scored, plural(scored));
}

/* --answer: each text as the model's turn after the prompt that is in the history. */
static void score_answers(Session *s, const Texts *answers) {
    size_t prompt = s->history.n;
    for (size_t i = 0; i < answers->n; i++) {
        s->history.n = prompt;
        s->run.position = min_int(s->run.position, (int)prompt - 1);
        encode(&s->model->tokenizer, answers->text[i].data, answers->text[i].n, !s->chat, &s->history);
        if (s->chat) push_id(&s->history, (int)s->model->header->im_end);
        score(s, (int)prompt);
    }
}

/* One of --compare's cases: the text on one line, its tokens, why it ended. */
static void print_case(const Session *s, const char *title, const Turn *turn, const Text *text) {
    float max = 0;
    for (int i = 0; i < turn->n_new; i++) max = fmaxf(max, s->thoughts[i].p_im_end);
    printf("  %-14s  \"", title);
    print_visible(&s->model->tokenizer, stdout, text->data, text->n, ONE_LINE, max_int(8, (isatty(1) ? terminal_width() : 100) - 20));
    printf("\"\n%18s%d token%s; stopped: ", "", turn->n_new, plural(turn->n_new));
    print_reason(stdout, s, turn);
    if (turn->n_new > 0) printf("; highest P(<|im_end|>) %s", probability(max));
    putchar('\n');
    flush_output();
}

/* --compare, one of the two models: it runs once without stopping; where it stops is a prefix. */
static void run_comparison(Session *s) {
    printf("%s weights: ", s->model->header->kind ? "chat" : "base");
    print_visible(&s->model->tokenizer, stdout, s->model->file.path, strlen(s->model->file.path), ONE_LINE, 60);
    putchar('\n');
    flush_output();
    Turn on = run_turn(s), stopping = on;
    Text prefix = { 0 };
    int n = 0;
    while (n < on.n_new && !is_stop(s, s->thoughts[n].id)) {
        size_t size;
        const unsigned char *bytes = token_bytes(&s->model->tokenizer, s->thoughts[n++].id, &size);
        push_bytes(&prefix, bytes, size);
    }
    if (n < on.n_new) {
        stopping.reason = STOP_TOKEN;
        stopping.n_new = n + 1;
        print_case(s, "runner stops", &stopping, &prefix);
        print_case(s, "runner runs on", &on, &s->output->text);
    } else {
        print_case(s, "runner stops", &on, &s->output->text);
        puts("  runner runs on  the same: the model never gave it a reason to stop");
        flush_output();
    }
    free(prefix.data);
}

static void print_line(const Model *m, const char *label, const char *s, size_t n) {
    printf("%-17s", label);
    print_visible(&m->tokenizer, stdout, s, n, ONE_LINE, isatty(1) ? max_int(20, terminal_width() - 17) : 800);
    putchar('\n');
}

static void print_id(const Model *m, int id) {
    printf("%d ", id);
    print_token(&m->tokenizer, stdout, id, ONE_LINE, 40);
}

/* How far a token's row of the output matrix is from the mean of the rows that no token uses, as a
 * multiple of their own mean distance. */
static double row_distance(const Model *m, int id, const float *mean, float *row) {
    double sum = 0;
    load_row(row, &m->output, id);
    for (int i = 0; i < m->dim; i++) sum += (row[i] - mean[i]) * (row[i] - mean[i]);
    return sqrt(sum);
}

static void print_rows_of_ends(const Model *m) {
    const Header *h = m->header;
    int first = (int)m->tokenizer.n_vocab, n = m->vocab_size - first;
    if (n < 2) return;
    float *mean = allocate(m->dim, sizeof *mean), *row = allocate(m->dim, sizeof *row);
    double unused = 0;
    for (int id = first; id < m->vocab_size; id++) {
        load_row(row, &m->output, id);
        for (int i = 0; i < m->dim; i++) mean[i] += row[i] / (float)n;
    }
    for (int id = first; id < m->vocab_size; id++) unused += row_distance(m, id, mean, row) / n;
    printf("trained rows     ");
    printf("<|im_end|> %.1f, <|im_start|> %.1f, ...", row_distance(m, h->im_end, mean, row) / unused, row_distance(m, h->im_start, mean, row) / unused);
    putchar('\n');
    free(mean);
    free(row);
}

static void print_info(const Model *m) {
    const Header *h = m->header;
    const Tokenizer *t = &m->tokenizer;
    print_line(m, "name", h->name, strlen(h->name));
    printf("kind             %s%s\n", h->kind ? "chat" : "base", h->chatml ? "" : ", without a ChatML template");
    printf("weights          %s, %.1f MB\n", weight_types[h->weight_type].name, (double)h->weights_size * 1e-6);
    const struct { const char *name; int value; } sizes[] = {
        { "dim", m->dim }, { "hidden_dim", m->hidden_dim }, { "n_layers", m->n_layers }, { "n_heads", m->n_heads },
        { "n_kv_heads", m->n_kv_heads }, { "head_dim", m->head_dim }, { "context", (int)h->max_positions } };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) printf("%-17s%d\n", sizes[i].name, sizes[i].value);
    printf("vocab_size       %d, tokenizer %u, %s\n", m->vocab_size, t->n_vocab, h->tied ? "output tied to the embedding" : "output of its own");
    printf("rope_theta       %g\nrms_eps          %g\n", h->rope_theta, (double)h->rms_eps);
    printf("ends at          %s", h->n_eos ? "" : "nothing: no eos_token_id");
    for (uint32_t i = 0; i < h->n_eos; i++) {
        print_id(m, (int)h->eos[i]);
        fputs(i + 1 < h->n_eos ? ", " : "", stdout);
    }
    putchar('\n');
    if (h->tokenizer_eos != NONE) {
        bool listed = false;
        for (uint32_t i = 0; i < h->n_eos; i++) listed |= h->eos[i] == h->tokenizer_eos;
        printf("eos_token        ");
        print_id(m, (int)h->tokenizer_eos);
        puts(listed ? "" : ": the files disagree, eos_token_id does not list it");
    }
    print_rows_of_ends(m);
    printf("sampling         %s: temperature %g, top-k %u, top-p %g,\n%17smin-p %g, repetition penalty %g\n",
           h->do_sample ? "on" : "off (greedy)", (double)h->temperature, h->top_k, (double)h->top_p,
           "", (double)h->min_p, (double)h->repetition_penalty);
    print_line(m, "system message", h->system_size ? h->system : "none", h->system_size ? h->system_size : 4);
    print_line(m, "Unicode", t->unicode_version, strnlen(t->unicode_version, 16));
    flush_output();
}

/* --quantize: the same model with int8 matrices. Norms and biases stay as they are. */
static void quantize(Model *m, const char *path) {
    Header h = *m->header;
    const WeightType *int8 = &weight_types[INT8];
    if (h.weight_type == INT8) die(1, "its weights are int8 already: %s: quantize the bf16 file", m->file.path);
    static const char zeros[64];
    Tensor *list = allocate(3 + m->n_layers * TENSORS_OF_LAYER, sizeof *list);
    int n = list_tensors(m, list);
    FILE *file = create_file(path);
    write_bytes(file, m->file.data, h.weights_offset);      // the header is written again at the end
    for (int i = 0; i < n; i++) {
        const Matrix *w = list[i].matrix;
        write_bytes(file, zeros, (64 - (size_t)ftello(file) % 64) % 64);
        if (!w) { write_bytes(file, *list[i].vector, list[i].cols * sizeof(float)); continue; }
        float *row = allocate(w->cols, sizeof *row);
        unsigned char *data = allocate(int8->row_size(w->cols), 1);
        for (int k = 0; k < w->rows; k++) {
            if (interrupted) exit(130);
            load_row(row, w, k);
            if (!int8->store(data, row, w->cols)) die(1, "the weights hold NaN or infinity: %s: export it again", m->file.path);
            write_bytes(file, data, int8->row_size(w->cols));
        }
        free(row);
        free(data);
    }
    h.weight_type = INT8;
    h.group_size = GROUP;
    h.file_size = (uint64_t)ftello(file);
    h.weights_size = h.file_size - h.weights_offset;
    rewind(file);
    write_bytes(file, &h, sizeof h);
    finish_file(file, path);
    free(list);
    note("%s is int8, %.1f MB (bf16: %.1f MB)", path, (double)h.file_size * 1e-6, (double)m->file.size * 1e-6);
}

/* ---- Flags ------------------------------------------------------------------------------- */

typedef enum { HEADING, SWITCH, TEXT, TEXTS, WHOLE, REAL } Kind;

typedef struct {
    const char *usage;                      // "-n, --max-tokens N", or a heading of the help
    Kind kind;
    void *target;                           // bool, const char *, Texts, uint64_t or double
    double min, max;                        // of a number
    int commands;                           // it makes sense with; without GENERATE it is a command
    const char *help;                       // NULL: it shares a line with the next flag
} Flag;

/* All flags. The help is printed from this list, and what clashes is seen from it. */
static const Flag flags[] = {
    { "prompt", HEADING, NULL, 0, 0, 0, NULL },
    { "-p, --prompt TEXT", TEXTS, &o.prompts, 0, 0, PROMPTED,
      "a prompt; repeated, the next turns of the conversation. Without it standard input" },
    { "-s, --system TEXT", TEXT, &o.system, 0, 0, PROMPTED,
      "system message of a chat (default: the checkpoint's own; \"\" for no system turn)" },
    { "-m, --mode base|chat", TEXT, &o.mode, 0, 0, PROMPTED,
      "how the prompt is framed and where generation ends (default: the checkpoint's kind)" },
    { "    --ids \"ID ID ...\"", TEXT, &o.ids, 0, 0, GENERATE | SCORE,
      "the prompt as token ids, taken as they are, without framing" },
    { "stopping", HEADING, NULL, 0, 0, 0, NULL },
    { "-n, --max-tokens N", WHOLE, &o.max_tokens, 0, INT32_MAX, PROMPTED,
      "at most N new tokens a turn, the stop token counted (default: the checkpoint's, or 512)" },
    { "    --stop TEXT", TEXTS, &o.stops, 0, 0, GENERATE | COMPARE,
      "also stop where this text appears in the output (repeatable)" },
    { "    --ignore-stop", SWITCH, &o.ignore_stop, 0, 0, GENERATE, "print stop tokens and run on" },
    { "    --no-think", SWITCH, &o.no_think, 0, 0, PROMPTED, "a reasoning model answers at once" },
    { "    --compare BASE.bin", TEXT, &o.compare, 0, 0, COMPARE,
      "the same prompt through BASE.bin and MODEL.bin, each stopping and not stopping" },
    { "    --watch", SWITCH, &o.watch, 0, 0, GENERATE,
      "a line per new token: the token, its probability, P(<|im_end|>), P(<|endoftext|>)" },
    { "    --top N", WHOLE, &o.top, 1, 1000, GENERATE,
      "with --watch: under each row the N most likely tokens" },
    { "    --pace MS", WHOLE, &o.pace, 0, 3600e3, GENERATE,
      "wait so long after each token, for an audience" },
    { "    --score", SWITCH, &o.score, 0, 0, SCORE,
      "generate nothing: that table for the framed prompt itself, and its perplexity" },
    { "    --answer TEXT", TEXTS, &o.answers, 0, 0, ANSWER,
      "generate nothing: the table for TEXT as the model's answer to the prompt (repeatable)" },
    { "sampling (defaults: the checkpoint's own generation_config)", HEADING, NULL, 0, 0, 0, NULL },
    { "    --temp T", REAL, &o.temperature, 0, 1e6, ANY, NULL },
    { "    --top-k K", WHOLE, &o.top_k, 0, INT32_MAX, ANY, NULL },
    { "    --top-p P", REAL, &o.top_p, 0, 1, ANY, NULL },
    { "    --min-p P", REAL, &o.min_p, 0, 1, ANY, "" },
    { "    --repeat-penalty R", REAL, &o.penalty, 1e-6, 1e6, ANY, NULL },
    { "    --seed S", WHOLE, &o.seed, 0, 1.8e19, ANY, "" },
    { "    --greedy", SWITCH, &o.greedy, 0, 0, ANY, "always the most likely token" },
    { "machine", HEADING, NULL, 0, 0, 0, NULL },
    { "-c, --context N", WHOLE, &o.context, 1, 1 << 24, ANY,
      "positions kept (default: the checkpoint's limit)" },
    { "-t, --threads N", WHOLE, &o.threads, 1, 1024, ANY, "(default: the processors available)" },
    { "    --plain", SWITCH, &o.plain, 0, 0, ANY,
      "only the plain loops of Part I: the same numbers, slowly" },
    { "files", HEADING, NULL, 0, 0, 0, NULL },
    { "    --info", SWITCH, &o.info, 0, 0, INFO, "what MODEL.bin is" },
    { "    --quantize OUT.bin", TEXT, &o.quantize, 0, 0, QUANTIZE, "write an int8 copy" },
    { "    --logits OUT.f32", TEXT, &o.logits, 0, 0, GENERATE | SCORE | ANSWER,
      "the raw float32 logits of every step, for experiments" },
    { "-v, --verbose", SWITCH, &o.verbose, 0, 0, ANY, "the speed line on a terminal, too" },
    { "-h, --help", SWITCH, &o.help, 0, 0, ANY, "" },
};
enum { N_FLAGS = sizeof flags / sizeof *flags };

/* The help texts stand in a column of their own and are wrapped to the terminal. */
static void print_help(void) {
    enum { COLUMN = 26 };
    int width = isatty(1) ? max_int(terminal_width(), COLUMN + 20) : 100, used = 0;
    puts("usage: ./qwen MODEL.bin [options]\n");
    for (int i = 0; i < N_FLAGS; i++) {
        const Flag *flag = &flags[i];
        if (flag->kind == HEADING) { puts(flag->usage); continue; }
        used += printf("  %s", flag->usage + (used > 0 ? 4 : 0));
        if (!flag->help) continue;
        for (const char *word = flag->help; *word; word += strspn(word, " ")) {
            int length = (int)strcspn(word, " ");
            if (used < COLUMN) used += printf("%*s", COLUMN - 1 - used, "");
            else if (used + 1 + length > width) used = printf("\n%*s", COLUMN - 1, "") - 1;
            used += printf(" %.*s", length, word);
            word += length;
        }
        putchar('\n');
        used = 0;
    }
    flush_output();
}

static void set_flag(const Flag *flag, const char *given, char *value) {
    char *end = NULL;
    errno = 0;
    if (flag->kind == SWITCH) *(bool *)flag->target = true;
    if (flag->kind == TEXT) *(const char **)flag->target = value;
    if (flag->kind == TEXTS) push_text(flag->target, (Text){ value, strlen(value), 0 });
    if (flag->kind == WHOLE) {
        unsigned long long whole = strtoull(value, &end, 10);
        if (*value < '0' || *value > '9' || *end || errno || whole < flag->min || whole > flag->max)
            die(2, "not a whole number from %.0f to %.0f: %s %s", flag->min, flag->max, given, value);
        *(uint64_t *)flag->target = whole;
    }
    if (flag->kind == REAL) {
        double real = strtod(value, &end);
        if (end == value || *end || !(real >= flag->min && real <= flag->max))
            die(2, "not a number from %g to %g: %s %s", flag->min, flag->max, given, value);
        *(double *)flag->target = real;
    }
}

/* Whether a flag is spelt so: a word of its usage. */
static bool is_spelling(const Flag *flag, const char *given) {
    const char *at = flag->kind == HEADING ? NULL : strstr(flag->usage, given);
    return at && given[0] == '-' && (at == flag->usage || at[-1] == ' ')
        && strchr(", ", at[strlen(given)]);                 // strchr finds the terminating NUL, too
}

/* Fills in `o` and returns the command. Dies if the flags make no sense together. */
static int parse_options(int argc, char **argv) {
    const char *given[N_FLAGS] = { NULL };                  // as they were spelt
    int command = GENERATE, commanding = 0;
    for (int i = 1; i < argc; i++) {
        int k = 0;
        while (k < N_FLAGS && !is_spelling(&flags[k], argv[i])) k++;
        if (k < N_FLAGS) {
            if (flags[k].kind != SWITCH && i + 1 == argc) die(2, "a value is missing: %s: see --help", argv[i]);
            given[k] = argv[i];
            set_flag(&flags[k], argv[i], flags[k].kind == SWITCH ? NULL : argv[i + 1]);
            i += flags[k].kind != SWITCH;
            if (!(flags[k].commands & GENERATE)) { command = flags[k].commands; commanding = k; }
        } else if (argv[i][0] == '-') die(2, "no such flag: %s: see --help", argv[i]);
        else if (o.model) die(2, "more than one model file: %s and %s: a prompt goes after -p", o.model, argv[i]);
        else o.model = argv[i];
    }
    for (int k = 0; k < N_FLAGS; k++)
        if (given[k] && !(flags[k].commands & command))
            die(2, "these make no sense together: %s and %s: leave one out", given[k], given[commanding]);
    return command;
}

/* What the list of flags does not say. */
static void check_options(int command) {
    bool base = o.mode && strcmp(o.mode, "base") == 0;
    if (!o.model) die(2, "no model: MODEL.bin: make one with export.py, and see --help");
    if (o.mode && !base && strcmp(o.mode, "chat") != 0) die(2, "neither base nor chat: -m %s", o.mode);
    for (size_t i = 0; i < o.stops.n; i++)
        if (o.stops.text[i].n == 0) die(2, "an empty text is everywhere: --stop: give the text to stop at");
    if (o.ids && !o.ids[strspn(o.ids, " \t\r\n")]) die(2, "no ids: --ids: give at least one");
    const struct { bool both; const char *flags; } clashes[] = {
        { o.ids && o.prompts.n > 0, "--ids and -p" },
        { o.ids && o.system, "--ids and -s" },
        { o.system && base, "-s and -m base" },
        { o.no_think && base, "--no-think and -m base" },
        { o.top > 0 && !o.watch, "--top without --watch" },
        { command != GENERATE && o.prompts.n > 1, "this command and a second -p" },
    };
    for (size_t i = 0; i < sizeof clashes / sizeof *clashes; i++)
        if (clashes[i].both) die(2, "this makes no sense: %s: see --help", clashes[i].flags);
}

/* ---- Main -------------------------------------------------------------------------------- */

/* More than the machine's memory works, through the disk, but slowly. Warns; does not fail. */
static void warn_memory(const Run *r) {
    const Model *m = r->model;
    double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    double cache = 2.0 * sizeof(float) * m->n_layers * (double)r->context * m->kv_dim;
    if ((double)m->file.size > memory)
        note("the model is %.1f GB, this machine's memory %.1f GB: %s: the disk will be slow",
            (double)m->file.size * 1e-9, memory * 1e-9, m->file.path);
    if (o.context != UNSET && cache > memory)
        note("a full cache takes %.1f GB, this machine's memory is %.1f GB: -c %d: choose less",
            cache * 1e-9, memory * 1e-9, r->context);
    if (r->context > (int)m->header->max_positions)
        note("the model was made for %u positions: -c %d", m->header->max_positions, r->context);
}

static Session new_session(const Model *m, Pool *pool, Output *out, int command) {
    const Header *h = m->header;
    bool chat = o.mode ? strcmp(o.mode, "chat") == 0 : command == COMPARE || h->kind == 1;
    if (chat && !h->chatml) die(1, "its chat template is not ChatML: %s: use -m base", m->file.path);
    if (o.system && !chat) die(2, "a base model's prompt has no system message: -s: add -m chat");
    if (o.no_think && !(chat && h->cuts_reasoning))
        die(2, "not a chat with a reasoning model: --no-think: leave it out");
    int context = (int)(o.context == UNSET ? h->max_positions : o.context);
    uint64_t limit = o.max_tokens != UNSET ? o.max_tokens : h->max_new_tokens ? h->max_new_tokens : 512;
    bool sampling = !isnan(o.temperature) || o.top_k != UNSET || !isnan(o.top_p) || !isnan(o.min_p)
        || (h->do_sample && command != COMPARE);
    Session s = {
        .model = m, .chat = chat, .ignore_stop = o.ignore_stop || command == COMPARE,
        .no_think = o.no_think, .system = o.system, .max_tokens = (int)limit,
        .run = new_run(m, pool, context, o.plain), .output = out,
        .thoughts = allocate(min_int((int)limit, context) + 1, sizeof(Thought)),
        .probabilities = allocate(m->vocab_size, sizeof(float)),
        .sampler = {
            .temperature = isnan(o.temperature) ? h->temperature : (float)o.temperature,
            .top_k = (int)(o.top_k == UNSET ? h->top_k : o.top_k),
            .top_p = isnan(o.top_p) ? h->top_p : (float)o.top_p,
            .min_p = isnan(o.min_p) ? h->min_p : (float)o.min_p,
            .penalty = !isnan(o.penalty) ? (float)o.penalty : command == COMPARE ? 1 : h->repetition_penalty,
            .random = o.seed,
            .logits = allocate(m->vocab_size, sizeof(float)),
            .candidates = allocate(m->vocab_size, sizeof(Candidate)),
            .probabilities = allocate(m->vocab_size, sizeof(float)),
        },
    };
    s.sampler.greedy = !sampling || o.greedy || s.sampler.temperature == 0;
    warn_memory(&s.run);
    return s;
}

/* Does with the prompt in the history what the command line asks for. */
static Reason run_command(Session *s, int command) {
    switch (command) {
    case SCORE: score(s, 0); return GOES_ON;
    case ANSWER: score_answers(s, &o.answers); return GOES_ON;
    case COMPARE: run_comparison(s); return GOES_ON;
    default: return run_turn(s).reason;
    }
}

static void forget(Session *s) {
    s->history.n = s->turn = s->answer = 0;
    s->run.position = 0;
}

/* Reads a line from a terminal. Ctrl-C is made an end of the line meanwhile, so that it is seen
 * what came before it: a line that it ends is dropped, an empty one ends the program. Returns false
 * at the end of the input. */
static bool read_line(Text *line) {
    enum { CTRL_C = 3, LONGEST = 4096 };
    char bytes[LONGEST], last = 0;
    line->n = 0;
    if (tcgetattr(0, &terminal) == 0) {
        struct termios typing = terminal;
        typing.c_cc[VINTR] = _POSIX_VDISABLE;
        typing.c_cc[VEOL] = CTRL_C;
        terminal_changed = 1;
        tcsetattr(0, TCSANOW, &typing);
    }
    waiting = 1;
    for (ssize_t n = 1; n > 0 && last != '\n'; ) {
        n = read(0, bytes, sizeof bytes);
        if (n <= 0) break;
        push_bytes(line, bytes, (size_t)n);
        last = bytes[n - 1];
        if (last == CTRL_C && line->n == 1) { fputc('\n', stderr); restore_terminal(); exit(130); }
        if (last == CTRL_C) { fputs("\n> ", stderr); line->n = 0; }
        if (line->n == LONGEST) note("a terminal cuts a line at 4,095 bytes: use a pipe or -p");
    }
    waiting = 0;
    restore_terminal();
    if (last == '\n') line->n--;
    return line->n > 0 || last == '\n';
}

enum { ROOM = 32 };                         // tokens that an answer wants at least

/* Puts a prompt to each session. In a conversation that has no room left, a new one begins. */
static void ask(Session *sessions, int n, int command, const char *text, size_t size, bool conversation) {
    for (int i = 0; i < n && !interrupted; i++) {
        Session *s = &sessions[i];
        if (command != GENERATE) forget(s);
        bool later = s->chat && s->history.n > 0;
        add_prompt(s, text, size);
        int room = s->run.context - (int)s->history.n;
        if (conversation && later && room < min_int(ROOM, s->max_tokens)) {
            note("the context of %d positions is full, a new conversation begins: -c sets a longer one", s->run.context);
            forget(s);
            add_prompt(s, text, size);
            room = s->run.context - (int)s->history.n;
        }
        if (conversation && room < 0) {
            note("the text is %zu tokens, the context has room for %d: ask for less, or raise -c", s->history.n, s->run.context);
            forget(s);
        } else run_command(s, command);
    }
}

/* At a terminal: in chat mode a conversation, else each line is a fresh prompt. */
static void converse(Session *sessions, int n, int command) {
    Text line = { 0 };
    for (;;) {
        interrupted = 0;
        fputs("> ", stderr);
        if (!read_line(&line)) break;
        if (line.n > 0) ask(sessions, n, command, line.data, line.n, true);
    }
    fputc('\n', stderr);
    free(line.data);
}

/* Standard input as one prompt. A byte-order mark and one final newline are not the prompt's. */
static Text read_prompt(void) {
    waiting = 1;
    Text text = read_input();
    waiting = 0;
    if (text.n > 0 && text.data[text.n - 1] == '\n') text.n--;
    if (text.n > 0 && text.data[text.n - 1] == '\r') text.n--;
    if (text.n >= 3 && memcmp(text.data, "\xEF\xBB\xBF", 3) == 0) memmove(text.data, text.data + 3, text.n -= 3);
    return text;
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
    // A file opened below must not get the number of a standard stream that is closed.
    for (int i = 0; i < 3; i++) if (fcntl(i, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0) return 1;
    signal(SIGPIPE, SIG_IGN);               // a closed pipe is an error like others: flush_output
    int command = parse_options(argc, argv);
    if (o.help) { print_help(); return 0; }
    check_options(command);
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    sigemptyset(&action.sa_mask);
    const int signals[] = { SIGINT, SIGTERM, SIGHUP };
    for (int i = 0; i < 3; i++) sigaction(signals[i], &action, NULL);
    atexit(remove_unfinished);
    if (o.seed == UNSET) o.seed = (uint64_t)time(NULL);
    if (o.threads == UNSET) o.threads = (uint64_t)available_processors();

    Model *models[2];                       // BASE.bin if there is one, then MODEL.bin
    const File *inputs[2] = { NULL, NULL };
    int n = 0;
    if (o.compare) models[n++] = map_model(o.compare);
    models[n++] = map_model(o.model);
    for (int i = 0; i < n; i++) inputs[i] = &models[i]->file;
    if (o.logits) check_output_path("--logits", o.logits, inputs);
    if (o.quantize) check_output_path("--quantize", o.quantize, inputs);
    if (command == INFO) print_info(models[0]);
    if (command == QUANTIZE) quantize(models[0], o.quantize);
    if (command == INFO || command == QUANTIZE) return 0;

    Pool *pool = start_pool((int)o.threads);
    static Session sessions[2];
    static Output outputs[2];
    bool table = command != GENERATE || o.watch;
    for (int i = 0; i < n; i++) {
        outputs[i] = (Output){ .tokenizer = &models[i]->tokenizer, .text_shown = !table, .terminal = isatty(1),
            .colour = obeys_escapes(1) && !getenv("NO_COLOR"), .watch = o.watch, .stops = &o.stops,
            .top = (int)o.top, .pace = (int)o.pace };
        sessions[i] = new_session(models[i], pool, &outputs[i], command);
    }
    bool conversation = !o.ids && o.prompts.n == 0 && isatty(0);
    if (!o.ids && o.prompts.n == 0 && !conversation) push_text(&o.prompts, read_prompt());
    if (o.logits) outputs[0].logits = create_file(o.logits);
    if (conversation) converse(sessions, n, command);
    if (o.ids) {
        read_ids(o.ids, "--ids", models[0]->header->vocab_size, &sessions[0].history);
        run_command(&sessions[0], command);
    }
    for (size_t i = 0; i < o.prompts.n; i++) {
        interrupted = 0;                    // a Ctrl-C ended the turn before
        ask(sessions, n, command, o.prompts.text[i].data, o.prompts.text[i].n, false);
    }
    if (interrupted) return 130;            // an unfinished --logits file goes
    if (o.logits) finish_file(outputs[0].logits, o.logits);
    return 0;
}
