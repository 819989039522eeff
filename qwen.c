/* qwen.c: inference of Qwen1.5, Qwen2, Qwen2.5 and Qwen3 in plain C, with tokenizer.c.
 *
 *     make && python3 export.py CHECKPOINT_DIR model.bin && ./qwen model.bin
 *
 * A base model and a chat model run through the same code. They differ in their weights, and in the
 * tokens at which they are to stop. This file runs both and shows why one of them stops:
 *
 *     I.   The model      All of Qwen in plain loops, up to the rule that ends an answer.
 *     II.  The machine    What makes it fast and safe. Skip it at first.
 *     III. The program    Text, tables, commands, flags, main. Skip all but judge().
 *
 * The way of a text: encode cuts it into tokens, numbered pieces of words. The embedding has a
 * vector of dim floats for each. forward takes these vectors through the layers, where attention
 * fetches what earlier tokens hold and the MLP works on each vector alone. It returns logits, one
 * for each token of the vocabulary: the higher, the likelier it comes next. sample chooses one, and
 * forward reads that. (Qwen1.5-0.5B: dim 1,024; 24 layers; 16 heads of 64; vocab_size 151,936.)
 *
 * tokenizer.c is included below and brings: Bytes (a text that belongs to others), Text and Ids
 * (growing arrays of bytes and token ids, with push_bytes and push_id), die (one error line: what
 * is wrong: where: what to do), Header, File (a mapped model file), Tokenizer, encode, token_bytes.
 *
 * To add an architecture, touch Layer, forward, list_tensors, export.py; for other attention
 *     attend_head and attend_many, for a size Header and check_header, for a buffer Run, new_run.
 * To add a sampler, write a stage beside keep_min_p; then sample, Sampler, new_session, opt, flags.
 * To add a weight type of whole bytes, write its functions, a row and a name at weight_types.
 */
#define QWEN_C
#include "tokenizer.c"
#include <math.h>

/* =============================================================================================
 * Part I. The model
 * ========================================================================================== */
enum { BATCH = 256, SCORED = 32 };          // forward: most tokens, most rows of logits

typedef struct WeightType WeightType;       // bf16 or int8: see weight_types in Part II
typedef struct {
    const WeightType *type;
    int rows, cols;
    size_t row_size;                        // bytes from one row to the next
    const unsigned char *data;              // [rows][row_size], in the mapped file
} Matrix;

typedef struct {
    const float *attention_norm;            // [dim]
    Matrix wq, wk, wv;                      // [q_dim][dim], [kv_dim][dim], [kv_dim][dim]
    const float *bq, *bk, *bv;              // [q_dim], [kv_dim], [kv_dim]; NULL in Qwen3
    const float *q_norm, *k_norm;           // [head_dim]; NULL except in Qwen3
    Matrix wo;                              // [dim][q_dim]
    const float *mlp_norm;                  // [dim]
    Matrix gate, up, down;                  // [hidden_dim][dim], the same, [dim][hidden_dim]
} Layer;

typedef struct {
    File file;
    Header header;                          // dim, hidden_dim, n_layers, n_heads, n_kv_heads, ...
    Tokenizer tokenizer;
    int q_dim, kv_dim;                      // n_heads * head_dim, n_kv_heads * head_dim
    Matrix embedding;                       // [vocab_size][dim]
    Layer *layers;                          // [n_layers]
    const float *norm;                      // [dim]
    Matrix output;                          // [vocab_size][dim]; the embedding itself if tied
} Model;

typedef struct {                            // one model at work
    const Model *model;
    int context, position;                  // tokens that the KV cache can hold; that it holds
    float *keys, *values;                   // [n_layers][n_kv_heads][context][head_dim]  the cache
    float *x, *normed, *delta;              // [BATCH][dim]  residual stream; norm; what is added
    float *q, *k, *v;                       // [BATCH][q_dim], [BATCH][kv_dim], [BATCH][kv_dim]
    float *attended;                        // [BATCH][q_dim]
    float *gate, *up, *hidden;              // [BATCH][hidden_dim]
    float *cosine, *sine;                   // [BATCH][head_dim / 2]  of the angles of RoPE
    float *logits;                          // [SCORED][vocab_size]
    float *row, *scores;                    // [most columns], [context]: scratch of plain loops
    bool plain;                             // take the loops of this part, not Part II's fast ones
    struct Pool *pool;                      // threads and their memory, for the fast ones
} Run;

/* ---- Maths --------------------------------------------------------------------------------- */
// These are in Part II. The fast ones do what matmul and attend do here.
static inline float exponential(float x);                       // as expf, but it vectorises
static void load_row(float *out, const Matrix *m, int row);     // out[cols] = the row as floats
static void check_finite(const Model *m, const float *x, int n);        // dies if one is not
static void fast_matmul(Run *r, float *out, const float *x, int n, const Matrix *, const float *);
static void fast_attend(Run *r, int layer, int n);

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
    if (!r->plain) { fast_matmul(r, out, x, n, w, bias); return; }
    for (int row = 0; row < w->rows; row++) {
        float b = bias ? bias[row] : 0;
        load_row(r->row, w, row);
        for (int t = 0; t < n; t++)
            out[t * w->rows + row] = dot(r->row, x + t * w->cols, w->cols) + b;
    }
}

/* RMSNorm (Zhang & Sennrich 2019) brings n vectors to one length, so that no step meets too large
 * or too small numbers: out[n][dim] = x / sqrt(mean(x^2) + eps) * weight */
static void rmsnorm(float *out, const float *x, const float *weight, int n, int dim, float eps) {
    for (int t = 0; t < n; t++, x += dim, out += dim) {
        float scale = 1.0f / sqrtf(dot(x, x, dim) / (float)dim + eps);
        for (int i = 0; i < dim; i++) out[i] = weight[i] * (x[i] * scale);
    }
}

/* x[n] becomes probabilities, e^x / sum(e^x). Subtracting the maximum only prevents overflow. */
static void softmax(float *x, int n) {
    float max = x[0], sum = 0;
    for (int i = 1; i < n; i++) max = x[i] > max ? x[i] : max;
    for (int i = 0; i < n; i++) x[i] = exponential(x[i] - max);
    for (int i = 0; i < n; i++) sum += x[i];
    for (int i = 0; i < n; i++) x[i] /= sum;
}

/* Attention alone would not see the order of tokens. RoPE (Su et al. 2021) shows it: it rotates
 * pair i of a head by the angle position * theta^(-2i / head_dim). The pairs of a head of 4 are
 * (0, 2), (1, 3). Were they (0, 1), (2, 3), numbers would turn with other partners and at other
 * speeds than in training: positions would be misread, and no error would show it. Returns cosine
 * and sine[n][head_dim / 2] for n positions, rounded to floats as the transformers library does. */
static void rope_angles(float *cosine, float *sine, int position, int n, const Header *h) {
    for (int t = 0; t < n; t++)
        for (int i = 0; i < h->head_dim / 2; i++) {
            float exponent = (float)(2 * i) / (float)h->head_dim;
            float frequency = 1.0f / (float)pow(h->rope_theta, (double)exponent);
            float angle = (float)(position + t) * frequency;
            *cosine++ = cosf(angle);
            *sine++ = sinf(angle);
        }
}

/* Rotates x[n][n_heads][2 * half] in place. Query times key then depends on the two positions only
 * through their distance. So a key is rotated once, before it goes to the cache. */
static void rope(float *x, const float *cosine, const float *sine, int n, int n_heads, int half) {
    for (int t = 0; t < n; t++, cosine += half, sine += half)
        for (int head = 0; head < n_heads; head++, x += 2 * half)
            for (int i = 0; i < half; i++) {
                float a = x[i], b = x[i + half];
                x[i] = a * cosine[i] - b * sine[i];
                x[i + half] = b * cosine[i] + a * sine[i];
            }
}

/* The KV cache: no later token changes a token's keys and values. They are kept, so each token goes
 * through the layers once. Returns the offset of a KV head's [context][head_dim] block in it. */
static size_t cache_offset(const Run *r, int layer, int kv_head) {
    const Header *h = &r->model->header;
    return ((size_t)layer * h->n_kv_heads + kv_head) * r->context * h->head_dim;
}

/* Copies keys and values of n new positions to the cache. */
static void store(Run *r, int layer, int n) {
    const Model *m = r->model;
    int head_dim = m->header.head_dim;
    for (int head = 0; head < m->header.n_kv_heads; head++)
        for (int t = 0; t < n; t++) {
            size_t to = cache_offset(r, layer, head) + (size_t)(r->position + t) * head_dim;
            int from = t * m->kv_dim + head * head_dim;
            memcpy(r->keys + to, r->k + from, head_dim * sizeof(float));
            memcpy(r->values + to, r->v + from, head_dim * sizeof(float));
        }
}

/* Attention of n new tokens in one query head. A query is what a token looks for, a key what one
 * offers, a value what it gives. A query meets the keys of all tokens so far; softmax(q·k /
 * sqrt(head_dim)) says how much it takes of each value. (The root keeps q·k small: of large ones
 * softmax would choose one alone.) Several query heads share a KV head (GQA: Ainslie et al. 2023).
 * scores[context] is scratch memory. dot_product is dot; Part II has a fast one. */
static void attend_head(Run *r, int layer, int n, int head, float *scores,
                        float (*dot_product)(const float *a, const float *b, int n)) {
    const Model *m = r->model;
    int head_dim = m->header.head_dim, heads_per_kv = m->header.n_heads / m->header.n_kv_heads;
    size_t cache = cache_offset(r, layer, head / heads_per_kv);
    for (int t = 0; t < n; t++) {
        const float *q = r->q + t * m->q_dim + head * head_dim;
        const float *k = r->keys + cache, *v = r->values + cache;
        float *out = r->attended + t * m->q_dim + head * head_dim;
        int n_keys = r->position + t + 1;   // the causal mask: no key after this token
        for (int i = 0; i < n_keys; i++, k += head_dim)
            scores[i] = dot_product(q, k, head_dim) / sqrtf((float)head_dim);
        softmax(scores, n_keys);
        for (int j = 0; j < head_dim; j++) out[j] = 0;
        for (int i = 0; i < n_keys; i++, v += head_dim)
            for (int j = 0; j < head_dim; j++) out[j] += scores[i] * v[j];
    }
}

static void attend(Run *r, int layer, int n) {
    if (!r->plain) { fast_attend(r, layer, n); return; }
    for (int head = 0; head < r->model->header.n_heads; head++)
        attend_head(r, layer, n, head, r->scores, dot);
}

/* SwiGLU (Shazeer 2020): out[n] = silu(gate) * up. silu(g) = g / (1 + e^-g) opens as g grows. */
static void swiglu(float *out, const float *gate, const float *up, int n) {
    for (int i = 0; i < n; i++) out[i] = gate[i] / (1.0f + exponential(-gate[i])) * up[i];
}

static void add(float *x, const float *delta, int n) {
    for (int i = 0; i < n; i++) x[i] += delta[i];
}

/* ---- Forward ------------------------------------------------------------------------------- */
/* Reads ids[n], n <= BATCH, at the next n positions: one new token, or tokens of a prompt together.
 * Token t stands in row t of each buffer. Returns logits[n_logits][vocab_size], which say what may
 * follow each of the last n_logits <= SCORED tokens; NULL if n_logits is 0. */
static const float *forward(Run *r, const int *ids, int n, int n_logits) {
    const Model *m = r->model;
    const Header *h = &m->header;
    int dim = h->dim, head_dim = h->head_dim;
    for (int t = 0; t < n; t++) load_row(r->x + t * dim, &m->embedding, ids[t]);
    rope_angles(r->cosine, r->sine, r->position, n, h);

    for (int i = 0; i < h->n_layers; i++) {
        const Layer *l = &m->layers[i];

        // x += attention(norm(x)): from each token to the later ones
        rmsnorm(r->normed, r->x, l->attention_norm, n, dim, h->rms_eps);
        matmul(r, r->q, r->normed, n, &l->wq, l->bq);
        matmul(r, r->k, r->normed, n, &l->wk, l->bk);
        matmul(r, r->v, r->normed, n, &l->wv, l->bv);
        if (l->q_norm) rmsnorm(r->q, r->q, l->q_norm, n * h->n_heads, head_dim, h->rms_eps);
        if (l->k_norm) rmsnorm(r->k, r->k, l->k_norm, n * h->n_kv_heads, head_dim, h->rms_eps);
        rope(r->q, r->cosine, r->sine, n, h->n_heads, head_dim / 2);
        rope(r->k, r->cosine, r->sine, n, h->n_kv_heads, head_dim / 2);
        store(r, i, n);                     // here the KV cache is written
        attend(r, i, n);
        matmul(r, r->delta, r->attended, n, &l->wo, NULL);
        add(r->x, r->delta, n * dim);

        // x += mlp(norm(x)): in each token alone
        rmsnorm(r->normed, r->x, l->mlp_norm, n, dim, h->rms_eps);
        matmul(r, r->gate, r->normed, n, &l->gate, NULL);
        matmul(r, r->up, r->normed, n, &l->up, NULL);
        swiglu(r->hidden, r->gate, r->up, n * h->hidden_dim);
        matmul(r, r->delta, r->hidden, n, &l->down, NULL);
        add(r->x, r->delta, n * dim);
    }
    check_finite(m, r->x, n * dim);
    r->position += n;
    if (n_logits == 0) return NULL;
    rmsnorm(r->normed, r->x + (n - n_logits) * dim, m->norm, n_logits, dim, h->rms_eps);
    matmul(r, r->logits, r->normed, n_logits, &m->output, NULL);
    check_finite(m, r->logits, n_logits * h->vocab_size);
    return r->logits;
}

/* ---- Sampler ------------------------------------------------------------------------------- */
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

// In Part II: c = the k most likely and a few others; a random number from [0, 1).
static int preselect(Candidate *c, const float *logits, int n, int k);
static double random_uniform(uint64_t *state);

/* The repetition penalty (Keskar et al. 2019): out[n] = logits[n], but lower for each id that
 * stands in the history, once however often it stands there. */
static void penalise(float *out, const float *logits, int n, const Ids *history, float penalty) {
    memcpy(out, logits, n * sizeof *out);
    for (size_t i = 0; i < history->n; i++) {
        int id = history->id[i];
        out[id] = logits[id] < 0 ? logits[id] * penalty : logits[id] / penalty;
    }
}

static int argmax(const float *logits, int n) {
    int best = 0;
    for (int i = 1; i < n; i++) if (logits[i] > logits[best]) best = i;
    return best;
}

static int likelier_first(const void *a, const void *b) {
    const Candidate *x = a, *y = b;
    return x->logit != y->logit ? (x->logit < y->logit ? 1 : -1) : x->id - y->id;
}

/* Keeps those of c[n] that are among the k most likely, ties with the last included. */
static int keep_top_k(Candidate *c, int n, int k) {
    if (n <= k) return n;
    qsort(c, n, sizeof *c, likelier_first);
    while (c[n - 1].logit < c[k - 1].logit) n--;
    return n;
}

/* Nucleus sampling (Holtzman et al. 2020): the smallest set of most likely tokens whose sum reaches
 * top_p. The tokens below (1 - top_p) / n are not sorted: without them the sum is still reached. */
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

/* Chooses the next token from logits[n]. A temperature below 1 favours the likely ones. top_p is a
 * share of what top-k left, as in the transformers library: a checkpoint's numbers were chosen for
 * that. Of 0.4, 0.3, 0.2, 0.1, top-k 2 and then top-p 0.5 keep one token, since 0.4 is 0.57 of what
 * is left. The other way round they would keep two. */
static int sample(Sampler *s, const float *logits, int n, const Ids *history) {
    Candidate *c = s->candidates;
    float *p = s->probabilities;
    penalise(s->logits, logits, n, history, s->penalty);
    if (s->greedy) return argmax(s->logits, n);

    int i, k = s->top_k > 0 && s->top_k < n ? s->top_k : n;
    int kept = preselect(c, s->logits, n, k);
    kept = keep_top_k(c, kept, k);
    for (i = 0; i < kept; i++) p[i] = c[i].logit / s->temperature;
    softmax(p, kept);
    for (i = 0; i < kept; i++) c[i].p = p[i];
    kept = keep_top_p(c, kept, s->top_p);
    kept = keep_min_p(c, kept, s->min_p);

    double sum = 0;                         // draw: each candidate has its share of [0, sum)
    for (i = 0; i < kept; i++) sum += c[i].p;
    double left = random_uniform(&s->random) * sum;
    for (i = 0; i < kept - 1; i++) if ((left -= c[i].p) < 0) break;
    return c[i].id;
}

/* ---- Generate and stop --------------------------------------------------------------------- */
typedef struct {                            // a conversation, or a text that is continued
    const Model *model;
    bool chat;                              // frames prompts as ChatML, stops at any end of a turn
    bool ignore_stop, no_think;             // run on at a stop token; answer without reasoning
    Bytes system;                           // the system message
    int max_tokens;
    Run run;
    Sampler sampler;
    Ids history;                            // all ids; the cache holds the first run.position
    size_t turn_start, answer_start;        // where in it the model's turn and its own text begin
    struct Output *output;                  // what this turn says, and what was observed (Part III)
} Session;

typedef enum { STOP_TOKEN, STOP_TEXT, TOKEN_LIMIT, CONTEXT_FULL, INTERRUPTED } Reason;
typedef struct {
    Reason reason;                          // why it ended
    int n_new;                              // tokens that were generated
    const Bytes *stop_text;                 // STOP_TEXT: which
} Turn;

static volatile sig_atomic_t interrupted;   // Ctrl-C was pressed: the turn ends
// Part III has these. The answer does not depend on what observe notes and shows.
static void observe(Session *s, const float *logits, int id, int n);    // notes P(<|im_end|>)
static const Bytes *write_text(Session *s, Bytes bytes, bool last);     // returns a --stop text
static void cut_reasoning(Session *s);

/* To stop takes two. The model must choose a stop token: its weights decide that. The program must
 * stop there: this function decides that. In base mode it stops at the checkpoint's own eos tokens;
 * a base model's is <|endoftext|>. In chat mode it also stops at <|im_end|> and <|endoftext|>. */
static bool is_stop(const Header *h, bool chat, int id) {
    for (int i = 0; i < h->n_eos; i++) if (id == h->eos[i]) return true;
    return chat && (id == h->im_end || id == h->endoftext);
}

/* Reads the history up to `end`, as far as the cache lacks it. Returns the logits after its last
 * token; NULL if interrupted. Dies if the context has no room for it; never truncates. */
static const float *read_history(Session *s, int end) {
    Run *run = &s->run;
    const float *logits = NULL;
    if (s->history.n > (size_t)run->context)
        die(1, "the prompt is %zu tokens with all before it, the context has room for %d: -c: "
               "raise it, or shorten the prompt", s->history.n, run->context);
    for (int left; (left = end - run->position) > 0 && !interrupted; ) {
        bool last = left <= BATCH;
        if (!last && isatty(2)) fprintf(stderr, "reading: %d of %d tokens", run->position, end);
        logits = forward(run, s->history.id + run->position, last ? left : BATCH, last ? 1 : 0);
        if (!last && isatty(2)) fprintf(stderr, "\r%32s\r", "");
    }
    return interrupted ? NULL : logits;
}

/* One turn: reads what is new in the history, then generates until there is a reason to stop. */
static Turn generate(Session *s) {
    const Header *h = &s->model->header;
    const float *logits = read_history(s, (int)s->history.n);
    if (!logits) return (Turn){ INTERRUPTED, 0, NULL };
    if (s->max_tokens == 0) return (Turn){ TOKEN_LIMIT, 0, NULL };
    for (int n = 1;; n++) {
        int id = sample(&s->sampler, logits, h->vocab_size, &s->history);
        push_id(&s->history, id);
        observe(s, logits, id, n);
        if (is_stop(h, s->chat, id) && !s->ignore_stop) return (Turn){ STOP_TOKEN, n, NULL };
        const Bytes *stop_text = write_text(s, token_bytes(&s->model->tokenizer, id), false);
        if (stop_text) return (Turn){ STOP_TEXT, n, stop_text };
        if (n == s->max_tokens) return (Turn){ TOKEN_LIMIT, n, NULL };
        if (s->run.position == s->run.context) return (Turn){ CONTEXT_FULL, n, NULL };
        if (interrupted) return (Turn){ INTERRUPTED, n, NULL };
        logits = forward(&s->run, &id, 1, 1);
    }
}

/* ---- Chat ---------------------------------------------------------------------------------- */
/* ChatML is how a chat model reads a conversation:
 *
 *     <|im_start|>system\nYou are a helpful assistant<|im_end|>\n
 *     <|im_start|>user\nWhat colour is an apple?<|im_end|>\n
 *     <|im_start|>assistant\n                 and here it goes on, up to <|im_end|>
 *
 * This writes a turn up to the end of its content. Role and content are encoded as one plain text:
 * a newline that opens the content can merge with the one after the role, and an <|im_end|> that a
 * user types stays text. */
static void open_turn(Session *s, const char *role, Bytes content) {
    Text text = { 0 };
    push_bytes(&text, role, strlen(role));
    push_bytes(&text, "\n", 1);
    push_bytes(&text, content.data, content.n);
    push_id(&s->history, s->model->header.im_start);
    encode(&s->model->tokenizer, (Bytes){ text.data, text.n }, AS_TEXT, &s->history);
    free(text.data);
}

/* However a turn ended, in the conversation it ends with <|im_end|> and a newline. */
static void close_turn(Session *s) {
    push_id(&s->history, s->model->header.im_end);
    encode(&s->model->tokenizer, bytes_of("\n"), AS_TEXT, &s->history);
}

/* Appends a prompt to the history: in a chat as the next turn, else as it is. A conversation is
 * add_prompt, generate, add_prompt, generate and so on (ask, in Part III). */
static void add_prompt(Session *s, Bytes text) {
    const Header *h = &s->model->header;
    if (!s->chat) {
        encode(&s->model->tokenizer, text, WITH_SPECIAL, &s->history);
        if (s->history.n == 0) die(1, "an empty prompt: -p: a base model needs a text to continue");
        return;
    }
    if (s->history.n > 0) {                 // drop the model's stop token: close_turn writes one
        int last = s->history.id[s->history.n - 1];
        if (s->history.n > s->answer_start && is_stop(h, true, last)) s->history.n--;
        if (h->cuts_reasoning) cut_reasoning(s);            // what comes before </think>
        close_turn(s);
    } else if (s->system.n > 0) {
        open_turn(s, "system", s->system);
        close_turn(s);
    }
    open_turn(s, "user", text);
    close_turn(s);
    s->turn_start = s->history.n;
    if (h->opening != OPENS_NOTHING) open_turn(s, "assistant", bytes_of(""));
    const char *think = h->opening == OPENS_THINKING ? "<think>\n" : "";
    if (s->no_think) think = "<think>\n\n</think>\n\n";
    encode(&s->model->tokenizer, bytes_of(think), AS_TEXT, &s->history);    // <think> is one token
    s->answer_start = s->history.n;
}

/* =============================================================================================
 * Part II. The machine: what makes it fast and safe. Skip it at first.
 * ========================================================================================== */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

static int min_int(int a, int b) { return a < b ? a : b; }
static int max_int(int a, int b) { return a > b ? a : b; }

/* Zeroed memory for count * size bytes, kept to the program's end. It takes no space until it is
 * used: a cache of 32,768 positions of the 1.8B shape is 12.9 GB, of which a short chat fills a
 * hundredth. */
static void *reserve(uint64_t count, uint64_t size) {
    void *memory = MAP_FAILED;
    if (count <= PTRDIFF_MAX / size)
        memory = mmap(NULL, count > 0 ? (size_t)(count * size) : 1, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        die(1, "no room for %.1f GB of address space: -c: ask for a shorter context",
            (double)count * (double)size * 1e-9);
    return memory;
}

/* ---- Vectors ------------------------------------------------------------------------------- */
/* As many floats as a register holds. gcc and clang calculate with such a type as with a number. */
#if defined __AVX512F__
enum { WIDTH = 16 };
#elif defined __AVX__
enum { WIDTH = 8 };
#else
enum { WIDTH = 4 };
#endif
typedef float Floats __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef uint32_t Words __attribute__((vector_size(4 * WIDTH), aligned(1), may_alias));
typedef float Quad __attribute__((vector_size(16)));

static Floats load_floats(const float *x) { return *(const Floats *)x; }

typedef union { float number; uint32_t bits; } Float;
static inline uint32_t bits_of(float x) { return (Float){ .number = x }.bits; }
static inline float float_of(uint32_t bits) { return (Float){ .bits = bits }.number; }

/* x in every lane. (gcc refuses vector * x where it widens floats to calculate: x87, s390x.) */
static inline Floats all_lanes(float x) { return (Floats)(bits_of(x) + (Words){ 0 }); }

static float add_up(Floats x) {
    Quad quads[WIDTH / 4], sum = { 0 };
    memcpy(quads, &x, sizeof x);
    for (int i = 0; i < WIDTH / 4; i++) sum += quads[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* As dot. n may be any number. */
static float fast_dot(const float *a, const float *b, int n) {
    Floats sum = { 0 };
    int i = 0;
    for (; i + WIDTH <= n; i += WIDTH) sum += load_floats(a + i) * load_floats(b + i);
    return add_up(sum) + dot(a + i, b + i, n - i);
}

/* e^x = 2^whole * e^rest, where |rest| <= ln(2) / 2. A polynomial is exact enough for e^rest.
 * (-ffast-math would break this: it may take x - x for 0, and x + round - round for x.) */
static inline float exponential(float x) {
    const float round = 0x1.8p23f;          // a float this large has no fraction: adding it rounds,
                                            // and the low bits hold the whole number
    uint32_t sign = bits_of(x) & 0x80000000, size = bits_of(x) & 0x7FFFFFFF, most = bits_of(87);
    // Limits |x| to 87. It compares integers: with floats gcc may branch and then not vectorise.
    float within = float_of(sign | (size < most ? size : most));
    float shifted = within * 1.44269504f + round, whole = shifted - round;      // x / ln(2)
    float r = within - whole * 0.693359375f + whole * 2.12194440e-4f;   // ln(2), in two parts
    float p = 0.0416657962f + r * (8.33345205e-3f + r * 1.39353172e-3f);
    p = 1.0f + r * (1.0f + r * (0.5f + r * (0.166666657f + r * p)));
    float power = float_of((bits_of(shifted) + 127) << 23);             // 2^whole
    return p * power + (x - x);             // x - x is 0, or NaN where x is NaN or infinite
}

/* Dies if one of x[n] is NaN or infinite: a weight is, or it is so large that a sum overflows. */
static void check_finite(const Model *m, const float *x, int n) {
    int bad = 0;
    for (int i = 0; i < n; i++) bad += !(fabsf(x[i]) < INFINITY);
    if (bad) die(1, "the weights hold NaN or infinity: %s: export it again", m->file.path);
}

/* ---- Weight types -------------------------------------------------------------------------- */
enum { FEW = 8 };                           // up to FEW tokens: multiply_rows; more: multiply_tiles
enum { GROUP = 64 };                        // columns of a group, which shares an int8 scale
enum { AHEAD = 8192 };                      // dot_groups prefetches the bytes this far ahead
enum { PADDING = 16 };                      // floats between vectors: 4,096 bytes apart, they would
                                            // share cache sets and evict each other

/* Widening is slow: gcc 12 needs 10 instructions to turn 8 int8 into int32. This needs 3 or fewer:
 * load 32 bits into each lane (two bf16 or four int8), shift the k-th of them to the top, clear the
 * bits below it. With WIDTH 4 and bf16 (step 2), the weights come out in this order:
 *
 *     in memory   w0 w1 | w2 w3 | w4 w5 | w6 w7         x0 x1 x2 x3 x4 x5 x6 x7
 *     k = 0       w0      w2      w4      w6     times  x0 x2 x4 x6
 *     k = 1       w1      w3      w5      w7     times  x1 x3 x5 x7
 *
 * This brings x[n][cols] into that order: packed[n][cols + PADDING] = x0 x2 x4 x6 x1 x3 x5 x7... */
static void interleave(float *packed, const float *x, int n, int cols, int step) {
    for (int t = 0; t < n; t++, x += cols, packed += PADDING)
        for (int i = 0; i < cols; i += step * WIDTH)
            for (int k = 0; k < step; k++)
                for (int lane = 0; lane < WIDTH; lane++) *packed++ = x[i + step * lane + k];
}

struct WeightType {                         // what can be done with a row of weights:
    const char *name;
    size_t (*row_size)(int cols);                                   // its bytes
    void (*load)(float *out, const void *row, int cols);            // to floats
    // out[t] = row · x[t] for t < n <= FEW. interleave wrote x[n][cols + PADDING]. If n > 1, all
    // of out[FEW] is computed; the values from n on have no meaning
    void (*dot)(float *out, const void *row, const float *x, int n, int cols);
    int step;                                       // weights in 32 bits; step * WIDTH <= GROUP
    int group_size;                                                 // Header.group_size
};

typedef Floats LoadWeights(const void *group, int k);       // the k-th WIDTH weights of a group

/* The body of every dot. A weight is what load returns, times unit, times its group's scale (if
 * there are scales). The compiler inlines this at each call, where load, weight_size, unit and n
 * (1 or FEW) are constants. Otherwise it could not unroll the loops over n. */
__attribute__((always_inline))
static inline void dot_groups(float *out, LoadWeights *load, size_t weight_size, float unit,
                              const void *row, const float *scales, const float *x, const int n,
                              int cols) {
    Floats sums[FEW] = { { 0 } };
    for (int g = 0; g < cols / GROUP; g++, x += GROUP) {
        const char *weights = (const char *)row + g * GROUP * weight_size;
        Floats group[FEW] = { { 0 } };
        for (size_t i = 0; i < GROUP * weight_size; i += 64)
            __builtin_prefetch(weights + i + AHEAD);
        for (int k = 0; k < GROUP / WIDTH; k++)
            for (int t = 0; t < n; t++)
                group[t] += load(weights, k) * load_floats(x + t * (cols + PADDING) + k * WIDTH);
        const Floats scale = all_lanes(scales ? scales[g] * unit : unit);
        for (int t = 0; t < n; t++) sums[t] += group[t] * scale;
    }
    for (int t = 0; t < n; t++) out[t] = add_up(sums[t]);
}

static size_t bf16_row_size(int cols) { return 2 * (size_t)cols; }

/* A bf16 in the upper half of 32 bits is a float. */
static inline Floats bf16_lanes(const void *group, int k) {
    return (Floats)(((const Words *)group)[k / 2] << (16 - 16 * (k % 2)) & 0xFFFF0000);
}

static void dot_bf16(float *out, const void *row, const float *x, int n, int cols) {
    if (n == 1) dot_groups(out, bf16_lanes, 2, 1, row, NULL, x, 1, cols);
    else dot_groups(out, bf16_lanes, 2, 1, row, NULL, x, FEW, cols);
}

/* An int8 row is whole numbers from -127 to 127, padding to 4 bytes, then a float for each group of
 * 64 columns. A weight is its number times this scale. */
static size_t int8_scales(int cols) { return ((size_t)cols + 3) / 4 * 4; }      // where they begin

static size_t int8_row_size(int cols) {
    return int8_scales(cols) + ((size_t)cols + GROUP - 1) / GROUP * sizeof(float);
}

static void load_int8(float *out, const void *row, int cols) {
    const int8_t *w = row;
    const float *scales = (const void *)(w + int8_scales(cols));
    for (int begin = 0; begin < cols; begin += GROUP)
        for (int i = begin; i < min_int(begin + GROUP, cols); i++)
            out[i] = (float)w[i] * scales[begin / GROUP];
}

static void store_int8(void *row, const float *x, int cols) {
    int8_t *w = row;
    float *scales = (void *)(w + int8_scales(cols));
    memset(w, 0, int8_row_size(cols));
    for (int begin = 0; begin < cols; begin += GROUP) {
        int end = min_int(begin + GROUP, cols);
        float max = 0;
        for (int i = begin; i < end; i++) max = fmaxf(max, fabsf(x[i]));
        float scale = scales[begin / GROUP] = max / 127;
        for (int i = begin; i < end && scale > 0; i++) w[i] = (int8_t)lrintf(x[i] / scale);
    }
}

/* An int8 in the top byte of 32 bits is 2^24 times too large; dot_int8's unit takes that back. */
static inline Floats int8_lanes(const void *group, int k) {
    Words words = ((const Words *)group)[k / 4] << (24 - 8 * (k % 4));
    if (k % 4 > 0) words &= 0xFF000000;     // a shift by 24 has left zeros there
    return __builtin_convertvector((Ints)words, Floats);
}

static void dot_int8(float *out, const void *row, const float *x, int n, int cols) {
    const float *scales = (const void *)((const int8_t *)row + int8_scales(cols));
    if (n == 1) dot_groups(out, int8_lanes, 1, 0x1p-24f, row, scales, x, 1, cols);
    else dot_groups(out, int8_lanes, 1, 0x1p-24f, row, scales, x, FEW, cols);
}

static const WeightType weight_types[] = {  // in the order of Header.weight_type
    { "bf16", bf16_row_size, load_bf16, dot_bf16, 2, 0 },
    { "int8", int8_row_size, load_int8, dot_int8, 4, GROUP },
};
enum { BF16, INT8, N_WEIGHT_TYPES };

static void load_row(float *out, const Matrix *m, int row) {
    m->type->load(out, m->data + row * m->row_size, m->cols);
}

/* ---- Threads ------------------------------------------------------------------------------- */
typedef struct {                            // a slow step of forward, which threads share
    Run *run;
    int n;                                  // tokens
    int layer;                              // attend
    float *out;                             // matmul: its arguments
    const float *x;
    const Matrix *w;
    const float *bias;
    int piece;                              // rows that a thread takes at a time
} Step;

typedef void Task(const Step *step, int item, float *scratch);      // one item of a step's work

typedef struct Pool {
    int n_threads;                          // with the caller, which is thread 0
    size_t scratch_size;
    float *scratch;                         // [n_threads][scratch_size]
    float *packed;                          // [BATCH][most columns]  tokens: pack, interleave
    Task *task;                             // what the threads do; set before n_steps changes
    const Step *step;
    int n_items;
    atomic_int started;                     // threads that have begun
    atomic_int next;                        // the next item that nobody has taken
    atomic_uint busy;                       // threads that have not finished this step
    atomic_uint n_steps;                    // goes up when there is something to do
    pthread_mutex_t mutex;
    pthread_cond_t wake;
} Pool;

static void take_items(Pool *pool, int thread) {
    for (int item; (item = atomic_fetch_add(&pool->next, 1)) < pool->n_items; )
        pool->task(pool->step, item, pool->scratch + thread * pool->scratch_size);
}

/* Returns when *word differs from value. The steps of a forward pass are microseconds apart, so a
 * thread spins for a while before it sleeps. It reads *word again under the mutex, which
 * wake_sleepers takes, too. So no wake-up is lost. */
static void wait_while(Pool *pool, atomic_uint *word, unsigned value) {
    for (int looks = 0; looks < 20000; looks++)
        if (atomic_load_explicit(word, memory_order_acquire) != value) return;
    pthread_mutex_lock(&pool->mutex);
    while (atomic_load(word) == value) pthread_cond_wait(&pool->wake, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}

/* Called after a word has changed. */
static void wake_sleepers(Pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

static void *run_thread(void *argument) {
    Pool *pool = argument;
    int thread = atomic_fetch_add(&pool->started, 1) + 1;
    for (unsigned done = 0;; done++) {
        wait_while(pool, &pool->n_steps, done);
        take_items(pool, thread);
        if (atomic_fetch_sub(&pool->busy, 1) == 1) wake_sleepers(pool);
    }
    return NULL;
}

static Pool *start_pool(int n_threads) {
    Pool *pool = reserve(1, sizeof *pool);
    pool->n_threads = n_threads;
    bool failed = pthread_mutex_init(&pool->mutex, NULL) || pthread_cond_init(&pool->wake, NULL);
    for (int i = 1; i < n_threads && !failed; i++) {
        pthread_t id;
        failed = pthread_create(&id, NULL, run_thread, pool) || pthread_detach(id);
    }
    if (failed) die(1, "%d threads cannot be started: -t: ask for fewer", n_threads);
    return pool;
}

/* Does a task for each item below n_items. The threads take them one by one, since a processor may
 * have slow and fast cores; who takes an item never changes the result. Below 100,000 multiply-adds
 * waking the threads takes longer than the work (measured). */
static void parallel(Task *task, const Step *step, int n_items, double multiply_adds) {
    Pool *pool = step->run->pool;
    bool shared = pool->n_threads > 1 && n_items > 1 && multiply_adds >= 100e3;
    pool->task = task;
    pool->step = step;
    pool->n_items = n_items;
    atomic_store(&pool->next, 0);
    if (shared) {
        atomic_store(&pool->busy, (unsigned)pool->n_threads - 1);
        atomic_fetch_add(&pool->n_steps, 1);
        wake_sleepers(pool);
    }
    take_items(pool, 0);
    for (unsigned left; (left = atomic_load(&pool->busy)) > 0; )
        wait_while(pool, &pool->busy, left);
}

/* ---- The fast matrix product --------------------------------------------------------------- */
enum { ROWS = 6, LANES = 2 * WIDTH };       // a tile: ROWS rows of weights by up to LANES tokens
enum { PIECES = 8 };                        // pieces of a matrix for each thread. Memory is read
                                            // faster in long ones: 48 rows took up to 30 % longer

/* out[ROWS][lanes] = a · x[n][lanes], where a[row * row_stride + k * stride] is a's element
 * (row, k). tile calls this with a constant for lanes, WIDTH or LANES. So the sums are 6 or 12
 * vectors, which gcc and clang keep in registers for the whole loop. */
__attribute__((always_inline))
static inline void tile_of(float *out, const float *a, size_t row_stride, size_t stride,
                           const float *x, int n, const int lanes) {
    Floats sums[ROWS][2] = { { { 0 } } };
    for (int k = 0; k < n; k++, a += stride, x += lanes)
        for (int row = 0; row < ROWS; row++)
            for (int v = 0; v < lanes / WIDTH; v++)
                sums[row][v] += all_lanes(a[row * row_stride]) * load_floats(x + v * WIDTH);
    for (int row = 0; row < ROWS; row++) memcpy(out + row * lanes, sums[row], lanes * sizeof *out);
}

static void tile(float *out, const float *a, size_t row_stride, size_t stride, const float *x,
                 int n, int lanes) {
    if (lanes == WIDTH) tile_of(out, a, row_stride, stride, x, n, WIDTH);
    else tile_of(out, a, row_stride, stride, x, n, LANES);
}

static int lanes_for(int n) { return n <= WIDTH ? WIDTH : LANES; }

/* packed[item][cols][lanes] = up to LANES of the tokens x[n][cols] side by side, then zeros. */
static void pack(const Step *s, int item, float *scratch) {
    int cols = s->w->cols, first = item * LANES, lanes = lanes_for(s->n - first);
    float *packed = s->run->pool->packed + first * cols;
    (void)scratch;
    for (int begin = 0; begin < cols; begin += GROUP)       // a part that the cache holds
        for (int lane = 0, t = first; lane < lanes; lane++, t++)
            for (int k = begin; k < min_int(begin + GROUP, cols); k++)
                packed[k * lanes + lane] = t < s->n ? s->x[t * cols + k] : 0;
}

/* For many tokens: ROWS rows are loaded as floats and meet all tokens, tile by tile. */
static void multiply_tiles(const Step *s, int item, float *weights) {   // [ROWS][stride]
    const Matrix *w = s->w;
    int stride = w->cols + PADDING, end = min_int((item + 1) * s->piece, w->rows);
    float sums[ROWS * LANES];
    for (int row = item * s->piece; row < end; row += ROWS) {
        int n_rows = min_int(ROWS, end - row);
        for (int i = 0; i < n_rows; i++) load_row(weights + i * stride, w, row + i);
        const unsigned char *next = w->data + (row + n_rows) * w->row_size;
        for (size_t i = 0; row + n_rows < end && i < ROWS * w->row_size; i += 64)
            __builtin_prefetch(next + i);
        for (int t = 0; t < s->n; t += LANES) {
            int lanes = lanes_for(s->n - t);
            tile(sums, weights, stride, 1, s->run->pool->packed + t * w->cols, w->cols, lanes);
            for (int lane = 0; lane < min_int(lanes, s->n - t); lane++)
                for (int i = 0; i < n_rows; i++)
                    s->out[(t + lane) * w->rows + row + i] =
                        sums[i * lanes + lane] + (s->bias ? s->bias[row + i] : 0);
        }
    }
}

/* For few: each row is multiplied as it is read. */
static void multiply_rows(const Step *s, int item, float *weights) {
    const Matrix *w = s->w;
    float out[FEW];
    for (int row = item * s->piece; row < min_int((item + 1) * s->piece, w->rows); row++) {
        if (w->cols % GROUP == 0)
            w->type->dot(out, w->data + row * w->row_size, s->run->pool->packed, s->n, w->cols);
        else {
            load_row(weights, w, row);
            for (int t = 0; t < s->n; t++) out[t] = fast_dot(weights, s->x + t * w->cols, w->cols);
        }
        for (int t = 0; t < s->n; t++)
            s->out[t * w->rows + row] = out[t] + (s->bias ? s->bias[row] : 0);
    }
}

static void fast_matmul(Run *r, float *out, const float *x, int n, const Matrix *w,
                        const float *bias) {
    int piece = w->rows / (PIECES * r->pool->n_threads) / ROWS * ROWS + ROWS;   // whole tiles
    Step step = { .run = r, .n = n, .out = out, .x = x, .w = w, .bias = bias, .piece = piece };
    if (n > FEW) parallel(pack, &step, (n + LANES - 1) / LANES, (double)n * w->cols);
    else if (w->cols % GROUP == 0) interleave(r->pool->packed, x, n, w->cols, w->type->step);
    parallel(n > FEW ? multiply_tiles : multiply_rows, &step, (w->rows + piece - 1) / piece,
             (double)w->rows * w->cols * n);
}

/* ---- Fast attention ------------------------------------------------------------------------ */
static void attend_few(const Step *s, int head, float *scores) {
    attend_head(s->run, s->layer, s->n, head, scores, fast_dot);
}

/* As attend_head for many tokens: LANES queries side by side, in tiles of the matrix product. The
 * last tiles read beyond the last key, or a value's last column; what comes of it is not used. */
static void attend_many(const Step *s, int item, float *scratch) {
    const Run *r = s->run;
    const Model *m = r->model;
    int n_heads = m->header.n_heads, head_dim = m->header.head_dim;
    int head = item % n_heads, first = item / n_heads * LANES;
    int lanes = lanes_for(s->n - first), n_queries = min_int(lanes, s->n - first);
    int before = r->position + first, n_keys = before + n_queries;
    size_t cache = cache_offset(r, s->layer, head / (n_heads / m->header.n_kv_heads));
    float *q = scratch, *scores = scratch + head_dim * LANES;   // [head_dim or n_keys][lanes]
    float max[LANES], sum[LANES] = { 0 }, out[ROWS * LANES];

    for (int lane = 0; lane < lanes; lane++) {
        int t = first + min_int(lane, n_queries - 1);
        const float *from = r->q + t * m->q_dim + head * head_dim;
        for (int i = 0; i < head_dim; i++) q[i * lanes + lane] = from[i] / sqrtf((float)head_dim);
        max[lane] = -1e30f;
    }
    for (int k = 0; k < n_keys; k += ROWS)                  // ROWS keys and all queries at a time
        tile(scores + (size_t)k * lanes, r->keys + cache + (size_t)k * head_dim, head_dim, 1,
             q, head_dim, lanes);
    for (int k = 0; k < n_keys; k++) {                                  // softmax in each lane
        float *here = scores + (size_t)k * lanes;
        // the causal mask: exponential turns -1e30 into e^-87, too small to change the sum
        for (int lane = 0; lane < k - before; lane++) here[lane] = -1e30f;
        for (int lane = 0; lane < lanes; lane++)
            max[lane] = here[lane] > max[lane] ? here[lane] : max[lane];
    }
    for (int k = 0; k < n_keys; k++) {
        float *here = scores + (size_t)k * lanes;
        for (int lane = 0; lane < lanes; lane++) here[lane] = exponential(here[lane] - max[lane]);
        for (int lane = 0; lane < lanes; lane++) sum[lane] += here[lane];
    }
    for (int i = 0; i < head_dim; i += ROWS) {              // ROWS columns of the values
        tile(out, r->values + cache + i, 1, head_dim, scores, n_keys, lanes);
        for (int lane = 0; lane < n_queries; lane++)
            for (int row = 0; row < min_int(ROWS, head_dim - i); row++)
                r->attended[(first + lane) * m->q_dim + head * head_dim + i + row] =
                    out[row * lanes + lane] / sum[lane];
    }
}

static void fast_attend(Run *r, int layer, int n) {
    Step step = { .run = r, .n = n, .layer = layer };
    int n_items = r->model->header.n_heads * (n > FEW ? (n + LANES - 1) / LANES : 1);
    parallel(n > FEW ? attend_many : attend_few, &step, n_items,
             2.0 * n * (r->position + n) * r->model->q_dim);
}

/* ---- For the sampler ----------------------------------------------------------------------- */
/* Sorting all 150,000 tokens takes over 20 ms, as long as a 0.5B model takes for a token. So when c
 * has `full` tokens, only the k most likely stay. Later tokens that are less likely are skipped. */
static int preselect(Candidate *c, const float *logits, int n, int k) {
    int kept = 0, full = 2 * k + 100;
    float least = -INFINITY;
    for (int i = 0; i < n; i++) {
        if (logits[i] < least) continue;
        c[kept++] = (Candidate){ i, logits[i], 0 };
        if (kept < full) continue;
        kept = keep_top_k(c, kept, k);
        least = c[k - 1].logit;
        full = 2 * kept + 100;
    }
    return kept;
}

/* splitmix64 (Steele, Lea & Flood 2014), its upper 53 bits. */
static double random_uniform(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

/* ---- The file and its checks --------------------------------------------------------------- */
typedef struct {                            // a tensor of the file, and where the model has it:
    Matrix *matrix;                         // a matrix of Header.weight_type,
    const float **vector;                   // or a row of floats
    int rows, cols;                         // no rows: this model has no such tensor
} Tensor;

/* Lists all tensors in the order in which they stand in the file, each at the next multiple of 64
 * bytes. After the last one comes one without rows. */
static Tensor *list_tensors(Model *m) {
    enum { OF_LAYER = 14 };
    const Header *h = &m->header;
    Tensor *list = reserve(4 + h->n_layers * OF_LAYER, sizeof *list), *end = list;
    *end++ = (Tensor){ &m->embedding, NULL, h->vocab_size, h->dim };
    for (int i = 0; i < h->n_layers; i++) {
        Layer *l = &m->layers[i];
        const Tensor tensors[OF_LAYER] = {
            { NULL, &l->attention_norm, 1, h->dim },
            { &l->wq, NULL, m->q_dim, h->dim }, { NULL, &l->bq, h->qkv_bias, m->q_dim },
            { &l->wk, NULL, m->kv_dim, h->dim }, { NULL, &l->bk, h->qkv_bias, m->kv_dim },
            { &l->wv, NULL, m->kv_dim, h->dim }, { NULL, &l->bv, h->qkv_bias, m->kv_dim },
            { NULL, &l->q_norm, h->qk_norm, h->head_dim },
            { NULL, &l->k_norm, h->qk_norm, h->head_dim },
            { &l->wo, NULL, h->dim, m->q_dim },
            { NULL, &l->mlp_norm, 1, h->dim },
            { &l->gate, NULL, h->hidden_dim, h->dim }, { &l->up, NULL, h->hidden_dim, h->dim },
            { &l->down, NULL, h->dim, h->hidden_dim },
        };
        for (int k = 0; k < OF_LAYER; k++) if (tensors[k].rows > 0) *end++ = tensors[k];
    }
    *end++ = (Tensor){ NULL, &m->norm, 1, h->dim };
    if (!h->tied) *end++ = (Tensor){ &m->output, NULL, h->vocab_size, h->dim };
    return list;
}

/* Dies if a number of the header is outside of what the program can work with. After this no
 * product of sizes overflows, and every id has a row. */
static void check_header(const Header *h, const char *path) {
#define FIELD(name, low, high) { #name, (double)(h->name), low, high }
    const double most = INT32_MAX, ids = (double)h->vocab_size - 1;
    const bool known = h->weight_type >= 0 && h->weight_type < N_WEIGHT_TYPES;
    const int group = known ? weight_types[h->weight_type].group_size : 0;
    const struct { const char *name; double value, low, high; } fields[] = {
        FIELD(weight_type, 0, N_WEIGHT_TYPES - 1), FIELD(group_size, group, group),
        FIELD(dim, 1, 1 << 20), FIELD(hidden_dim, 1, 1 << 20),
        FIELD(n_layers, 1, 1 << 12), FIELD(n_heads, 1, 1 << 12),
        FIELD(n_kv_heads, 1, h->n_heads), FIELD(head_dim, 2, 1 << 12), FIELD(head_dim % 2, 0, 0),
        { "n_heads % n_kv_heads", h->n_kv_heads > 0 ? h->n_heads % h->n_kv_heads : 0, 0, 0 },
        { "n_heads * head_dim", (double)h->n_heads * h->head_dim, 1, 1 << 20 },
        FIELD(vocab_size, 1, 1 << 24), FIELD(max_positions, 1, 1 << 24), FIELD(tied, 0, 1),
        FIELD(rms_eps, 0, 0.999999), FIELD(rope_theta, 1e-30, 1e30), FIELD(qkv_bias, 0, 1),
        FIELD(qk_norm, 0, 1), FIELD(kind, BASE, CHAT), FIELD(chatml, 0, 1),
        FIELD(opening, OPENS_NOTHING, OPENS_THINKING), FIELD(cuts_reasoning, 0, 1),
        FIELD(im_start, 0, ids), FIELD(im_end, 0, ids),
        FIELD(endoftext, 0, ids), FIELD(tokenizer_eos, -1, ids), FIELD(max_new_tokens, 0, most),
        FIELD(do_sample, 0, 1), FIELD(temperature, 0, 1e6), FIELD(top_k, 0, most),
        FIELD(top_p, 0, 1), FIELD(min_p, 0, 1), FIELD(repetition_penalty, 1e-7, 1e7),
        FIELD(n_eos, 0, 32), FIELD(system_size, 0, sizeof h->system), FIELD(name[63], 0, 0),
    };
#undef FIELD
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (!(fields[i].value >= fields[i].low && fields[i].value <= fields[i].high))   // NaN, too
            die(1, "the header's %s is %.9g, not between %.9g and %.9g: %s: export it again",
                fields[i].name, fields[i].value, fields[i].low, fields[i].high, path);
    for (int i = 0; i < h->n_eos; i++)
        if (h->eos[i] < 0 || h->eos[i] > ids)
            die(1, "the header's eos is %d, not below vocab_size: %s: export it again",
                h->eos[i], path);
}

/* Maps PATH and finds its tensors. No weight is copied: the kernel reads a page when it is used. */
static void map_model(Model *m, const char *path) {
    *m = (Model){ .file = map_file(path) };
    m->header = *m->file.header;
    const Header *h = &m->header;
    check_header(h, path);
    m->tokenizer = open_tokenizer(&m->file);
    m->q_dim = h->n_heads * h->head_dim;
    m->kv_dim = h->n_kv_heads * h->head_dim;
    m->layers = reserve(h->n_layers, sizeof *m->layers);
    uint64_t end = h->weights_offset, size = m->file.size;
    for (const Tensor *t = list_tensors(m); t->rows > 0; t++) {
        const WeightType *type = &weight_types[h->weight_type];
        size_t row_size = t->matrix ? type->row_size(t->cols) : t->cols * sizeof(float);
        uint64_t begin = (end + 63) / 64 * 64;
        end = begin + (uint64_t)t->rows * row_size;
        if (end > size) break;
        const unsigned char *data = m->file.data + begin;
        if (t->matrix) *t->matrix = (Matrix){ type, t->rows, t->cols, row_size, data };
        else *t->vector = (const float *)(const void *)data;
    }
    if (end != size)
        die(1, "the weights do not end where the file does, at byte %llu: %s: export it again",
            (unsigned long long)size, path);
    if (h->tied) m->output = m->embedding;
}

/* A run with an empty cache. */
static Run new_run(const Model *m, int n_threads, int context, bool plain) {
    const Header *h = &m->header;
    Pool *pool = start_pool(n_threads);
    Run r = { .model = m, .context = context, .plain = plain, .pool = pool };
    uint64_t widest = max_int(max_int(h->dim, m->q_dim), h->hidden_dim);
    uint64_t positions = (uint64_t)h->n_layers * h->n_kv_heads * context;
    positions += ROWS;                      // attend_many's tiles read beyond the last
    pool->scratch_size = ROWS * (widest + PADDING)                              // multiply_tiles
        + ((uint64_t)h->head_dim + context + ROWS) * LANES;                     // attend_many
    const struct { float **buffer; uint64_t count, size; } buffers[] = {
        { &r.keys, positions, h->head_dim }, { &r.values, positions, h->head_dim },
        { &r.x, BATCH, h->dim }, { &r.normed, BATCH, h->dim }, { &r.delta, BATCH, h->dim },
        { &r.q, BATCH, m->q_dim }, { &r.attended, BATCH, m->q_dim },
        { &r.k, BATCH, m->kv_dim }, { &r.v, BATCH, m->kv_dim },
        { &r.gate, BATCH, h->hidden_dim }, { &r.up, BATCH, h->hidden_dim },
        { &r.hidden, BATCH, h->hidden_dim }, { &r.logits, SCORED, h->vocab_size },
        { &r.cosine, BATCH, h->head_dim / 2 }, { &r.sine, BATCH, h->head_dim / 2 },
        { &r.row, 1, widest }, { &r.scores, 1, context }, { &pool->packed, BATCH, widest },
        { &pool->scratch, n_threads, pool->scratch_size },
    };
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        *buffers[i].buffer = reserve(buffers[i].count, buffers[i].size * sizeof(float));
    return r;
}

/* =============================================================================================
 * Part III. The program
 * ========================================================================================== */
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>

enum { GENERATE = 1, SCORE = 2, ANSWER = 4, COMPARE = 8, INFO = 16, QUANTIZE = 32 };   // commands
enum { PROMPTED = GENERATE | SCORE | ANSWER | COMPARE, ANY = PROMPTED | INFO | QUANTIZE };
typedef struct { Bytes *text; size_t n, capacity; } Texts;  // of a flag that can be repeated
typedef struct { bool given; double value; uint64_t whole; } Number;    // whole: a seed's digits

static struct {                             // what the command line asks for
    int command;
    const char *model, *system, *mode, *ids, *compare, *quantize, *logits;      // or NULL
    Texts prompts, stops, answers;
    Number max_tokens, top, pace, context, threads, seed, temperature, top_k, top_p, min_p, penalty;
    bool ignore_stop, no_think, watch, score, greedy, plain, info, verbose, help;
} opt = { .command = GENERATE };

static double either(Number flag, double otherwise) { return flag.given ? flag.value : otherwise; }

/* ---- Signals and files --------------------------------------------------------------------- */
static volatile sig_atomic_t waiting;       // for input: there is no turn that could be ended
static struct termios terminal;             // its settings before read_line changed them

static void restore_terminal(void) {
    if (waiting) tcsetattr(0, TCSANOW, &terminal);          // no effect where input is a pipe
    waiting = 0;
}

/* Ctrl-C ends the turn. Twice, or while waiting, it ends the program. Other signals always do. */
static void on_signal(int number) {
    if (number == SIGINT && !interrupted && !waiting) { interrupted = 1; return; }
    remove_unfinished();
    restore_terminal();
    _exit(128 + number);
}

/* Creates PATH.PID.tmp, which must not exist. finish_file renames it to PATH when it is complete.
 * Before that an exit or a caught signal removes it. Refuses to replace the model, which is mapped,
 * or what is not a regular file. Call before start_pool: it blocks signals in one thread only. */
static FILE *create_file(const char *path, const File *model) {
    static char name[4096];
    struct stat old;
    sigset_t all, before;
    bool found = stat(path, &old) == 0;
    if (!*path) die(2, "no file name: --logits or --quantize: name the file to write");
    if (found && !S_ISREG(old.st_mode)) die(1, "not a regular file: %s: choose another name", path);
    if (found && old.st_dev == model->device && old.st_ino == model->inode)
        die(1, "this is the model itself: %s: choose another name", path);
    snprintf(name, sizeof name, "%s.%ld.tmp", path, (long)getpid());
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);  // a signal waits until it is known what to remove
    int descriptor = open(name, O_WRONLY | O_CREAT | O_EXCL, 0666);
    unfinished = descriptor < 0 ? NULL : name;
    sigprocmask(SIG_SETMASK, &before, NULL);
    FILE *file = descriptor < 0 ? NULL : fdopen(descriptor, "wb");
    if (!file) die(1, "cannot create: %s: %s", name, strerror(errno));
    return file;
}

static void write_bytes(FILE *file, const void *data, size_t n) {
    if (n > 0 && fwrite(data, 1, n, file) != n)
        die(1, "cannot write: %s: %s", unfinished, strerror(errno));
}

static void finish_file(FILE *file, const char *path) {
    if (fclose(file) != 0 || rename(unfinished, path) != 0)
        die(1, "cannot write: %s: %s", path, strerror(errno));
    unfinished = NULL;
}

/* ---- Text on a terminal -------------------------------------------------------------------- */
/* The columns of the terminal that standard output is now, or `otherwise` if it is none. */
static int terminal_width(int otherwise) {
    struct winsize window;
    if (!isatty(1)) return otherwise;
    return ioctl(1, TIOCGWINSZ, &window) == 0 && window.ws_col > 0 ? window.ws_col : 80;
}

/* FLOWING passes newlines and tabs through. ONE_LINE shows a newline as ⏎. TOKEN also shows
 * a space as ␣, and fills all columns. */
typedef enum { FLOWING, ONE_LINE, TOKEN } Style;

/* Returns at most so many columns of a text, valid until the next call. What a terminal would obey,
 * and bytes that are no text, become \xHH. */
static const char *visible(const Model *m, Bytes text, Style style, int room) {
    static Text out;
    int used = 0;
    out.n = 0;
    for (Char c; next_char(&text, &c); ) {
        char shown[32] = "";
        int width = c.code == '\n' ? 1 : char_properties(&m->tokenizer, c.code) >> 11 & 3;
        bool flows = style == FLOWING && (c.code == '\n' || c.code == '\t');
        memcpy(shown, c.bytes, c.size);
        if (c.code == '\n' && !flows) strcpy(shown, "⏎");
        else if (c.code == ' ' && style == TOKEN) strcpy(shown, "␣");
        else if (c.kind != UTF8_VALID || (is_control(c.code) && !flows))
            for (size_t i = 0; i < c.size; i++)
                width = (int)(4 * i) + sprintf(shown + 4 * i, "\\x%02x", c.bytes[i] & 0xFF);
        if (used + width > room - (text.n > 0)) {           // it does not fit: this is the end
            strcpy(shown, "…");
            width = 1;
            text.n = 0;
        }
        push_bytes(&out, shown, strlen(shown));
        used += width;
    }
    for (; style == TOKEN && used < room; used++) push_bytes(&out, " ", 1);
    push_bytes(&out, "", 1);
    return out.data;
}

static const char *visible_token(const Model *m, int id, Style style, int room) {
    return visible(m, token_bytes(&m->tokenizer, id), style, room);
}

/* A probability from 0.000001 to 0.99999 with two digits that count, without an exponent. */
static const char *probability(double p) {
    static char text[32];
    int digits = 2;
    for (double x = p; x < 0.1 && digits < 6; x *= 10) digits++;
    for (double x = 1 - p; x < 0.005 && digits < 5; x *= 10) digits++;
    snprintf(text, sizeof text, "%.*f", digits, fmin(p, 0.99999));
    return p < 0.000001 ? "< 0.000001" : text;
}

static const char *plural(int n) { return n == 1 ? "" : "s"; }

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- Output: text, --stop, --watch, --logits ----------------------------------------------- */
typedef struct {                            // a token, and the probabilities in its place
    int id, likely, likely_penalised;       // chosen; most likely; most likely after the penalty
    float p, p_likely, p_im_end, p_end;     // from raw logits; p_end: max(p_im_end, P(endoftext))
    size_t begin;                           // where the token begins in the turn's text
    double time;                            // when it was chosen, in seconds()
} Observed;

typedef struct Output {                     // of a session's turn
    Text text;                              // what it says,
    size_t printed;                         // and how many bytes of that were printed
    Observed *observed;                     // [context + 1]  each of its tokens
    FILE *logits;                           // --logits, or NULL
} Output;

static Bytes tail(const Text *text, size_t from) {
    return (Bytes){ text->data + from, text->n - from };
}

/* Returns the --stop text that `rest` begins with or, if not `whole`, that begins with `rest`. */
static const Bytes *find_stop(Bytes rest, bool whole) {
    for (size_t i = 0; i < opt.stops.n; i++) {
        const Bytes *stop = &opt.stops.text[i];
        size_t n = whole ? stop->n : rest.n;                // bytes that must agree
        if (n <= stop->n && n <= rest.n && memcmp(rest.data, stop->data, n) == 0) return stop;
    }
    return NULL;
}

/* Takes the next bytes of the text and prints what is certain: not what may become a --stop text,
 * and on a terminal no half character. After the last bytes all is certain. Returns the --stop text
 * that is complete now, or NULL. */
static const Bytes *write_text(Session *s, Bytes bytes, bool last) {
    Text *text = &s->output->text;
    const Bytes *found = NULL;
    size_t begin = s->output->printed, at;
    push_bytes(text, bytes.data, bytes.n);
    for (at = begin; at < text->n && !last && !found; at++) {
        found = find_stop(tail(text, at), true);
        if (found) text->n = at;
    }
    for (at = begin; at < text->n && !last && !found; at++) {
        Bytes rest = tail(text, at);
        Char c;
        if (find_stop(rest, false)) break;
        if (next_char(&rest, &c) && c.kind == UTF8_CUT && isatty(1)) break;
    }
    if (last || found) at = text->n;
    s->output->printed = at;
    if (at == begin || opt.watch || opt.compare) return found;  // a table is shown instead
    Bytes certain = { text->data + begin, at - begin };
    if (isatty(1)) fputs(visible(s->model, certain, FLOWING, INT_MAX), stdout);
    else fwrite(certain.data, 1, certain.n, stdout);
    flush_output();
    return found;
}

/* A row of --watch, --score and --answer. p[vocab_size] are the probabilities there, NULL for the
 * first token of a text. An alternative is a row of --top. */
static void print_row(const Model *m, int n, int id, const float *p, bool alternative) {
    int width = terminal_width(0);
    bool heading = n == 1 && !alternative;
    double p_im_end = p ? p[m->header.im_end] : NAN, p_document = p ? p[m->header.endoftext] : NAN;
    if (width == 0) {                       // tab-separated, for other programs
        printf("%s%d\t%d\t", heading ? "n\tid\tpiece\tp\tp_im_end\tp_endoftext\n" : "", n, id);
        write_piece(&m->tokenizer, stdout, token_bytes(&m->tokenizer, id));
        printf("\t%.9g\t%.9g\t%.9g\n", p ? p[id] : NAN, p_im_end, p_document);
        return;
    }
    // The row fills the terminal. The bar gets the columns that these leave: "1234  ", the id, the
    // token, " 0.1234", "  0.1234 ", " 0.1234". A narrow terminal loses the id, then the last one.
    bool wide = width >= 72, ids = width >= 60, documents = width >= 50;
    int token = wide ? 14 : 10, bar = width - (6 + ids * 8 + token + 7 + 9 + documents * 7);
    if (heading)
        printf("   n  %s%-*s     p  %s%*s\n", ids ? "    id  " : "", token + 1, "token",
               wide ? "P(<|im_end|>)" : "<|im_end|>", documents ? bar + (wide ? 1 : 4) : 0,
               wide ? "P(<|endoftext|>)" : documents ? "<|endoftext|>" : "");
    if (alternative) printf("%6s", "");
    else printf("%4d  ", n);
    if (ids) printf("%6d  ", id);
    printf("%s ", visible_token(m, id, TOKEN, token));
    if (p) printf("%6.4f", fmin(p[id], 0.9999));
    else printf("%6s", "-");
    if (p && !alternative) {
        const char *terminal_name = getenv("NO_COLOR") ? "dumb" : getenv("TERM");
        bool green = p_im_end >= 0.5 && !(terminal_name && strcmp(terminal_name, "dumb") == 0);
        printf("  %6.4f %s", fmin(p_im_end, 0.9999), green ? "\033[1;32m" : "");
        for (int i = 0; i < bar; i++) fputs(p_im_end * bar >= i + 0.5 ? "█" : "·", stdout);
        if (green) fputs("\033[0m", stdout);
        if (documents) printf(" %6.4f", fmin(p_document, 0.9999));
    }
    puts("");
}

/* Records and shows the probabilities in the place of token id, the n-th of a turn or a table. */
static void observe(Session *s, const float *logits, int id, int n) {
    const Header *h = &s->model->header;
    Candidate *c = s->sampler.candidates;   // the sampler is done with them,
    float *p = s->sampler.probabilities;    // and with these
    int likely = argmax(logits, h->vocab_size), pace = (int)either(opt.pace, 0);
    struct timespec pause = { pace / 1000, pace % 1000 * 1000000 };
    if (n > 1 && pace > 0) nanosleep(&pause, NULL);
    memcpy(p, logits, h->vocab_size * sizeof *p);
    softmax(p, h->vocab_size);
    s->output->observed[n - 1] = (Observed){
        id, likely, argmax(s->sampler.logits, h->vocab_size), p[id], p[likely], p[h->im_end],
        fmaxf(p[h->im_end], p[h->endoftext]), s->output->text.n, seconds() };
    if (s->output->logits) write_bytes(s->output->logits, logits, h->vocab_size * sizeof *logits);
    if (opt.watch || opt.score || opt.answers.n > 0) print_row(s->model, n, id, p, false);
    int top = opt.top.given ? preselect(c, logits, h->vocab_size, (int)opt.top.value) : 0;
    qsort(c, top, sizeof *c, likelier_first);
    for (int i = 0; i < min_int(top, (int)opt.top.value); i++)
        print_row(s->model, n, c[i].id, p, true);
    flush_output();
}

/* ---- Turns --------------------------------------------------------------------------------- */
/* Keeps only what follows </think> of the model's last turn, as the template of a reasoning model
 * does. The cache returns to the start of the turn, so that text is read again. (add_prompt may
 * have written <think> or </think> itself. They are removed, too.) */
static void cut_reasoning(Session *s) {
    push_bytes(&s->output->text, "", 1);    // a NUL, for strstr
    const char *text = s->output->text.data, *from = text, *end = text + s->output->text.n - 1;
    for (const char *at = text; (at = strstr(at, "</think>")); ) from = at += strlen("</think>");
    if (from > text || s->no_think || s->model->header.opening == OPENS_THINKING) {
        if (from > text) from += strspn(from, "\n");
        s->history.n = s->turn_start;
        s->run.position = min_int(s->run.position, (int)s->turn_start);
        open_turn(s, "assistant", (Bytes){ from, (size_t)(end - from) });
    }
}

typedef enum {                              // why a turn ended, or who let it run on
    NOTHING,                                // Nothing was generated.
    ENDED,                                  // The model chose a stop token. The program stopped.
    IGNORED, NOT_EOS,                       // The program: the model chose one, but it was told to
                                            // ignore it, or does not stop at this one in base mode.
    CHANCE, PENALTY,                        // The sampler: a stop token was the most likely. It
                                            // drew another, or the penalty put another first.
    THOUGHT, NO_END,                        // The model: somewhere <|im_end|> or <|endoftext|> had
                                            // a probability of at least 0.01, or nowhere.
} Verdict;

/* Judges a turn. *at becomes the token that the verdict is about. What ends a turn of a chat counts
 * as an end in base mode, too. */
static Verdict judge(const Session *s, const Turn *turn, const Observed **at) {
    const float thinkable = 0.01f;          // the least probability of an end that counts
    const Header *h = &s->model->header;
    const Observed *first = s->output->observed, *end = first + turn->n_new, *t;
    const Observed *nearest = first, *im_end = first;       // highest p_end, highest p_im_end
    *at = first;
    if (turn->n_new == 0) return NOTHING;
    if (turn->reason == STOP_TOKEN) { *at = end - 1; return ENDED; }
    for (t = first; t < end; t++)
        if (is_stop(h, true, t->id)) { *at = t; return s->ignore_stop ? IGNORED : NOT_EOS; }
    for (t = first; t < end; t++)
        if (is_stop(h, true, t->likely) && t->p_likely >= thinkable) {
            *at = t;
            return t->likely == t->likely_penalised ? CHANCE : PENALTY;
        }
    for (t = first; t < end; t++) {
        if (t->p_end > nearest->p_end) nearest = t;
        if (t->p_im_end > im_end->p_im_end) im_end = t;
    }
    bool thought = nearest->p_end >= thinkable;
    *at = thought ? nearest : im_end;
    return thought ? THOUGHT : NO_END;
}

static void print_verdict(const Session *s, const Turn *turn) {
    const Observed *at;
    Verdict verdict = judge(s, turn, &at);
    bool chosen = verdict == ENDED || verdict == IGNORED || verdict == NOT_EOS;
    int n = (int)(at - s->output->observed) + 1, id = chosen ? at->id : at->likely;
    const char *what = id == s->model->header.endoftext ? "a document" : "its turn";
    const char *end = visible_token(s->model, id, ONE_LINE, 60);
    switch (verdict) {
    case NOTHING: fprintf(stderr, "nothing was generated"); break;
    case ENDED: fprintf(stderr, "the model ended %s (P %s)", what, probability(at->p)); break;
    case IGNORED:
        fprintf(stderr, "the model ended %s at token %d, the runner ignored it", what, n); break;
    case NOT_EOS:
        fprintf(stderr, "the model ended %s at token %d, %s is not among this checkpoint's "
                "eos_token_id: -m chat stops there", what, n, end); break;
    case CHANCE: case PENALTY:
        fprintf(stderr, "at token %d %s was the most likely (P %s), %s", n, end,
                probability(at->p_likely), verdict == CHANCE ? "chance took another"
                : "the repetition penalty took it away: try --repeat-penalty 1"); break;
    case THOUGHT:
        fprintf(stderr, "the model thought of an end at token %d (P %s)", n,
                probability(at->p_end)); break;
    case NO_END:
        fprintf(stderr, "the model saw no end (highest P(<|im_end|>) %s, token %d)",
                probability(at->p_im_end), n);
    }
}

static void print_reason(FILE *out, const Session *s, const Turn *turn) {
    if (turn->reason == STOP_TOKEN)
        fputs(visible_token(s->model, s->output->observed[turn->n_new - 1].id, ONE_LINE, 60), out);
    if (turn->reason == STOP_TEXT) {
        fputs("--stop \"", out);
        write_piece(&s->model->tokenizer, out, *turn->stop_text);
        fputc('"', out);
    }
    if (turn->reason == TOKEN_LIMIT) fprintf(out, "-n %d", s->max_tokens);
    if (turn->reason == CONTEXT_FULL) fputs("context full", out);
    if (turn->reason == INTERRUPTED) fputs("interrupted", out);
}

/* One turn: its text and, on standard error, why it ended and how fast it was. */
static Turn run_turn(Session *s) {
    int n_prompt = (int)s->history.n - s->run.position;
    double start = seconds();
    Text *text = &s->output->text;
    text->n = s->output->printed = 0;
    Turn turn = generate(s);
    double end = seconds(), first = turn.n_new > 0 ? s->output->observed[0].time : end;
    double reading = first > start ? n_prompt / (first - start) : 0;
    double writing = turn.n_new > 1 && end > first ? (turn.n_new - 1) / (end - first) : 0;
    write_text(s, bytes_of(""), true);      // what was held back is text after all
    bool open = text->n > 0 && text->data[text->n - 1] != '\n';
    if (isatty(1) && open && !opt.watch && !opt.compare) puts("");
    flush_output();
    fputs("stopped: ", stderr);
    print_reason(stderr, s, &turn);
    fprintf(stderr, " after %d token%s; ", turn.n_new, plural(turn.n_new));
    print_verdict(s, &turn);
    fputc('\n', stderr);
    if (!isatty(2) || opt.verbose)
        fprintf(stderr, "speed: prompt %d token%s, %.1f tok/s; new %d token%s, %.1f tok/s; "
                "seed %llu\n", n_prompt, plural(n_prompt), reading, turn.n_new,
                plural(turn.n_new), writing, (unsigned long long)opt.seed.whole);
    return turn;
}

/* ---- Commands ------------------------------------------------------------------------------ */
/* --score, --answer: the table for history[first] and what follows, and its perplexity. */
static void score(Session *s, int first) {
    const int *ids = s->history.id;
    int n = (int)s->history.n, rows = n - max_int(first, 1), vocab = s->model->header.vocab_size;
    FILE *file = s->output->logits;
    double sum = 0;
    read_history(s, max_int(first - 1, 0));
    if (first == 0) print_row(s->model, 1, ids[0], NULL, false);
    while (s->run.position < n && !interrupted) {
        int begin = s->run.position, size = min_int(SCORED, n - begin);     // few: shown early
        const float *logits = forward(&s->run, ids + begin, size, size);
        for (int i = begin + 1; i <= begin + size; i++, logits += vocab) {
            const Observed *t = &s->output->observed[i - first];
            if (i == n) {                   // what may follow the text
                if (file) write_bytes(file, logits, vocab * sizeof *logits);
                break;
            }
            observe(s, logits, ids[i], i - first + 1);
            // -log p. (p itself is not exact where it is tiny: exponential stops at e^-87.)
            sum -= logits[ids[i]] - logits[t->likely] + log(t->p_likely);
        }
    }
    if (interrupted) exit(130);
    if (rows == 0) fputs("perplexity undefined over 0 tokens\n", stderr);
    else fprintf(stderr, "perplexity %.6g over %d token%s\n", exp(sum / rows), rows, plural(rows));
}

/* --answer: each text as the model's turn after the prompt that is in the history. */
static void score_answers(Session *s) {
    size_t prompt = s->history.n;
    for (size_t i = 0; i < opt.answers.n; i++) {
        s->history.n = prompt;
        s->run.position = min_int(s->run.position, (int)prompt - 1);
        encode(&s->model->tokenizer, opt.answers.text[i], s->chat ? AS_TEXT : WITH_SPECIAL,
               &s->history);
        if (s->chat) push_id(&s->history, s->model->header.im_end);
        score(s, (int)prompt);
    }
}

static void print_case(const char *name, const Session *s, const Turn *turn) {
    int width = terminal_width(100), indent = width < 60 ? 4 : 18;
    float max = 0;
    for (int i = 0; i < turn->n_new; i++) max = fmaxf(max, s->output->observed[i].p_im_end);
    Bytes text = { s->output->text.data, s->output->text.n };
    if (turn->reason == STOP_TOKEN) text.n = s->output->observed[turn->n_new - 1].begin;
    printf("%s\"%s\"\n", name, visible(s->model, text, ONE_LINE, max_int(8, width - 20)));
    printf("%*s%d token%s; stopped: ", indent, "", turn->n_new, plural(turn->n_new));
    print_reason(stdout, s, turn);
    printf(width < 90 ? ";\n%*s" : "; ", indent, "");
    printf("highest P(<|im_end|>) %s\n", probability(max));
}

/* --compare, for one of the two models. It runs once and ignores stop tokens. A run that stops has
 * the same tokens up to the first stop token, so its text is taken from this run. */
static void show_cases(Session *s) {
    printf("%s weights: %s\n", s->model->header.kind == CHAT ? "chat" : "base",
           visible(s->model, bytes_of(s->model->file.path), ONE_LINE, terminal_width(100) - 16));
    flush_output();
    Turn turn = run_turn(s), stopping = turn;
    for (int i = turn.n_new - 1; i >= 0; i--)
        if (is_stop(&s->model->header, s->chat, s->output->observed[i].id))
            stopping = (Turn){ STOP_TOKEN, i + 1, NULL };
    print_case("  runner stops    ", s, &stopping);
    if (stopping.n_new < turn.n_new) print_case("  runner runs on  ", s, &turn);
    else puts("  runner runs on  the same text");
    flush_output();
}

/* The distance of row id of the output matrix from mean[dim]. row[dim] is scratch memory. */
static float distance(const Model *m, int id, const float *mean, float *row) {
    load_row(row, &m->output, id);
    for (int k = 0; k < m->header.dim; k++) row[k] -= mean[k];
    return sqrtf(dot(row, row, m->header.dim));
}

/* Compares a token's row of the output matrix with the rows that no token uses. Returns the row's
 * distance from their mean, divided by their average distance from it (sum / (n - 1), as in a
 * variance). The result is near 1 if training has left the row like the unused ones. */
static double row_distance(const Model *m, int id) {
    int dim = m->header.dim, first = (int)m->tokenizer.n_vocab, end = m->header.vocab_size;
    float *mean = reserve(dim, sizeof *mean), *row = reserve(dim, sizeof *row), sum = 0;
    for (int i = first; i < end; i++) {
        load_row(row, &m->output, i);
        add(mean, row, dim);
    }
    for (int k = 0; k < dim; k++) mean[k] /= (float)(end - first);
    for (int i = first; i < end; i++) sum += distance(m, i, mean, row);
    return distance(m, id, mean, row) / (sum / (float)(end - first - 1));
}

static void print_info(const Model *m) {
    const Header *h = &m->header;
    Bytes system = { h->system, (size_t)h->system_size };
    int room = terminal_width(1000) - 17;
    printf("name             %s\n", visible(m, bytes_of(h->name), ONE_LINE, room));
    printf("kind             %s%s\n", h->kind == CHAT ? "chat" : "base",
           h->chatml ? "" : ", without a ChatML template");
    printf("weights          %s, %.1f MB\n", m->output.type->name, (double)h->weights_size * 1e-6);
    printf("dim              %d\nhidden_dim       %d\nn_layers         %d\nn_heads          %d\n"
           "n_kv_heads       %d\nhead_dim         %d\nvocab_size       %d, %u of them tokens\n"
           "output           %s\ncontext          %d\nrope_theta       %g\nrms_eps          %g\n",
           h->dim, h->hidden_dim, h->n_layers, h->n_heads, h->n_kv_heads, h->head_dim,
           h->vocab_size, m->tokenizer.n_vocab, h->tied ? "the embedding" : "a matrix of its own",
           h->max_positions, h->rope_theta, (double)h->rms_eps);
    printf("ends at          %s", h->n_eos ? "" : "nothing: eos_token_id is null");
    for (int i = 0; i < h->n_eos; i++)
        printf("%s%d %s", i > 0 ? ", " : "", h->eos[i], visible_token(m, h->eos[i], ONE_LINE, 40));
    if (h->tokenizer_eos >= 0 && !is_stop(h, false, h->tokenizer_eos))
        printf("\n                 but the tokenizer's eos_token is %d %s", h->tokenizer_eos,
               visible_token(m, h->tokenizer_eos, ONE_LINE, 30));
    if (h->vocab_size - (int)m->tokenizer.n_vocab > 1)
        printf("\nend rows         <|im_end|> %.1f, <|im_start|> %.1f",
               row_distance(m, h->im_end), row_distance(m, h->im_start));
    printf("\nsampling         %s: temperature %g, top-k %d,\n                 top-p %g, min-p %g, "
           "repetition penalty %g\n", h->do_sample ? "on" : "off (greedy)", (double)h->temperature,
           h->top_k, (double)h->top_p, (double)h->min_p, (double)h->repetition_penalty);
    printf("system message   %s\n", system.n > 0 ? visible(m, system, ONE_LINE, room) : "none");
    printf("Unicode          %.16s\n", m->tokenizer.unicode_version);
    flush_output();
}

/* --quantize: the same model with int8 matrices. Norms and biases stay as they are. */
static void quantize(Model *m, const char *path) {
    enum { WIDEST = 1 << 20 };              // columns; check_header lets no more pass
    static const char zeros[64];
    Header h = m->header;
    if (h.weight_type == INT8) die(1, "already int8: %s: quantize the bf16 file", m->file.path);
    float *floats = reserve(WIDEST, sizeof *floats);
    void *row = reserve(1, int8_row_size(WIDEST));
    FILE *file = create_file(path, &m->file);
    write_bytes(file, m->file.data, h.weights_offset);      // the header comes again at the end
    for (const Tensor *t = list_tensors(m); t->rows > 0; t++) {
        write_bytes(file, zeros, (64 - (size_t)ftello(file) % 64) % 64);
        if (t->vector) write_bytes(file, *t->vector, t->cols * sizeof(float));
        for (int k = 0; t->matrix && k < t->rows; k++) {
            if (interrupted) exit(130);
            load_row(floats, t->matrix, k);
            check_finite(m, floats, t->cols);
            store_int8(row, floats, t->cols);
            write_bytes(file, row, int8_row_size(t->cols));
        }
    }
    h.weight_type = INT8;
    h.group_size = weight_types[INT8].group_size;
    h.file_size = (uint64_t)ftello(file);
    h.weights_size = h.file_size - h.weights_offset;
    rewind(file);
    write_bytes(file, &h, sizeof h);
    finish_file(file, path);
}

/* ---- Flags --------------------------------------------------------------------------------- */
typedef enum { SWITCH, TEXT, TEXTS, WHOLE, REAL } Kind;

/* All flags: the help is printed from this list, and it says which go together. One that does not
 * go with GENERATE is a command itself. The help fits 60 columns. */
static const struct Flag {
    char letter;                            // -n, or 0
    const char *name, *value;               // --max-tokens N; no name: `help` is a heading
    Kind kind;
    void *target;                           // in opt: a bool, const char *, Texts or Number
    double min, max;                        // of a number
    int commands;
    const char *help;
} flags[] = {
    { .help = "prompt (default: standard input; -s, -m: the checkpoint's)" },
    { 'p', "prompt", "TEXT", TEXTS, &opt.prompts, 0, 0, PROMPTED, "prompt; again: the next turn" },
    { 's', "system", "TEXT", TEXT, &opt.system, 0, 0, PROMPTED, "system message; \"\": no turn" },
    { 'm', "mode", "base|chat", TEXT, &opt.mode, 0, 0, PROMPTED, "frame and stop as this kind" },
    { 0, "ids", "\"ID ID ...\"", TEXT, &opt.ids, 0, 0, GENERATE | SCORE, "token ids, as they are" },
    { .help = "stopping (default of -n: the checkpoint's, or 512)" },
    { 'n', "max-tokens", "N", WHOLE, &opt.max_tokens, 0, INT32_MAX, PROMPTED, "new tokens a turn" },
    { 0, "stop", "TEXT", TEXTS, &opt.stops, 0, 0, GENERATE | COMPARE, "stop at TEXT; repeatable" },
    { 0, "ignore-stop", "", SWITCH, &opt.ignore_stop, 0, 0, GENERATE, "print stop tokens, run on" },
    { 0, "no-think", "", SWITCH, &opt.no_think, 0, 0, PROMPTED, "reasoning models answer at once" },
    { 0, "compare", "BASE.bin", TEXT, &opt.compare, 0, 0, COMPARE, "both models, stopping or not" },
    { 0, "watch", "", SWITCH, &opt.watch, 0, 0, GENERATE, "each token, its P, P(<|im_end|>)" },
    { 0, "top", "N", WHOLE, &opt.top, 1, 1000, GENERATE, "with --watch: the N most likely" },
    { 0, "pace", "MS", WHOLE, &opt.pace, 0, 3600e3, GENERATE, "wait so long after each token" },
    { 0, "score", "", SWITCH, &opt.score, 0, 0, SCORE, "--watch of the prompt; perplexity" },
    { 0, "answer", "TEXT", TEXTS, &opt.answers, 0, 0, ANSWER, "--watch of TEXT as the answer" },
    { .help = "sampling (defaults: the checkpoint's generation_config)" },
    { 0, "temp", "T", REAL, &opt.temperature, 0, 1e6, ANY, "divides the logits; 0: --greedy" },
    { 0, "top-k", "K", WHOLE, &opt.top_k, 0, INT32_MAX, ANY, "only the K most likely; 0: all" },
    { 0, "top-p", "P", REAL, &opt.top_p, 0, 1, ANY, "as few as have P together; 1: all" },
    { 0, "min-p", "P", REAL, &opt.min_p, 0, 1, ANY, "at least P times the likeliest" },
    { 0, "repeat-penalty", "R", REAL, &opt.penalty, 1e-6, 1e6, ANY, "on what appeared; 1: none" },
    { 0, "seed", "S", WHOLE, &opt.seed, 0, 1.8e19, ANY, "the same seed, the same text" },
    { 0, "greedy", "", SWITCH, &opt.greedy, 0, 0, ANY, "always the most likely token" },
    { .help = "machine (defaults: the checkpoint's limit, all processors)" },
    { 'c', "context", "N", WHOLE, &opt.context, 1, 1 << 24, ANY, "positions kept" },
    { 't', "threads", "N", WHOLE, &opt.threads, 1, 1024, ANY, "threads that calculate" },
    { 0, "plain", "", SWITCH, &opt.plain, 0, 0, ANY, "the plain loops of Part I, slowly" },
    { .help = "files (to be read, to be written)" },
    { 0, "info", "", SWITCH, &opt.info, 0, 0, INFO, "what MODEL.bin is" },
    { 0, "quantize", "OUT.bin", TEXT, &opt.quantize, 0, 0, QUANTIZE, "write an int8 copy" },
    { 0, "logits", "OUT.f32", TEXT, &opt.logits, 0, 0, GENERATE | SCORE | ANSWER, "raw logits" },
    { 'v', "verbose", "", SWITCH, &opt.verbose, 0, 0, ANY, "the speed line on a terminal, too" },
    { 'h', "help", "", SWITCH, &opt.help, 0, 0, ANY, "these lines" },
};
enum { N_FLAGS = sizeof flags / sizeof *flags };

static void print_help(void) {
    puts("usage: ./qwen MODEL.bin [options]\n");
    for (const struct Flag *f = flags; f < flags + N_FLAGS; f++) {
        if (!f->name) { puts(f->help); continue; }
        char letter[] = { '-', f->letter, ',', 0 };
        int n = printf("  %3s --%s %s", f->letter ? letter : "", f->name, f->value);
        printf("%*s%s\n", 26 - n, "", f->help);
    }
    flush_output();
}

static void push_text(Texts *texts, Bytes text) {
    texts->text = grow(texts->text, &texts->capacity, texts->n + 1, sizeof *texts->text);
    texts->text[texts->n++] = text;
}

static void set_flag(const struct Flag *flag, const char *given, char *value) {
    if (flag->kind == SWITCH) *(bool *)flag->target = true;
    if (flag->kind == TEXT) *(const char **)flag->target = value;
    if (flag->kind == TEXTS) push_text(flag->target, bytes_of(value));
    if (flag->kind != WHOLE && flag->kind != REAL) return;
    char *end;
    Number number = { true, strtod(value, &end), strtoull(value, NULL, 10) };
    bool right = end != value && !*end && number.value >= flag->min && number.value <= flag->max;
    if (!right || (flag->kind == WHOLE && value[strspn(value, "0123456789")]))
        die(2, "not a %s from %.10g to %.10g: %s %s",
            flag->kind == WHOLE ? "whole number" : "number", flag->min, flag->max, given, value);
    *(Number *)flag->target = number;
}

static bool is_flag(const char *given, const struct Flag *flag) {
    if (strncmp(given, "--", 2) == 0) return flag->name && strcmp(given + 2, flag->name) == 0;
    return given[0] == '-' && given[1] && given[1] == flag->letter && !given[2];
}

/* Fills in opt. Dies if the flags make no sense together. */
static void parse_options(int argc, char **argv) {
    const char *given[N_FLAGS] = { NULL };                  // as they were spelt
    int which = 0;                                          // index of the one that is the command
    for (int i = 1; i < argc; i++) {
        int k = 0;
        while (k < N_FLAGS && !is_flag(argv[i], &flags[k])) k++;
        if (k == N_FLAGS && argv[i][0] == '-') die(2, "no such flag: %s: see --help", argv[i]);
        if (k == N_FLAGS && opt.model)
            die(2, "two models: %s, %s: a prompt goes after -p", opt.model, argv[i]);
        if (k == N_FLAGS) { opt.model = argv[i]; continue; }
        bool takes_value = flags[k].kind != SWITCH;
        if (takes_value && i + 1 == argc) die(2, "a value is missing: %s: see --help", argv[i]);
        given[k] = argv[i];
        i += takes_value;
        set_flag(&flags[k], given[k], argv[i]);
        if (!(flags[k].commands & GENERATE)) { opt.command = flags[k].commands; which = k; }
    }
    if (opt.help) { print_help(); exit(0); }
    for (int k = 0; k < N_FLAGS; k++)
        if (given[k] && !(flags[k].commands & opt.command))
            die(2, "these make no sense together: %s, %s: leave one out", given[k], given[which]);
    if (!opt.model) die(2, "no model: MODEL.bin: make one with export.py, and see --help");
    if (opt.mode && strcmp(opt.mode, "base") != 0 && strcmp(opt.mode, "chat") != 0)
        die(2, "neither base nor chat: -m %s: give one of them", opt.mode);
    for (size_t i = 0; i < opt.stops.n; i++)
        if (opt.stops.text[i].n == 0)
            die(2, "an empty text is everywhere: --stop: give the text to stop at");
    if (opt.ids && !opt.ids[strspn(opt.ids, " \t\r\n")])
        die(2, "no ids: --ids: give at least one");
    if (opt.ids && (opt.prompts.n > 0 || opt.system))
        die(2, "the ids are the whole prompt: --ids: leave out -p, -s");
    if (opt.top.given && !opt.watch) die(2, "no table to add to: --top: add --watch");
    if (opt.command != GENERATE && opt.prompts.n > 1)
        die(2, "one prompt is enough here: -p: give one");
}

/* ---- Main ---------------------------------------------------------------------------------- */
/* Warns, and goes on, if model and cache (that of -c) exceed the memory, or -c max_positions. */
static void warn_memory(const Run *r) {
    const Header *h = &r->model->header;
    double memory = 1e-9 * (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    double cache = 2e-9 * sizeof(float) * h->n_layers * (double)r->context * r->model->kv_dim;
    double needed = 1e-9 * (double)r->model->file.size + (opt.context.given ? cache : 0);
    if (needed > memory)
        fprintf(stderr, "qwen: note: needs up to %.1f GB of %.1f: slow\n", needed, memory);
    if (r->context > h->max_positions)
        fprintf(stderr, "qwen: note: -c %d, the model has %d\n", r->context, h->max_positions);
}

static Session new_session(const Model *m, Output *output, int n_threads) {
    const Header *h = &m->header;
    bool chat = opt.mode ? strcmp(opt.mode, "chat") == 0 : opt.compare || h->kind == CHAT;
    if (chat && !h->chatml) die(1, "its template is not ChatML: %s: use -m base", m->file.path);
    if (opt.system && !chat) die(2, "a base model has no system message: -s: add -m chat");
    if (opt.no_think && !(chat && h->cuts_reasoning))
        die(2, "not a chat with a reasoning model: --no-think: leave it out");
    bool sampling = opt.temperature.given || opt.top_k.given || opt.top_p.given || opt.min_p.given
        || (h->do_sample && !opt.compare);
    Session s = {
        .model = m, .chat = chat, .no_think = opt.no_think,
        .ignore_stop = opt.ignore_stop || opt.compare,
        .system = opt.system ? bytes_of(opt.system) : (Bytes){ h->system, (size_t)h->system_size },
        .max_tokens = (int)either(opt.max_tokens, h->max_new_tokens ? h->max_new_tokens : 512),
        .run = new_run(m, n_threads, (int)either(opt.context, h->max_positions), opt.plain),
        .sampler = {
            .temperature = (float)either(opt.temperature, h->temperature),
            .top_k = (int)either(opt.top_k, h->top_k), .top_p = (float)either(opt.top_p, h->top_p),
            .min_p = (float)either(opt.min_p, h->min_p), .random = opt.seed.whole,
            .penalty = (float)either(opt.penalty, opt.compare ? 1 : h->repetition_penalty),
            .logits = reserve(h->vocab_size, sizeof(float)),
            .candidates = reserve(h->vocab_size, sizeof(Candidate)),
            .probabilities = reserve(h->vocab_size, sizeof(float)),
        },
        .output = output,
    };
    s.sampler.greedy = !sampling || opt.greedy || s.sampler.temperature == 0;
    s.sampler.temperature = fmaxf(s.sampler.temperature, 1e-6f);        // logits / it stay finite
    output->observed = reserve(s.run.context + 1, sizeof *output->observed);
    warn_memory(&s.run);
    return s;
}

static void forget(Session *s) {
    s->history.n = s->turn_start = s->answer_start = 0;
    s->run.position = 0;
}

/* Puts a prompt to a session and does with it what the command line asks for. In a conversation
 * that has no room left, a new one begins. */
static void ask(Session *s, Bytes text, bool conversation) {
    if (opt.command != GENERATE || !s->chat) forget(s);
    bool first = s->history.n == 0;
    if (opt.ids) read_ids(text.data, "--ids", s->model->header.vocab_size, &s->history);
    else add_prompt(s, text);
    int room = s->run.context - (int)s->history.n, wanted = first ? 0 : min_int(32, s->max_tokens);
    if (conversation && room < wanted) {
        fprintf(stderr, "qwen: note: %zu tokens for a context of %d: %s\n", s->history.n,
                s->run.context, first ? "-c: raise it" : "a new conversation begins");
        forget(s);
        if (!first) ask(s, text, conversation);
    } else if (opt.compare) show_cases(s);
    else if (opt.score) score(s, 0);
    else if (opt.answers.n > 0) score_answers(s);
    else run_turn(s);
}

/* Reads a line from a terminal. Returns false at the end of the input. Here Ctrl-C ends a line as
 * Enter does. It drops the line, or ends the program if the line is empty. */
static bool read_line(Text *line) {
    enum { CTRL_C = 3, LONGEST = 4096 };
    char bytes[LONGEST], last = 0;          // last: the last byte that was read
    tcgetattr(0, &terminal);
    struct termios typing = terminal;
    typing.c_cc[VINTR] = _POSIX_VDISABLE;
    typing.c_cc[VEOL] = CTRL_C;
    waiting = 1;                            // from now on SIGINT ends the program, not a turn
    interrupted = 0;
    tcsetattr(0, TCSANOW, &typing);
    line->n = 0;
    fputs("> ", stderr);
    for (ssize_t n; last != '\n' && last != CTRL_C && (n = read(0, bytes, sizeof bytes)) > 0; ) {
        push_bytes(line, bytes, (size_t)n);
        last = bytes[n - 1];
    }
    restore_terminal();
    bool any = line->n > 0;
    if (last != '\n') fputc('\n', stderr);
    if (line->n == LONGEST) fputs("qwen: note: the line was cut: use -p or a pipe\n", stderr);
    if (last == CTRL_C && line->n == 1) exit(130);
    if (last == CTRL_C) line->n = 0;
    if (last == '\n') line->n--;
    return any;
}

/* Standard input as one prompt, without a byte-order mark and one final newline. */
static Bytes read_prompt(void) {
    waiting = 1;
    Text text = read_input();
    waiting = 0;
    if (text.n > 0 && text.data[text.n - 1] == '\n') text.n--;
    if (text.n > 0 && text.data[text.n - 1] == '\r') text.n--;
    if (text.n >= 3 && memcmp(text.data, "\xEF\xBB\xBF", 3) == 0) return tail(&text, 3);
    return (Bytes){ text.data, text.n };
}

/* Returns how many processors this process may use (see taskset), or else how many are online. */
static int available_processors(void) {
#ifdef CPU_COUNT
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return max_int(1, CPU_COUNT(&set));
#endif
    return max_int(1, (int)sysconf(_SC_NPROCESSORS_ONLN));
}

int main(int argc, char **argv) {
    program = "qwen";
    for (int i = 0; i < 3; i++)             // no file may get the number of a stream that is closed
        if (fcntl(i, F_GETFD) < 0 && open("/dev/null", O_RDONLY) < 0) return 1;
    signal(SIGPIPE, SIG_IGN);               // a closed pipe is an error like others: flush_output
    signal(SIGXFSZ, SIG_IGN);               // and so is a file that becomes too large: write_bytes
    parse_options(argc, argv);
    const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
    for (int i = 0; i < 4; i++) signal(signals[i], on_signal);
    atexit(remove_unfinished);
    atexit(restore_terminal);
    if (!opt.seed.given) opt.seed.whole = (uint64_t)time(NULL);

    static Model models[2];                 // BASE.bin if there is one, then MODEL.bin
    int n = 0;
    if (opt.compare) map_model(&models[n++], opt.compare);
    map_model(&models[n++], opt.model);
    if (opt.info) print_info(&models[0]);
    if (opt.quantize) quantize(&models[0], opt.quantize);
    if (opt.info || opt.quantize) return 0;

    static Output outputs[2];               // --compare writes no logits: the first is enough
    if (opt.logits) outputs[0].logits = create_file(opt.logits, &models[0].file);
    int n_threads = (int)either(opt.threads, available_processors());
    static Session sessions[2];
    for (int i = 0; i < n; i++) sessions[i] = new_session(&models[i], &outputs[i], n_threads);
    if (opt.ids) push_text(&opt.prompts, bytes_of(opt.ids));
    bool conversation = opt.prompts.n == 0 && isatty(0);
    if (opt.prompts.n == 0 && !conversation) push_text(&opt.prompts, read_prompt());
    static Text line;                       // that was typed
    while (conversation && read_line(&line))
        for (int k = 0; k < n && line.n > 0 && !interrupted; k++)
            ask(&sessions[k], tail(&line, 0), true);
    for (size_t i = 0; i < opt.prompts.n; i++) {
        if (i > 0) interrupted = 0;         // a Ctrl-C has ended the turn before
        for (int k = 0; k < n && !interrupted; k++) ask(&sessions[k], opt.prompts.text[i], false);
    }
    if (interrupted && !conversation) return 130;           // an unfinished --logits file goes
    if (opt.logits) finish_file(outputs[0].logits, opt.logits);
    return 0;
}
