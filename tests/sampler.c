/* How long it takes to choose a token, for tests/bench.py: microseconds of ./qwen's own sampler
 * with a chat model's defaults, at a vocabulary of 151,936, the best of a few passes.
 */
#define main qwen_main
#include "../qwen.c"
#undef main

enum { VOCAB = 151936, TOKENS = 50, PASSES = 5 };

int main(void) {
    static float logits[VOCAB], penalised[VOCAB], probabilities[VOCAB];
    static Candidate candidates[VOCAB];
    Sampler s = { .temperature = 0.7f, .top_k = 20, .top_p = 0.8f, .penalty = 1.1f, .random = 1,
                  .logits = penalised, .candidates = candidates, .probabilities = probabilities };
    Ids history = { 0 };
    uint64_t random = 2;
    for (int i = 0; i < VOCAB; i++)             // about normal, of standard deviation 2
        for (int k = 0; k < 12; k++) logits[i] += 2 * (float)(random_uniform(&random) - 0.5);
    for (int i = 0; i < 500; i++) push_id(&history, (int)(random_uniform(&random) * VOCAB));
    double best = 1e9;
    for (int pass = 0; pass < PASSES; pass++) {
        double start = seconds();
        for (int i = 0; i < TOKENS; i++) push_id(&history, sample(&s, logits, VOCAB, &history));
        double time = (seconds() - start) / TOKENS;
        best = time < best ? time : best;
    }
    printf("%.1f\n", best * 1e6);
    return 0;
}
