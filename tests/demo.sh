#!/bin/sh
# The lesson of `make demo`, on the two small models: why does the base model never stop, and the chat model does?

cd "$(dirname "$0")/.." || exit 1
say() { printf '\n\033[1m%s\033[0m\n\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n\n' "$*"; }

say "1. One question, one program. Only chat weights, with a runner that stops, end their turn."
./qwen tiny-chat.bin --compare tiny-base.bin -n 60 -p "What colour is an apple?" 2>/dev/null || exit 1
echo
./qwen tiny-chat.bin --compare tiny-base.bin -n 60 -p "苹果是什么颜色？" 2>/dev/null || exit 1

say "2. The chat model, token by token: P(<|im_end|>) jumps where the answer is complete."
./qwen tiny-chat.bin --watch --greedy --repeat-penalty 1 -p "What colour is an apple?" || exit 1

say "3. The base model after the same words: P(<|im_end|>) stays flat, and the text goes on."
./qwen tiny-base.bin --watch -n 8 -p "What colour is an apple? An apple is red" || exit 1

cat <<'END'

You saw: stopping takes weights that were taught to say <|im_end|>, and a runner that stops there.
Next:    ./qwen tiny-chat.bin              a conversation
         ./qwen tiny-base.bin -p "The cat" a text without end
         README.md                         six experiments, and how to run the real models
END
