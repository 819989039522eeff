#!/bin/sh
# The lesson of `make demo`, on the two small models: why does the base model never stop, and the chat model does?

cd "$(dirname "$0")/.." || exit 1
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }

# show TEXT FLAGS ...: the command as one would type it, and what it does with the prompt TEXT
show() {
    text=$1
    shift
    printf '\n$ ./qwen %s -p "%s"\n' "$*" "$text"
    ./qwen "$@" -p "$text"
}

say "1. One question, one program. Only chat weights, with a runner that stops, end their turn."
show "What colour is an apple?" tiny-chat.bin --compare tiny-base.bin -n 60 2>/dev/null || exit 1
show "苹果是什么颜色？" tiny-chat.bin --compare tiny-base.bin -n 60 2>/dev/null || exit 1

say "2. The chat model, token by token: P(<|im_end|>) jumps where the answer is complete."
show "What colour is an apple?" tiny-chat.bin --watch --greedy --repeat-penalty 1 || exit 1

say "3. The base model after the same words: P(<|im_end|>) stays flat, and the text goes on."
show "What colour is an apple? An apple is red" tiny-base.bin --watch -n 8 || exit 1

cat <<'END'

You saw: stopping takes weights that were taught to say <|im_end|>, and a runner that stops there.
Next:    ./qwen tiny-chat.bin              a conversation
         ./qwen tiny-base.bin -p "The cat" a text without end
         README.md                         six experiments, and how to run the real models
END
