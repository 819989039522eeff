#!/bin/sh
# The lesson of `make demo`: why does the base model never stop, and the chat model does?
#
# On a terminal it waits for Enter after each step, and a step fits 80 columns and 24 lines. Without
# a terminal it runs through. `make demo LANG=zh` plays it in Chinese; so does any LANG=zh_...

cd "$(dirname "$0")/.." || exit 1

case ${LANG:-} in
zh*)
    question="苹果是什么颜色？"
    title_1="1. 同一个问题，问两个模型：对话模型和基础模型"
    said_1="一个停下来了；另一个一直写，直到被切断。为什么？"
    title_2="2. 逐个标记地看。横条是 <|im_end|>（我说完了）的概率"
    said_2="说的话一样，只有一个学过说 <|im_end|>。"
    title_3="3. 光会说还不够：如果运行程序不在那里停下……"
    said_3="它替你编出下一个问题，再自己回答。"
    title_4="4. 所以有四种情况，只有一种会像你期望的那样结束"
    said_4="权重要学过说 <|im_end|>，运行程序要在那里停下。"
    next="接下来可以试：" talk="聊天" write="写不完的文字"
    more="更多实验；真正的模型"
    enter="按回车继续" begin="猫"
    ;;
*)
    question="What colour is a banana?"
    title_1="1. One question to two models: a chat and a base model"
    said_1="One stopped. One wrote on to the limit. Why?"
    title_2="2. Token by token. The bar: P(<|im_end|>), \"I am done\""
    said_2="Same words. Only one learned to say <|im_end|>."
    title_3="3. To say it is not enough, if the runner runs on..."
    said_3="It invents your next question, and answers it."
    title_4="4. So there are four cases, and one ends where you would"
    said_4="Weights must say <|im_end|>, and the runner must stop there."
    next="Now try:" talk="a conversation" write="a text without end"
    more="more to try; real models"
    enter=Enter begin="The cat"
    ;;
esac

live='' bold='' plain='' columns=80
if [ -t 1 ]; then
    size=$(stty size 2>/dev/null) && live=1             # of standard input
    [ "${size#* }" -gt 0 ] 2>/dev/null && columns=${size#* }
    if [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
        bold=$(printf '\033[1m') plain=$(printf '\033[0m')
    fi
fi

title() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }

# run MS FLAG...: the command as one would type it, and what it does; at a terminal a token takes
# so many milliseconds, if any, for people to follow
run() {
    pace=${live:+${1:+--pace $1}}
    shift
    command="\$ ./qwen $*" prompt="-p \"$question\""
    if [ $((${#command} + ${#prompt})) -lt "$columns" ]; then printf '%s %s\n' "$command" "$prompt"
    else printf '%s \\\n    %s\n' "$command" "$prompt"
    fi
    # shellcheck disable=SC2086         # two words or none
    ./qwen "$@" $pace -p "$question" || exit 1
    [ -t 1 ] || echo
}

# said TEXT: what was to be seen; then the audience has time
said() {
    printf '%s' "$1"
    if [ -n "$live" ]; then
        printf '  [%s] ' "$enter"
        read -r _ || { echo; exit 0; }
    else
        echo
    fi
}

title "$title_1"
run 40 tiny-chat.bin
run 40 tiny-base.bin -m chat -n 60
said "$said_1"

title "$title_2"
run 250 tiny-chat.bin --watch
run 250 tiny-base.bin -m chat --watch -n 7
said "$said_2"

title "$title_3"
run 40 tiny-chat.bin --ignore-stop -n 60 --seed 6
said "$said_3"

title "$title_4"
run '' tiny-chat.bin --compare tiny-base.bin -n 60 2>/dev/null
printf '%s\n\n%s\n' "$said_4" "$next"
printf '  %-34s%s\n' "./qwen tiny-chat.bin" "$talk" "./qwen tiny-base.bin -p \"$begin\"" "$write" \
    "README.md" "$more"
