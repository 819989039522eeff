"""Writes tests/template_golden.json: chat templates and what `transformers` makes of them.

    python3 tests/template_golden.py

Needs `transformers` and `jinja2`. Each template is rendered for each of export.py's CHATS, with a
generation prompt. An error of the template is recorded as null.
"""
from __future__ import annotations

import json
import os
import sys
from typing import Any, Dict, List, Tuple

import jinja2
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path[:0] = [HERE, os.path.dirname(HERE)]
from export import CHATS                                                # noqa: E402
from make_checkpoint import SYSTEM_IF_GIVEN, TEMPLATES                  # noqa: E402

TURN = "'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'"
LOOP = "{% for message in messages %}{{ " + TURN + " }}{% endfor %}"
OPEN = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
BODY = LOOP + OPEN
SPLIT = ("{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
         "{% set system_message = messages[0]['content'] %}{% else %}"
         "{% set loop_messages = messages %}{% set system_message = 'You are Z.' %}{% endif %}")
REST = ("{% for message in loop_messages %}{{ '<|im_start|>' ~ message.role ~ '\\n' ~ "
        "message.content ~ '<|im_end|>\\n' }}{% endfor %}" + OPEN)
# Qwen2.5's, with shorter texts for tools
QWEN25 = r"""{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' }}
    {%- endif %}
    {{- "\n\n# Tools\n\nYou may call one or more functions.\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools>\n\n{\"name\": <name>, \"arguments\": <object>}\n</tool_call><|im_end|>\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>system\n@DEFAULT@<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first)
           or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\n<tool_call>\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' }}
        {{- message.content }}
        {{- '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""
QWEN25 = QWEN25.replace(
    "@DEFAULT@", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.")
# What Qwen3 has before its messages: the same without the default.
BEGINNING = QWEN25[:QWEN25.index("{%- for message in messages %}")]
WITHOUT = BEGINNING.rindex("    {%- else %}"), BEGINNING.rindex("    {%- endif %}")
BEGINNING = BEGINNING[:WITHOUT[0]] + BEGINNING[WITHOUT[1]:]
CASES: Dict[str, str] = {
    **TEMPLATES, "qwen2.5": QWEN25,
    "qwen3 with tools": BEGINNING + TEMPLATES["qwen3"][len(SYSTEM_IF_GIVEN):],
    "qwen2.5 crlf": QWEN25.replace("\n", "\r\n"),
    "qwen2": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
             "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}{{ "
             + TURN + " }}{% endfor %}" + OPEN,
    "none": BODY,
    "variable": "{% set text = 'You are X.' %}{% if messages[0].role != 'system' %}"
                "{{ '<|im_start|>system\\n' + text + '<|im_end|>\\n' }}{% endif %}" + BODY,
    "three pieces": "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\\n' }}"
                    "{{ 'You are ' }}{{ \"Y.\" }}{{ '<|im_end|>\\n' }}{% endif %}" + BODY,
    "raw text": "{% if messages[0]['role'] != \"system\" %}<|im_start|>system\n{{ 'You are W.' }}"
                "<|im_end|>\n{% endif %}" + BODY,
    "raw text, variable": "{%- set s = \"You are V.\" -%}\n{% if messages[0]['role'] != 'system' "
                          "%}\n<|im_start|>system\n{{ s }}<|im_end|>\n{% endif %}" + BODY,
    "comment": "{# <|im_start|>system\nNo.<|im_end|> #}" + BODY,
    "comment with tags": "{#- {% if x %}<|im_start|>system\nNo.<|im_end|>{% endif %} -#}\n" + BODY,
    "under tools": "{% if tools %}{{ '<|im_start|>system\\nTools.<|im_end|>\\n' }}{% endif %}"
                   + BODY,
    "under not tools": "{% if not tools %}{{ '<|im_start|>system\\nNo tools.<|im_end|>\\n' }}"
                       "{% endif %}" + BODY,
    "tools is defined": "{% if tools is defined and tools is not none and tools | length > 0 %}"
                        "{{ '<|im_start|>system\\nTools.<|im_end|>\\n' }}{% endif %}" + BODY,
    "trim": BODY.replace("message['content']", "message['content'] | trim"),
    "trim in brackets": BODY.replace("message['content']", "(message['content']|trim)"),
    "strip": BODY.replace("message['content']", "message.content.strip()"),
    "rstrip": BODY.replace("message['content']", "message['content'].rstrip()"),
    "think": BODY.replace("assistant\\n'", "assistant\\n<think>\\n'"),
    "no generation prompt": LOOP,
    "always a generation prompt": LOOP + "{{ '<|im_start|>assistant\\n' }}",
    "another generation prompt": BODY.replace("assistant\\n'", "assistant\\nSure! '"),
    "split messages": SPLIT + "{{ '<|im_start|>system\\n' + system_message + '<|im_end|>\\n' }}"
                      + REST,
    "split, is defined": SPLIT + "{% if system_message is defined %}{{ '<|im_start|>system\\n' ~ "
                                 "system_message ~ '<|im_end|>\\n' }}{% endif %}" + REST,
    "conditional": "{% set sys = messages[0]['content'] if messages[0]['role'] == 'system' else "
                   "'You are U.' %}{{ '<|im_start|>system\\n' + sys + '<|im_end|>\\n' }}{% for m "
                   "in messages if m.role != 'system' %}{{ '<|im_start|>' + m.role + '\\n' + "
                   "m.content + '<|im_end|>\\n' }}{% endfor %}" + OPEN,
    "default": "{% set text = text | default('You are T.') %}{{ '<|im_start|>system\\n' + text + "
               "'<|im_end|>\\n' }}" + BODY,
    "generation tag": LOOP.replace(
        "message['content']",
        "'' }}{% generation %}{{ message['content'] }}{% endgeneration %}{{ ''") + OPEN,
    "escapes": r"""{{ '<|im_start|>system\nIt\'s \q \"é\"\t\u82f9<|im_end|>\n' }}""" + BODY,
    "roles one by one": "{% for message in messages %}{% if message['role'] == 'user' %}"
                        "{{ '<|im_start|>user\\n' + message['content'] + '<|im_end|>\\n' }}{% elif "
                        "message['role'] == 'system' %}{{ '<|im_start|>system\\n' + "
                        "message['content'] + '<|im_end|>\\n' }}{% endif %}{% if loop.last and "
                        "add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
                        "{% endfor %}",
    "role in": "{% for message in messages %}{% if message['role'] in ['user', 'assistant'] %}{{ "
               + TURN + " }}{% endif %}{% endfor %}" + OPEN,
    "alternating roles": "{% for message in messages %}{% if (message['role'] == 'user') != "
                         "(loop.index0 % 2 == 0) %}{{ raise_exception('roles') }}{% endif %}{{ "
                         + TURN + " }}{% endfor %}" + OPEN,
    "no default prompt": "{% if not add_generation_prompt is defined %}"
                         "{% set add_generation_prompt = false %}{% endif %}" + BODY,
    "raw lines": "{% for message in messages %}\n<|im_start|>{{ message.role }}\n"
                 "{{ message.content }}<|im_end|>\n{% endfor %}\n{% if add_generation_prompt %}\n"
                 "<|im_start|>assistant\n{% endif %}\n",
    "indented raw lines": "{%- for message in messages %}\n    <|im_start|>{{ message.role }}\n"
                          "{{ message.content }}<|im_end|>\n{%- endfor %}\n<|im_start|>assistant\n",
    "nested": "{% if messages %}{% if messages[0]['role'] == 'system' %}{% set s = "
              "messages[0]['content'] %}{% elif tools %}{% set s = 'T' %}{% else %}{% set s = "
              "'You are N.' %}{% endif %}<|im_start|>system\n{{ s }}<|im_end|>\n{% endif %}" + BODY,
    "empty system turn": "{{ '<|im_start|>system\\n<|im_end|>\\n' }}" + BODY,
    "bos_token": "{{ bos_token }}" + BODY,
    "length": "{% if messages|length > 0 and messages[0]['role'] != 'system' %}"
              "{{ '<|im_start|>system\\nYou are L.<|im_end|>\\n' }}{% endif %}" + BODY,
    "macro": "{% macro turn(r, c) %}{{ '<|im_start|>' + r + '\\n' + c + '<|im_end|>\\n' }}"
             "{% endmacro %}{% for m in messages %}{{ turn(m.role, m.content) }}{% endfor %}"
             + OPEN,
    "selectattr": "{% set sys = messages | selectattr('role', 'equalto', 'system') | list %}"
                  "{% if sys | length == 0 %}{{ '<|im_start|>system\\nYou are R.<|im_end|>\\n' }}"
                  "{% endif %}" + BODY,
    "block set": "{% set s %}You are B.{% endset %}<|im_start|>system\n{{ s }}<|im_end|>\n" + BODY,
    "unknown else": "{% if messages | selectattr('role', 'equalto', 'system') | list %}{% else %}"
                    "{{ '<|im_start|>system\\nYou are E.<|im_end|>\\n' }}{% endif %}" + BODY,
    "unknown and": "{% if text | reverse and true %}"
                   "{{ '<|im_start|>system\\nYou are E.<|im_end|>\\n' }}{% endif %}" + BODY,
    "unknown or": "{{ text | reverse or '<|im_start|>system\\nYou are O.<|im_end|>\\n' }}" + BODY,
    "date": "{{ '<|im_start|>system\\nToday ' + strftime_now('%Y') + '<|im_end|>\\n' }}" + BODY,
    "broken": "{% if %}<|im_start|><|im_end|>",
    "unfinished": "<|im_start|><|im_end|>{{ 'a",
    "filters in a row": BODY.replace("message['content']", "message['content'] | trim | trim"),
    "loop in a loop": "{% set x = 'You are ' %}{% for m in messages %}{% if loop.first %}"
                      "{% for n in messages %}{% set x = x + 'twice ' %}{% endfor %}"
                      "{{ '<|im_start|>system\\n' + x + 'I.<|im_end|>\\n' }}{% endif %}{{ "
                      + TURN.replace("message", "m") + " }}{% endfor %}" + OPEN,
    "for with else": LOOP[:-12] + "{% else %}{{ 'nothing' }}{% endfor %}" + OPEN,
    "not ChatML": "{{ '[INST] ' + messages[0]['content'] + ' [/INST]' }}",
}


def render(template: str, chat: List[Tuple[str, str]]) -> Any:
    try:
        return render_jinja_template(
            [[{"role": role, "content": text} for role, text in chat]], chat_template=template,
            add_generation_prompt=True)[0][0]
    except jinja2.TemplateError:
        return None


def main() -> None:
    cases = [{"name": name, "template": template,
              "rendered": [None if name == "date" else render(template, chat) for chat in CHATS]}
             for name, template in CASES.items()]
    made_with = {"transformers": transformers.__version__, "jinja2": jinja2.__version__}
    with open(os.path.join(HERE, "template_golden.json"), "w", encoding="utf-8") as file:
        file.write(json.dumps({"made_with": made_with}, ensure_ascii=False)[:-1] + ',\n"cases":[\n')
        file.write(",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]}\n")


if __name__ == "__main__":
    main()
