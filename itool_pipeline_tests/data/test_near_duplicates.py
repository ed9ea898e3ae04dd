"""Which questions share a group."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itool_pipeline.calls.rendering import render_calls
from itool_pipeline.calls.types import Call, GoldCall
from itool_pipeline.core.types import Example, Message
from itool_pipeline.data.near_duplicates import ConversationGroups, groups, normalised, pattern
from itool_pipeline_tests.data.examples import example


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the weather in Boston, MA?", "What is the weather in San Francisco?"),
        ("the area for base 10 and height 5.", "the area for base 3.5 and height 1,000"),
        ("find 'red shoes' now", 'find "a blue hat" now'),
        ("set alarm to 10:30", "set alarm to 7"),
        ("what's John's age", "what's Mary's age"),
    ],
)
def test_exchanged_values_keep_the_pattern(one: str, other: str) -> None:
    assert pattern(one) == pattern(other)
    assert normalised(one) != normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("the area for base 10", "the volume for base 10"),
        ("don't wake me", "do wake me"),
        ("what is the weather", "how is the weather"),
    ],
)
def test_other_words_are_another_pattern(one: str, other: str) -> None:
    assert pattern(one) != pattern(other)


def test_normalised_by_hand() -> None:
    assert normalised("  What's  UP,\n“Doc”? 3.5") == "what s up doc 3 5"


def test_groups_by_hand() -> None:
    found = groups(
        [
            example("a", "the area for base 10", tools=("area", "volume")),
            example("b", "the area for base 11", tools=("volume", "area")),
            example("c", "the area for base 11!", tools=("other",)),
            example("d", "the area for base 12", tools=("other",)),
            example("e", "the area for base 10", tools=("area",)),
            example("x", "the area for base 77", tools=("third",)),
        ]
    )
    # a-b: same tools and pattern; b-c: same question; c-d: same tools and pattern; a-e: same question
    assert found == {"a": "a", "b": "a", "c": "a", "d": "a", "e": "a", "x": "x"}


def test_a_common_group_joins_whole_conversations() -> None:
    examples = [
        example("row1_0", "hello there", group="row1"),
        example("row1_2", "and then", group="row1"),
        example("row2_0", "and then", group="row2"),
        example("row3_0", "goodbye", group="row3"),
    ]
    found = groups(examples)
    assert set(found.values()) == {"row1_0", "row3_0"}


QUESTIONS = st.sampled_from(["find Bob", "find Ann", "take 3", "take 4", "look", "stop"])
EXAMPLES = st.lists(st.tuples(QUESTIONS, st.sampled_from(["f", "g", "h"])), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(EXAMPLES, st.randoms())
def test_groups_are_the_connected_components(rows: list[tuple[str, str]], shuffle: random.Random) -> None:
    examples = [example(f"e{i:02}", question, tools=(tool,)) for i, (question, tool) in enumerate(rows)]
    found = groups(examples)
    # by brute force: spread the least id over every related pair until nothing changes
    least = {e.id: e.id for e in examples}
    for _ in examples:
        for one in examples:
            for other in examples:
                same_tools = one.tools == other.tools and pattern(one.question) == pattern(other.question)
                if same_tools or normalised(one.question) == normalised(other.question):
                    least[one.id] = min(least[one.id], least[other.id])
    assert found == least
    shuffled = list(examples)
    shuffle.shuffle(shuffled)
    assert groups(shuffled) == found


def conversation(name: str, *turns: str | tuple[str, Any], system: str = "") -> list[Example]:
    """Its examples, one for each of the user's turns: a question and words, or a call of `f` with one argument."""
    tools = ({"name": "f", "parameters": {"properties": {"x": {}, "y": {}}}},)
    found: list[Example] = []
    messages = [Message("system", system)] if system else []
    for number, turn in enumerate(turns):
        question, answer = turn if isinstance(turn, tuple) else (turn, "Certainly.")
        arguments = answer if isinstance(answer, dict) else {}
        gold = () if isinstance(answer, str) else (GoldCall("f", {k: (v,) for k, v in arguments.items()}),)
        response = render_calls([Call("f", arguments)]) if gold else answer
        messages.append(Message("user", question))
        identity = f"{name}_{number}"
        found.append(Example(identity, "jsonl", "c", tuple(messages), tools, response, gold, name))
        messages += [Message("assistant", response), *([Message("tool", "done")] if gold else [])]
    return found


def grouped(*conversations: Sequence[Example]) -> list[set[str]]:
    """The conversations that share a group, as sets of their names."""
    found = ConversationGroups()
    for examples in conversations:
        for one in examples:
            found.add(one)
    groups: dict[str, set[str]] = {}
    for identity, group in found.names().items():
        groups.setdefault(group, set()).add(identity.rpartition("_")[0])
    return list(groups.values())


SMALL_TALK = (
    *(
        "Thanks!",
        "thank you",
        "Yes",
        "yes please",
        "OK",
        "ok.",
        "no",
        "No thanks",
        "Go on",
        "continue",
        "sure",
        "👍",
        "?",
    ),
    *("Danke!", "ja", "weiter", "Ja, bitte", "Merci beaucoup", "oui", "sí", "Gracias", "да", "спасибо", "продолжай"),
    *(
        "谢谢",
        "好的",
        "继续",
        "ありがとう",
        "はい",
        "네",
        "감사합니다",
        "ขอบคุณ",
        "شكرا",
        "נכון",
        "हाँ",
        "PLEASE DO IT",
        "1",
        "...",
    ),
    *(
        "Thank you so much for all your help today!",
        "Yes, please go ahead and do it.",
        "That is all I needed, goodbye.",
    ),
)


@pytest.mark.parametrize("answer", ["You are welcome.", {}, {"x": True}, {"x": 7}, {"x": "Oslo", "y": 1}])
@pytest.mark.parametrize("opening", ["", "Hi", "Good morning!", "你好"])
def test_what_anybody_may_say_joins_no_conversations(answer: Any, opening: str) -> None:
    """Whether words or calls answer it, the same call in all, and the same system text and results."""
    draw = random.Random(0)
    words = "".join(draw.choices("bcdfghjklmnpqrstvwxz", k=5000))
    talk = cycle(SMALL_TALK)
    made = []
    for number in range(300):
        asked = " ".join(words[draw.randrange(4990) :][:5] for _ in range(8))
        said = [(text, answer) for text in islice(talk, 3)]
        made.append(
            conversation(f"c{number}", *([opening] if opening else []), (asked, {"x": asked}), *said, system="s")
        )
    assert len(grouped(*made)) == 300


def test_slots_that_are_filled_join_no_conversations() -> None:
    """What is asked for at last stands in no single turn of these."""
    asked = (
        "Somewhere to eat Italian food tonight",
        "Which trains leave for the coast tomorrow",
        "Who sings this week",
    )
    made = [
        conversation(
            f"c{number}",
            question,
            "For two, please",
            ("Rome", {"x": "Rome"}),
            ("Yes, for 2 of us at the window", {"x": 2, "y": f"place {number}"}),
        )
        for number, question in enumerate(asked)
    ]
    assert len(grouped(*made)) == 3


QUESTION = "What is the weather in Oslo tomorrow?"
OSLO, ROME = {"x": "Oslo"}, {"x": "Rome"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # the question of a first turn, however it is answered
        ([(QUESTION, OSLO)], [(QUESTION, OSLO)]),
        ([(QUESTION, OSLO)], [("what is the weather in oslo, tomorrow", "No.")]),
        ([(QUESTION, OSLO)], [("What is the weather in Rome tomorrow?", ROME)]),
        ([QUESTION, "Norway"], [QUESTION, "the one in Wisconsin"]),
        (["weather?"], ["Weather"]),  # few words, but nothing else was asked
        ([("status", {}), "thanks"], [("Status!", {}), "and now"]),
        (["今天北京的天气怎么样", "谢谢"], ["今天北京的天气怎么样？", "好的"]),
        # of a later one that says by itself what is wanted
        (["Hi", (QUESTION, OSLO)], [(QUESTION, OSLO)]),
        (["Hi", (QUESTION, OSLO)], ["Good morning", ("Tell me a joke about many things", "No."), (QUESTION, OSLO)]),
        (["Hi", (QUESTION, OSLO)], ["Hello", ("What is the weather in Rome tomorrow?", ROME)]),
        (["你好", ("今天北京的天气怎么样", {"x": "北京"})], [("今天北京的天气怎么样", {"x": "北京"})]),
        # all together
        (["Hi", "yes", ("ok", {})], ["Hi", "Yes!", ("OK.", {})]),
    ],
)
def test_near_duplicates_join_conversations(one: list[Any], other: list[Any]) -> None:
    assert len(grouped(conversation("a", *one), conversation("b", *other))) == 1


def test_shouting_is_no_pattern() -> None:
    one, other = conversation("a", ("CANCEL MY ORDER NOW", {})), conversation("b", ("WHAT TIME IS IT IN OSLO", {}))
    assert pattern("CANCEL MY ORDER NOW") == pattern("WHAT TIME IS IT IN OSLO")
    assert len(grouped(one, other)) == 2


def test_the_order_of_the_conversations_does_not_matter() -> None:
    made = [
        conversation(name, *turns)
        for name, turns in zip("abcd", (["Hi", "ok"], ["Hi"], ["hi"], ["Hi", "no"]), strict=True)
    ]
    expected = [{"a"}, {"b", "c"}, {"d"}]
    assert (
        sorted(map(sorted, grouped(*made)))
        == sorted(map(sorted, grouped(*made[::-1])))
        == sorted(map(sorted, expected))
    )
