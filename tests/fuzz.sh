#!/bin/sh
# Fuzzes the program with model files and with texts, for so many seconds each, under
# AddressSanitizer and UndefinedBehaviorSanitizer. What is found is left in build/fuzz, with the
# name crash-..., and fails.
#
#     tests/fuzz.sh [SECONDS]         (60; `make fuzz`)
#
# The corpus stays in build/fuzz, so that the next run goes on from there. Needs clang.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
sanitizers="-fsanitize=fuzzer,address,undefined,float-cast-overflow -fno-sanitize-recover=all"
dir=build/fuzz
mkdir -p $dir/models $dir/texts

# shellcheck disable=SC2086             # the flags are several words
clang -std=c11 -g -O1 $sanitizers tests/fuzz_model.c -o $dir/fuzz_model -lm -pthread
# shellcheck disable=SC2086
clang -std=c11 -g -O1 $sanitizers tests/fuzz_text.c -o $dir/fuzz_text

cc -std=c11 -O1 qwen.c -o $dir/qwen -lm -pthread
# seed NAME FLAGS: a small model to begin with
seed() {
    name=$1
    shift
    python3 tests/make_checkpoint.py "$dir/$name" "$@"
    python3 export.py "$dir/$name" "$dir/models/$name.bin"
}
seed chat --dim 8 --layers 1 --heads 2 --kv-heads 1 --hidden 8 --untied --context 512
seed base --dim 16 --layers 2 --heads 3 --kv-heads 3 --head-dim 8 --hidden 24 --kind base
seed qwen3 --dim 8 --layers 1 --heads 2 --kv-heads 1 --head-dim 6 --hidden 8 --architecture qwen3
$dir/qwen $dir/models/chat.bin --quantize $dir/models/int8.bin

export ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=16
# run FUZZER FLAGS
run() {
    fuzzer=$1
    shift
    "$dir/$fuzzer" -max_total_time="$seconds" -timeout=60 -artifact_prefix=$dir/ \
        -print_final_stats=1 "$@" 2>&1 | tee $dir/log |
        grep -aE '^(Done|stat::number|SUMMARY|artifact_prefix)|ERROR|runtime error' || true
    grep -aq '^Done' $dir/log || exit 1
}
echo "model files, $seconds s"
run fuzz_model -close_fd_mask=3 -max_len=400000 -len_control=0 $dir/models
echo "texts, $seconds s"
MODEL=$dir/models/chat.bin run fuzz_text -max_len=4096 $dir/texts
