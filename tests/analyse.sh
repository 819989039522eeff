#!/bin/sh
# Static analysis of the C files and of the scripts, with the analysers that are installed.
#
#     tests/analyse.sh
#
# Left out are checks of style: results of printf that nobody could use, parameters of one type side
# by side, the file that qwen.c includes by design, the feature macros of libc, and products of
# sizes in int, which check_header keeps within it. Also what analysers cannot see: parse_options
# ends the program if there is no model, and what the options hold is in use until the end.

cd "$(dirname "$0")/.." || exit 1
checks='-*,bugprone-*,cert-*,-cert-err33-c,-cert-dcl37-c,-cert-dcl51-cpp'
checks="$checks,-bugprone-easily-swappable-parameters,-bugprone-suspicious-include"
checks="$checks,-bugprone-reserved-identifier,-bugprone-implicit-widening-of-multiplication-result"
checks="$checks,-bugprone-narrowing-conversions,-cert-flp30-c"
status=0

# check TOOL ARGUMENTS
check() {
    if ! command -v "$1" >/dev/null; then
        echo "skip analysis: $1: not installed"
    elif output=$("$@" 2>&1); then
        echo "ok   analysis: $*" | cut -c 1-100
    else
        echo "FAIL analysis: $*"
        echo "$output"
        status=1
    fi
}

# columns FILE ...: no line is longer than 100
# shellcheck disable=SC2317                 # check calls it
columns() {
    python3 - "$@" <<'END'
import sys
for path in sys.argv[1:]:
    for i, line in enumerate(open(path, encoding="utf-8"), 1):
        if len(line.rstrip("\n")) > 100:
            sys.exit(f"{path}, line {i}: {len(line) - 1} columns")
END
}

for file in qwen.c tokenizer.c; do
    check clang --analyze -std=c11 -Xclang -analyzer-output=text -Xclang -analyzer-werror \
        -Xclang -analyzer-disable-checker=core.NonNullParamChecker -o /dev/null $file
    check gcc -std=c11 -O2 -Wall -Wextra -Werror -fanalyzer -Wno-analyzer-malloc-leak -c $file \
        -o /dev/null
    check cppcheck -q --std=c11 --enable=warning,style,performance,portability \
        --suppress=unusedStructMember --error-exitcode=1 $file
    check clang-tidy -quiet -warnings-as-errors='*' -checks="$checks" $file -- -std=c11
done
check shellcheck test_all.sh .ci/run tests/*.sh
check columns ./*.c ./*.py Makefile test_all.sh .ci/run tests/*.py tests/*.c tests/*.sh tiny/*.py
exit $status
