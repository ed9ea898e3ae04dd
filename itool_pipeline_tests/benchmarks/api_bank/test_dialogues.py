"""API-Bank in both of its layouts: small dialogues written here, and half of the real ones where they are at hand."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.benchmarks.api_bank.dialogues import DESCRIPTIONS, DIALOGUES, FOLDERS, load_api_bank, source_files
from itool_pipeline.benchmarks.api_bank.hub_rows import load_api_bank_rows
from itool_pipeline.core.types import Example, Message
from itool_pipeline.data.example_codec import decode_example, encode_example
from itool_pipeline.data.rows import Rows
from itool_pipeline.data.streams import UnreadableFile
from itool_pipeline.data.wheels import FetchError

BY_HAND = Path(__file__).parent / "by_hand"
REAL = Path(__file__).parents[3] / "../shared/data/api_bank"

LEVEL_1, LEVEL_2 = (Path(DIALOGUES) / folder for folder in FOLDERS.values())

Row = dict[str, Any]


def by_id(rows: Rows) -> dict[str, Example]:
    return {example.id: example for example in rows.examples}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The dialogues written by hand, to be damaged."""
    return shutil.copytree(BY_HAND, tmp_path / "copy")


def test_one_case_for_each_call() -> None:
    assert {key: e.response for key, e in by_id(load_api_bank(BY_HAND)).items()} == {
        "level_1/AddMeeting-GetUserToken-level-2-1/2": '[GetUserToken(username="ana", password="s3cret")]',
        "level_1/AddMeeting-GetUserToken-level-2-1/3": '[AddMeeting(token="t0k3n", meeting_topic="Bob\'s budget talk", '
        'start_time="2023-05-02 09:00:00", end_time="2023-05-02 10:00:00", location="room 4", '
        'attendees=["Bob", "Eve"])]',
        "level_1/BookHotel-level-1-1/1": '[BookHotel(hotel_name="Plum", check_in_time="2023-06-01", '
        'check_out_time="2023-06-03", room_count=2, adult_count=2, child_count=0)]',
        "level_1/BookHotel-level-1-1/5": "[GetToday()]",
        "level_1/RecordHealthData-TimedSwitch-level-2-1/1": '[RecordHealthData(user_id="u7", '
        'time="2023-05-03 08:00:00", health_data=[{"name": "pulse", "value": "61"}])]',
        "level_1/RecordHealthData-TimedSwitch-level-2-1/4": '[TimedSwitch(name="lamp", time="2023-05-03 09:00:00", '
        "on=False)]",
        "level_2/AddMeeting-level-3-1/1": '[ToolSearcher(keywords="meeting")]',
        "level_2/AddMeeting-level-3-1/2": '[GetUserToken(username="ana", password="s3cret")]',
        "level_2/AddMeeting-level-3-1/5": '[AddMeeting(token="t0k3n", meeting_topic="lunch", '
        'start_time="2023-05-02 09:00:00", end_time="2023-05-02 10:00:00", location="room 4", attendees=["Bob"])]',
        "level_2/QueryStock-level-3-1/2": '[ToolSearcher(keywords="stock price")]',
        "level_2/QueryStock-level-3-1/3": '[QueryStock(stock_code="ACME", date="2023-05-02")]',
        "level_2/QueryStock-level-3-1/6": "[GetToday()]",
    }


def test_what_an_example_says_of_itself() -> None:
    for key, e in by_id(load_api_bank(BY_HAND)).items():
        assert (e.source, e.category, e.group) == ("api_bank", key.split("/")[0], f"api_bank/{key.rpartition('/')[0]}")
        assert len(e.gold) == 1
        assert decode_example(encode_example(e)) == e


def test_the_context_is_the_dialogue_up_to_the_call_with_earlier_results() -> None:
    case = by_id(load_api_bank(BY_HAND))["level_1/BookHotel-level-1-1/5"]
    assert case.messages[1:] == (
        Message("user", "Two rooms at the Plum\nfrom June 1st to the 3rd, for two adults."),
        Message(
            "assistant",
            '[BookHotel(hotel_name="Plum", check_in_time="2023-06-01", check_out_time="2023-06-03", room_count=2, '
            "adult_count=2, child_count=0)]",
        ),
        Message("tool", "77"),
        Message("assistant", "Your order is 77."),
        Message("user", "And what day is it?"),
        Message("assistant", "Let me see."),
    )
    assert case.messages[0].role == "system"
    assert "2023" in case.messages[0].content


def test_level_1_shows_the_apis_of_the_dialogue() -> None:
    cases = by_id(load_api_bank(BY_HAND))
    for index in (1, 5):
        tools = cases[f"level_1/BookHotel-level-1-1/{index}"].tools
        assert [tool["name"] for tool in tools] == ["BookHotel", "GetToday"]
    properties = tools[0]["parameters"]["properties"]
    assert properties["hotel_name"] == {"type": "string", "description": "hotel"}
    assert properties["room_count"]["type"] == "integer"
    assert tools[0]["output_parameters"] == {"order_id": {"type": "str", "description": "order"}}
    meeting = cases["level_1/AddMeeting-GetUserToken-level-2-1/2"].tools[0]["parameters"]["properties"]
    assert meeting["attendees"] == {"type": "array", "description": "names", "items": {"type": "string"}}


def test_level_2_shows_what_was_found_so_far() -> None:
    cases = by_id(load_api_bank(BY_HAND))
    seen = {key: [t["name"] for t in e.tools] for key, e in cases.items() if e.category == "level_2"}
    assert seen == {
        "level_2/AddMeeting-level-3-1/1": ["ToolSearcher"],
        "level_2/AddMeeting-level-3-1/2": ["ToolSearcher", "GetUserToken", "AddMeeting"],
        "level_2/AddMeeting-level-3-1/5": ["ToolSearcher", "GetUserToken", "AddMeeting"],
        "level_2/QueryStock-level-3-1/2": ["ToolSearcher"],
        "level_2/QueryStock-level-3-1/3": ["ToolSearcher", "QueryStock"],
        "level_2/QueryStock-level-3-1/6": ["ToolSearcher", "QueryStock"],
    }
    assert not any("desc_for_search" in tool for tool in cases["level_2/AddMeeting-level-3-1/5"].tools)


def test_keywords_may_be_the_name_of_what_is_found() -> None:
    cases = by_id(load_api_bank(BY_HAND))
    assert cases["level_2/AddMeeting-level-3-1/1"].gold[0].arguments == {"keywords": ("meeting", "add meeting")}
    assert cases["level_2/QueryStock-level-3-1/2"].gold[0].arguments == {"keywords": ("stock price", "query stock")}


def test_a_call_with_a_parameter_that_its_api_lacks_is_quarantined() -> None:
    (quarantined,) = load_api_bank(BY_HAND).quarantined
    assert quarantined.position == "level-1-given-desc/CancelTimedSwitch-level-1-1.jsonl:2"
    assert quarantined.reason == (
        "the gold call has parameters that its API does not have: ['device_id'] of 'CancelTimedSwitch'"
    )
    assert quarantined.excerpt == 'CancelTimedSwitch({"device_id": "12", "time": "2023-05-03 09:00:00"})'


USER = '{"role": "User", "text": "Hello"}'
CALL: Row = {"role": "API", "api_name": "GetToday", "param_dict": {}, "result": {"output": "2023-05-20"}}


def call(**over: Any) -> str:
    return json.dumps({**CALL, **over})


@pytest.mark.parametrize(
    ("lines", "position", "reason"),
    [
        ([USER, "{"], ":2", "not JSON"),
        ([USER, "[" * 100_000], ":2", "not JSON"),
        (["3", call()], ":1", "not a JSON object"),
        ([USER, "", '{"role": "God", "text": "x"}'], ":3", "a turn is of an unknown role: 'God'"),
        (['{"role": "User"}', call()], ":1", "a turn has no text"),
        ([USER, call(api_name=None)], ":2", "a call has no api_name"),
        ([USER, call(param_dict=[])], ":2", "a call has no param_dict"),
        ([USER, call(result="2023")], ":2", "a call has no result with an output"),
        ([USER, call(result={"input": {}})], ":2", "a call has no result with an output"),
        ([USER, call(api_name="Fly")], "", "an API that is called has no description: ['Fly']"),
        ([USER], "", "no API is called"),
        ([], "", "no API is called"),
        ([call()], ":1", "no user turn before the call"),
        (
            [USER, call(param_dict={"day": "x"})],
            ":2",
            "the gold call has parameters that its API does not have: ['day']",
        ),
        (
            [USER, call(api_name="BookHotel", param_dict={"room_count": "two"})],
            ":2",
            "a value is of the wrong type: 'two' is no int",
        ),
        (
            [USER, call(api_name="BookHotel", param_dict={"hotel_name": 7})],
            ":2",
            "a value is of the wrong type: 7 is no str",
        ),
        (
            [USER, call(api_name="TimedSwitch", param_dict={"on": "yes"})],
            ":2",
            "a value is of the wrong type: 'yes' is no bool",
        ),
        (
            [USER, call(api_name="RecordHealthData", param_dict={"health_data": "{}"})],
            ":2",
            "a value is of the wrong type: '{}'",
        ),
    ],
)
def test_malformed_dialogues_are_quarantined(copy: Path, lines: list[str], position: str, reason: str) -> None:
    before = load_api_bank(copy)
    (copy / LEVEL_1 / "bad-level-1-1.jsonl").write_text("\n".join(lines))
    rows = load_api_bank(copy)
    assert rows.examples == before.examples
    (quarantined,) = set(rows.quarantined) - set(before.quarantined)
    assert quarantined.position == f"level-1-given-desc/bad-level-1-1.jsonl{position}"
    assert quarantined.reason.startswith(reason)


def test_a_dialogue_may_hold_any_character(copy: Path) -> None:
    said = "one\u2028two\u2029three\x85four"
    lines = [json.dumps({"role": "User", "text": said}, ensure_ascii=False), "", call()]
    (copy / LEVEL_1 / "own-level-1-1.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert by_id(load_api_bank(copy))["level_1/own-level-1-1/1"].messages[-1] == Message("user", said)


def test_a_published_description_may_hold_any_character(tmp_path: Path) -> None:
    described = {"name": "GetToday", "description": "one\u2028two\x85three", "input_parameters": {}}
    row = {
        "file": "own.jsonl",
        "instruction": f"API descriptions:\n{json.dumps(described, ensure_ascii=False)}\n",
        "input": "User: x\nGenerate API Request:\n",
        "expected_output": "API-Request: [GetToday()]",
    }
    (tmp_path / "level_1.json").write_text(json.dumps([row]))
    (example,) = load_api_bank_rows({"level_1": tmp_path / "level_1.json"}).examples
    assert example.tools[0]["description"] == described["description"]


def test_bytes_that_are_no_text_are_quarantined(copy: Path) -> None:
    (copy / LEVEL_2 / "bad.jsonl").write_bytes(b'{"role": "User", "text": "\xff"}')
    quarantined = {r.position: r.reason for r in load_api_bank(copy).quarantined}
    assert quarantined["level-2-toolsearcher/bad.jsonl:1"].startswith("not UTF-8")


@pytest.mark.parametrize("found", ["nothing", {"name": "F"}, [{"name": "F", "input_parameters": {"a": "str"}}], 3])
def test_what_follows_a_search_with_a_malformed_result_is_quarantined(copy: Path, found: Any) -> None:
    lines = [USER, call(api_name="ToolSearcher", param_dict={"keywords": "k"}, result={"output": found}), call()]
    (copy / LEVEL_2 / "bad.jsonl").write_text("\n".join(lines))
    quarantined = [r.position for r in load_api_bank(copy).quarantined if "bad" in r.position]
    assert quarantined == ["level-2-toolsearcher/bad.jsonl:2", "level-2-toolsearcher/bad.jsonl:3"]


def test_malformed_descriptions_are_quarantined(copy: Path) -> None:
    rows = json.loads((BY_HAND / DESCRIPTIONS).read_text())
    extra = [3, {"name": "F"}, {"name": "F", "input_parameters": {"a": {}}}, rows[0]]
    (copy / DESCRIPTIONS).write_text(json.dumps([*rows, *extra]))
    found = [(r.position, r.reason) for r in load_api_bank(copy).quarantined if DESCRIPTIONS in r.position]
    assert found == [
        ("api_descriptions.json, entry 9", "a description is not an object"),
        ("api_descriptions.json, entry 10", "a description has no input_parameters: 'F'"),
        ("api_descriptions.json, entry 11", "a parameter has no type: 'a' of 'F'"),
        ("api_descriptions.json, entry 12", "a second description of the same API: 'AddMeeting'"),
    ]


def test_a_copy_in_another_layout(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"no file .*api_descriptions\.json.*evaluation\.api_bank\.path"):
        load_api_bank(tmp_path / "nowhere")
    assert source_files(tmp_path / "nowhere") == []
    (copy / DESCRIPTIONS).write_text("{}")
    with pytest.raises(UnreadableFile, match="must hold a JSON list"):
        load_api_bank(copy)
    (copy / DESCRIPTIONS).write_text("[")
    with pytest.raises(UnreadableFile, match=r"api_descriptions\.json: not JSON"):
        load_api_bank(copy)
    shutil.copy(BY_HAND / DESCRIPTIONS, copy)
    shutil.rmtree(copy / LEVEL_2)
    with pytest.raises(FetchError, match=r"no folder .*level-2-toolsearcher"):
        load_api_bank(copy)


def published(folder: Path, out: Path, damage: Any = lambda rows: rows) -> dict[str, Path]:
    """The dialogues of `folder` as the authors publish them: one row of text for each sample that ends in a call."""
    described = {row["name"]: row for row in json.loads((folder / DESCRIPTIONS).read_text())}
    files: dict[str, Path] = {}
    for level, subfolder in FOLDERS.items():
        rows: list[Row] = []
        for file in sorted((folder / DIALOGUES / subfolder).glob("*.jsonl")):
            turns = [json.loads(line) for line in file.read_text().splitlines()]
            used = {turn["api_name"] for turn in turns if turn["role"] == "API"}
            listed = [
                described[name] for name in (sorted(used, reverse=True) if level == "level_1" else ["ToolSearcher"])
            ]
            rows += [_published_row(file.name, *sample, listed) for sample in _samples(turns)]
        files[level] = out / f"{level}.json"
        files[level].write_text(json.dumps(damage(rows)))
    return files


def _samples(turns: list[Row]) -> list[tuple[int, list[Row], Row]]:
    """(number, context, expected call): the evaluator takes the turn after a call for a sample of its own."""
    samples = []
    for at, turn in enumerate(turns):
        if turn["role"] == "API":
            samples += [(turns[:at], turn), (turns[: at + 1], turns[at + 1])]
    return [(i, before, next_) for i, (before, next_) in enumerate(samples) if next_["role"] == "API"]


def _published_row(file: str, number: int, before: list[Row], expected: Row, listed: list[Row]) -> Row:
    apis = "\n".join(json.dumps({k: v for k, v in d.items() if k not in ("file", "database_name")}) for d in listed)
    said = [f"{t['role']}: {t['text']}" if "text" in t else f"{_request(t)}->{t['result']['output']}" for t in before]
    return {
        "file": file,
        "id": number,
        "instruction": f"\nGenerate something.\nAPI descriptions:\n{apis}",
        "input": "\n".join([*said, "Generate API Request:", ""]),
        "expected_output": _request(expected),
    }


def _request(call: Row) -> str:
    arguments = ", ".join(f"{name}='{value}'" for name, value in call["param_dict"].items())
    return f"API-Request: [{call['api_name']}({arguments})]"


def test_both_layouts_give_the_same_cases(tmp_path: Path) -> None:
    local, hub = load_api_bank(BY_HAND), load_api_bank_rows(published(BY_HAND, tmp_path))
    assert by_id(hub) == by_id(local)
    assert [r.reason for r in hub.quarantined] == [r.reason for r in local.quarantined]
    assert (
        hub.quarantined[0].position == "level_1.json, entry 5"
    )  # after three samples of one dialogue and two of another


def test_a_call_right_after_another_stands_twice_and_is_one_case(tmp_path: Path) -> None:
    files = published(BY_HAND, tmp_path)
    rows = [row for file in files.values() for row in json.loads(file.read_text())]
    twice = Counter((row["file"], row["input"], row["expected_output"]) for row in rows)
    assert sorted(file for (file, _, _), count in twice.items() if count == 2) == [
        "AddMeeting-GetUserToken-level-2-1.jsonl",
        "AddMeeting-level-3-1.jsonl",
        "QueryStock-level-3-1.jsonl",
    ]
    assert len(load_api_bank_rows(files).examples) == len(twice) - 1  # one is quarantined


def test_every_quarantined_call_has_a_position_of_its_own(tmp_path: Path) -> None:
    rows = [
        {
            "file": "own.jsonl",
            "instruction": 'API descriptions:\n{"name": "GetToday", "input_parameters": {}}',
            "input": "User: x\nAPI-Request: [GetToday(a='1')]->'today'\nUser: y\nGenerate API Request:\n",
            "expected_output": "API-Request: [GetToday(b='2')]",
        }
    ]
    files = {"level_1": tmp_path / "level_1.json", "level_2": tmp_path / "level_2.json"}
    files["level_1"].write_text(json.dumps(rows))
    files["level_2"].write_text("[]")
    found = [(r.position, r.reason) for r in load_api_bank_rows(files).quarantined]
    assert found == [
        (
            "level_1.json, entry 0, turn 1",
            "the gold call has parameters that its API does not have: ['a'] of 'GetToday'",
        ),
        ("level_1.json, entry 0", "the gold call has parameters that its API does not have: ['b'] of 'GetToday'"),
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (3, "not a JSON object"),
        ({"file": "a.jsonl"}, "no instruction"),
        ({"instruction": "Do."}, "no API descriptions in the instruction"),
        ({"instruction": "API descriptions:\nGetToday"}, "a description is not an object"),
        ({"expected_output": "I cannot."}, "the expected output is no call"),
        ({"expected_output": "API-Request: [GetToday(day=3)]"}, "the arguments cannot be read"),
        ({"expected_output": "API-Request: [GetToday(a='1', a='2')]"}, "the arguments cannot be read"),
        ({"input": "Hello\nUser: x"}, "the dialogue begins with no turn"),
        ({"input": "User: x\nAPI-Request: today\n"}, "an earlier call cannot be read"),
        ({"input": "User: x\nGenerate API Request:\n"}, "not a beginning of the other rows' dialogue"),
    ],
)
def test_malformed_rows_are_quarantined(tmp_path: Path, row: Any, reason: str) -> None:
    def with_bad_row(rows: list[Row]) -> list[Any]:
        return [*rows, {**rows[0], **row} if isinstance(row, dict) and len(row) and row != {"file": "a.jsonl"} else row]

    good = load_api_bank_rows(published(BY_HAND, tmp_path))
    bad = load_api_bank_rows(published(BY_HAND, tmp_path, with_bad_row))
    assert bad.examples == good.examples
    extra = set(bad.quarantined) - set(good.quarantined)
    assert [r.reason.startswith(reason) for r in extra] in ([True], [True, True])


def test_files_that_are_no_lists(tmp_path: Path) -> None:
    files = published(BY_HAND, tmp_path)
    files["level_2"].write_text("{}")
    with pytest.raises(UnreadableFile, match="must hold a JSON list"):
        load_api_bank_rows(files)
    files["level_2"].write_text("[[")
    with pytest.raises(UnreadableFile, match=r"level_2\.json: not JSON"):
        load_api_bank_rows(files)


@pytest.fixture(scope="module")
def real() -> Rows:
    if not REAL.exists():
        pytest.skip("needs the half of API-Bank in shared/data, which is not shipped")
    return load_api_bank(REAL)


def test_every_real_call_is_accounted_for(real: Rows) -> None:
    calls: Counter[str] = Counter()
    for level, folder in FOLDERS.items():
        for file in (REAL / DIALOGUES / folder).glob("*.jsonl"):
            calls[level] += len(re.findall(r'^\{"role": "API"', file.read_text(), re.M))
    assert calls == {"level_1": 191, "level_2": 60}
    assert Counter(e.category for e in real.examples) == {"level_1": 189, "level_2": 60}
    foreign = "the gold call has parameters that its API does not have"
    assert Counter(r.kind for r in real.quarantined) == {foreign: 2, "no API is called": 1}
    assert len({e.group for e in real.examples}) == 104 + 25  # 107 and 25 files, 3 of them without a case


def test_real_contexts_grow_within_a_dialogue(real: Rows) -> None:
    dialogues: dict[str, list[Example]] = defaultdict(list)
    for e in real.examples:
        dialogues[e.group].append(e)
    for cases in dialogues.values():
        for before, after in pairwise(cases):
            assert after.messages[: len(before.messages)] == before.messages
            assert before.response in {m.content for m in after.messages if m.role == "assistant"}


def test_both_layouts_give_the_same_real_cases(real: Rows, tmp_path: Path) -> None:
    hub = load_api_bank_rows(published(REAL, tmp_path))
    expected = by_id(real)
    del expected["level_2/DeleteReminder-level-3-1/8"]  # called without being found, and no other dialogue describes it
    assert by_id(hub) == expected
    foreign = "the gold call has parameters that its API does not have"
    assert Counter(r.kind for r in hub.quarantined) == {foreign: 2, "an API that is called has no description": 1}
