"""The task files: all of them can be used, and those of LongBench are the benchmark's."""

import json
import os
import pathlib

import pytest

from kvmerger_eval import tasks
from kvmerger_eval.results import EvaluationError

FEW_SHOT = {"trec", "triviaqa", "samsum", "lsht"}
CODE = {"lcc", "repobench-p"}
ZEROSCROLLS = {  # answer lengths of its run_api_single_task.py, metrics of the paper's table 1
    "gov_report": (1024, "rouge_geometric_mean"), "summ_screen_fd": (512, "rouge_geometric_mean"),
    "qmsum": (512, "rouge_geometric_mean"), "squality": (512, "rouge_geometric_mean"), "qasper": (128, "f1"),
    "narrative_qa": (64, "f1"), "quality": (10, "accuracy"), "musique": (32, "f1"),
    "space_digest": (36, "exponential_similarity"), "book_sum_sort": (256, "concordance_index")}


def load(name):
    return json.loads((tasks.FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def suite(name):
    return {task.split("/", 1)[1]: load(task) for task in tasks.all_names() if task.startswith(name + "/")}


@pytest.mark.parametrize("name", tasks.all_names())
def test_a_task_can_be_used(name):
    task = tasks.find(name, "here")
    assert task.name == name
    text = load(name)
    assert text["template"].count("{context}") == 1
    files = text["source"].get("files", [])
    assert bool(files) != text["source"]["format"].startswith("generate:")
    assert all(not pathlib.PurePath(file).is_absolute() for file in files)
    assert (text["max_tokens"] == 0) == (text["metric"] == "perplexity")


def test_longbench_is_whole():
    longbench = suite("longbench")
    assert len(longbench) == 21
    for name, task in longbench.items():
        assert task["chat"] == (name not in FEW_SHOT | CODE), name
        assert task["first_line"] == (name in FEW_SHOT), name
        assert task["truncation"] == "middle", name


def test_longbench_has_the_official_prompts_and_lengths():
    data = pathlib.Path(os.environ.get("KVMERGER_DATA", "../shared/data")) / "longbench"
    if not data.is_dir():
        pytest.skip(f"there is no {data}; name the data with KVMERGER_DATA")
    prompts = json.loads((data / "dataset2prompt.json").read_text(encoding="utf-8"))
    lengths = json.loads((data / "dataset2maxlen.json").read_text(encoding="utf-8"))
    assert {name: (task["template"], task["max_tokens"]) for name, task in suite("longbench").items()} == {
        name: (prompts[name], lengths[name]) for name in prompts}


def test_zeroscrolls_is_whole():
    zeroscrolls = suite("zeroscrolls")
    own = {name: (task["max_tokens"], task["metric"]) for name, task in zeroscrolls.items() if name in ZEROSCROLLS}
    assert own == ZEROSCROLLS
    assert set(zeroscrolls) - set(ZEROSCROLLS) == {"squality_dev", "qmsum_val"}
    assert all(task["truncation"] == "context_end" for task in zeroscrolls.values())


def test_every_other_suite_is_there():
    suites = {name.split("/")[0] for name in tasks.all_names()}
    assert suites == {"longbench", "zeroscrolls", "needle", "ruler", "lines", "kv_retrieval", "passkey", "perplexity"}
    assert {"vt", "cwe", "fwe", *(name for name in suite("ruler") if name.startswith("niah_"))} == set(suite("ruler"))


@pytest.mark.parametrize("change, message", [
    ({"metric": "bleu"}, "unknown metric 'bleu'; known are accuracy, "),
    ({"metric_options": {"more": ["bleu"]}}, "unknown metric 'bleu'"),
    ({"truncation": "start"}, "unknown truncation 'start'; known are context_end, middle, none"),
    ({"source": {"format": "csv"}}, "unknown source format 'csv'"),
    ({"language": "de"}, "unknown language 'de'"),
    ({"chat": 1}, "the field 'chat' is missing or not true or false"),
    ({"max_tokens": True}, "the field 'max_tokens' is missing or not a whole number"),
    ({"template": None}, "the field 'template' is missing or not text"),
    ({"tempalte": "{context}"}, "unknown field 'tempalte'"),
    ({"name": "longbench/other"}, "the task calls itself 'longbench/other'; its place says 'longbench/qasper'"),
])
def test_a_task_file_that_is_wrong_is_named(tmp_path, change, message):
    path = tmp_path / "longbench" / "qasper.json"
    path.parent.mkdir()
    path.write_text(json.dumps(load("longbench/qasper") | change))
    with pytest.raises(EvaluationError) as error:
        tasks.find("longbench/qasper", "here", tmp_path)
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value)


def test_an_unknown_task_names_those_there_are():
    with pytest.raises(EvaluationError, match="^file:3: unknown task 'qasper'; known are .*longbench/qasper"):
        tasks.find("qasper", "file:3")
