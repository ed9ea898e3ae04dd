"""Tool calls as text. Pure, like `core`, and below it; everything that reads, writes or cuts a call asks here.

- `syntax`, `python_calls`: what a way of writing calls is, and the one there is, `[f(a=1), g()]`
- `reading`: whole responses, gold answers, and what is finished of a response that may stop anywhere
- `rendering`: calls as text, and the preferred of the accepted answers
- `comparing`: whether a value is one of those that are accepted
- `python_text`, `python_values`, `arithmetic`: where an argument ends, what it stands for, and sums of literals
- `tool_schema`: the descriptions of tools
"""
