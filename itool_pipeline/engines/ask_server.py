"""Asks a server of OpenAI's chat API, by the `openai` client. Run by the Python that the server is installed for:

    python -I -c "$(cat ask_server.py)" BASE_URL MODEL < questions.jsonl > answers.jsonl

It imports nothing of this package, which that Python may not have. A question has `id`, `messages`, `tools` and
`max_tokens`; an answer `id`, `content`, `calls` (name and arguments as the server gives them), and where the server is
vLLM `prompt_ids` and `answer_ids`, else null.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def ask(client: Any, model: str, question: dict[str, Any]) -> dict[str, Any]:
    """One greedy answer."""
    completion = client.chat.completions.create(
        model=model,
        messages=question["messages"],
        tools=question["tools"] or None,
        max_tokens=question["max_tokens"],
        temperature=0.0,
        seed=0,
        extra_body={"return_token_ids": True},
    )
    choice = completion.choices[0]
    return {
        "id": question["id"],
        "content": choice.message.content or "",
        "calls": [
            {"name": call.function.name, "arguments": call.function.arguments}
            for call in choice.message.tool_calls or []
        ],
        "prompt_ids": getattr(completion, "prompt_token_ids", None),
        "answer_ids": getattr(choice, "token_ids", None),
    }


def main(base_url: str, model: str) -> None:
    """Answer each line of the standard input as it is read."""
    from openai import OpenAI

    client = OpenAI(base_url=base_url, api_key="none", timeout=600, max_retries=0)
    for line in sys.stdin:
        print(json.dumps(ask(client, model, json.loads(line)), ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:3])
