"""Scoring a folder: what is written and printed, and that whatever cannot be scored stops it, with file and line."""

import json
import math

import pytest

from kvmerger_eval import results
from kvmerger_eval.__main__ import main

LINE = {"task": "longbench/qasper", "id": "a", "index": 0, "method": "none", "policy": "none", "heads": "uniform",
        "fit": "none", "budget": "", "mode": "question-agnostic", "prediction": "the cat", "answers": ["cat"],
        "all_classes": None, "metric": "qa_f1", "extra": {}, "prompt_tokens": 9, "dropped_tokens": 0, "new_tokens": 2,
        "rows_before": 9, "rows": 9, "bytes_full": 90, "bytes": 90, "prefill_s": 0.5, "compact_s": 0, "decode_s": 0.1,
        "head_rows": None}
H2O = {"method": "h2o", "policy": "h2o", "budget": "50%"}


def write_run(folder, lines, **run):
    names = list(dict.fromkeys(line["task"] for line in lines if isinstance(line, dict) and "task" in line))
    run = {"model": {"name": "small"}, "mode": "question-agnostic", "tasks": names} | run
    (folder / "run.json").write_text(json.dumps(run))
    texts = (json.dumps(line, ensure_ascii=False) if isinstance(line, dict) else line for line in lines)
    (folder / "predictions.jsonl").write_text("".join(text + "\n" for text in texts))


@pytest.fixture
def scored(tmp_path, capsys):
    """Scores lines: the rows of scores.json and what was printed."""

    def score(lines, **run):
        write_run(tmp_path, lines, **run)
        code = main(["score", str(tmp_path)])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return results.read_scores(tmp_path), printed.out

    return score


@pytest.fixture
def refused(tmp_path, capsys):
    """Scores lines that cannot be scored: the message. Nothing is written then."""

    def score(lines, **run):
        write_run(tmp_path, lines, **run)
        assert main(["score", str(tmp_path)]) == 1
        assert not (tmp_path / "scores.json").exists()
        return capsys.readouterr().err

    return score


def test_scores_are_times_100_and_a_mean_is_over_samples(scored):
    scores, _ = scored([LINE, LINE | {"id": "b", "index": 1, "prediction": "a black cat"},
                        LINE | H2O | {"prediction": "dog"}])
    full, h2o = scores.rows
    # the cat | cat: 100; black cat | cat: precision 1/2, recall 1
    assert [entry["score"] for entry in full.scores] == [100, pytest.approx(200 / 3)]
    assert (full.n, full.mean, full.method, full.budget) == (2, pytest.approx(250 / 3), "none", "")
    assert (h2o.n, h2o.mean, h2o.method, h2o.budget) == (1, 0, "h2o", "50%")
    assert scores.more_rows == []


def test_samples_are_in_the_order_of_the_task(scored):
    scores, _ = scored([LINE | {"id": "b", "index": 1}, LINE])
    assert [entry["id"] for entry in scores.rows[0].scores] == ["a", "b"]


def test_the_table_has_tasks_methods_samples_and_average(scored):
    other = {"task": "longbench/hotpotqa", "prediction": "dog"}
    _, table = scored([LINE, LINE | other, LINE | H2O, LINE | H2O | other | {"prediction": "cat"}])
    assert table.splitlines() == [
        "## Scores, question-agnostic, small", "",
        "| task | metric | none | h2o 50% |", "| --- | --- | ---: | ---: |",
        "| longbench/qasper | qa_f1 | 100.00 (1) | 100.00 (1) |",
        "| longbench/hotpotqa | qa_f1 | 0.00 (1) | 100.00 (1) |",
        "| average of 2 |  | 50.00 | 100.00 |", "| mean distance from the full cache |  | 0.00 | 50.00 |", "",
        "In brackets: samples."]


def test_a_method_with_fewer_samples_has_no_average(scored):
    _, table = scored([LINE, LINE | {"id": "b", "index": 1}, LINE | H2O])
    assert "| longbench/qasper | qa_f1 | 100.00 (2) | 100.00 (1*) |" in table
    assert "| average of 1 |  | 100.00 | - |" in table
    assert "| mean distance from the full cache |  | 0.00 | - |" in table
    assert "the run is not finished" in table


def test_an_unfinished_full_cache_is_no_measure_of_distance(scored):
    _, table = scored([LINE, LINE | H2O, LINE | H2O | {"id": "b", "index": 1}])
    assert "| average of 1 |  | - | 100.00 |" in table
    assert "mean distance" not in table


def test_a_method_without_a_task_has_no_average(scored):
    _, table = scored([LINE, LINE | {"task": "longbench/hotpotqa"}, LINE | H2O])
    assert "| longbench/hotpotqa | qa_f1 | 100.00 (1) | - |" in table
    assert "| average of 2 |  | 100.00 | - |" in table


def test_methods_that_differ_in_their_options_only_have_columns_of_their_own(scored):
    _, table = scored([LINE | H2O, LINE | H2O | {"heads": "pyramid", "prediction": "dog"}])
    assert "| longbench/qasper | qa_f1 | 100.00 (1) | 0.00 (1) |" in table


def test_each_mode_has_a_table_of_its_own(scored):
    _, table = scored([LINE, LINE | {"mode": "question-aware", "prediction": "dog"}])
    agnostic, aware = table.split("## Scores, question-aware, small")
    assert "100.00 (1)" in agnostic and "0.00 (1)" not in agnostic.replace("100.00 (1)", "")
    assert "0.00 (1)" in aware and "100.00 (1)" not in aware


def test_few_shot_tasks_are_scored_by_their_first_line(scored):
    few_shot = {"prediction": "\n\ncat\nPassage: dog dog dog", "answers": ["cat"]}
    scores, _ = scored([LINE | few_shot | {"task": "longbench/triviaqa"}, LINE | few_shot])
    assert scores.rows[0].mean == 100
    assert scores.rows[1].mean == pytest.approx(100 / 3)  # cat passage dog dog dog | cat: precision 1/5, recall 1


def test_classes_come_from_the_line(scored):
    line = {"task": "longbench/trec", "metric": "classification", "prediction": "Date or Food", "answers": ["Date"]}
    scores, _ = scored([LINE | line | {"all_classes": ["Date", "Food"]}])
    assert scores.rows[0].mean == 50


def test_perplexity_is_not_in_percent_and_in_no_average(scored):
    line = {"task": "perplexity/novels", "metric": "perplexity", "prediction": "", "answers": []}
    scores, table = scored([LINE, LINE | line | {"extra": {"nll": 2 * math.log(5), "tokens": 2}}])
    assert scores.rows[1].mean == pytest.approx(5)
    assert "| average of 1 |  | 100.00 |" in table


def test_further_metrics_of_a_task_are_apart(scored):
    line = {"task": "needle/single", "metric": "string_match_all", "prediction": "big cat", "answers": ["cat"]}
    scores, table = scored([LINE | line])
    assert [(row.metric, row.mean) for row in scores.rows] == [("string_match_all", 100)]
    assert [(row.metric, row.mean) for row in scores.more_rows] == [("needle_rouge", pytest.approx(200 / 3))]
    assert "## Other metrics, question-agnostic, small" in table


def test_scoring_twice_gives_the_same(scored, tmp_path):
    scored([LINE])
    before = (tmp_path / "scores.json").read_bytes()
    assert main(["score", str(tmp_path)]) == 0
    assert (tmp_path / "scores.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.jsonl", "run.json", "scores.json"]


@pytest.mark.parametrize("line, message", [
    ({"task": "longbench/qaspr"}, "unknown task 'longbench/qaspr'; known are "),
    ({"metric": "rouge"}, "the metric is 'rouge', that of the task longbench/qasper is 'qa_f1'"),
    ({"answers": []}, "sample b of longbench/qasper has no answers"),
    ({"answers": None}, "the field 'answers' is null, expected a list of texts"),
    ({"answers": [3]}, "the field 'answers' is [3], expected a list of texts"),
    ({"prediction": None}, "the field 'prediction' is null, expected text"),
    ({"rows": "9"}, "the field 'rows' is \"9\", expected a whole number"),
    ({"rows": True}, "the field 'rows' is true, expected a whole number"),
    ({"prefill_s": "1"}, "the field 'prefill_s' is \"1\", expected a number"),
    ({"task": "longbench/trec", "metric": "classification"}, "'all_classes' is empty"),
    ({"task": "longbench/passage_retrieval_en", "metric": "retrieval"}, "does not name a paragraph"),
    ({"task": "perplexity/novels", "metric": "perplexity"}, "'extra' has no 'nll'"),
    ({"id": "a"}, "the same sample and method as in line 1"),
])
def test_a_line_that_cannot_be_scored_is_named(refused, tmp_path, line, message):
    error = refused([LINE, LINE | {"id": "b", "index": 1} | line])
    assert error.startswith(f"error: {tmp_path / 'predictions.jsonl'}:2: ")
    assert message in error


@pytest.mark.parametrize("text, message", [
    ("{\"task\": \"longbench/qasper\"", "not valid JSON: "), ("[]", "expected a JSON object, found []"),
    ("", "not valid JSON: "), (json.dumps(LINE).replace("0.5", "NaN"), "not valid JSON: NaN is not a number")])
def test_a_line_that_is_no_record_is_named(refused, text, message):
    assert f"predictions.jsonl:2: {message}" in refused([LINE, text])


@pytest.mark.parametrize("field", sorted(LINE))
def test_every_field_must_be_there(refused, field):
    message = refused([LINE, {name: value for name, value in LINE.items() if name != field}], tasks=[LINE["task"]])
    assert f"predictions.jsonl:2: the field '{field}' is missing" in message


def test_a_task_without_predictions(refused):
    assert "predictions.jsonl: no line of the task longbench/trec, which" in refused(
        [LINE], tasks=["longbench/qasper", "longbench/trec"])


def test_no_predictions(refused):
    assert "predictions.jsonl: there are no predictions" in refused([])


def test_an_interrupted_last_line(tmp_path, capsys):
    write_run(tmp_path, [LINE])
    with (tmp_path / "predictions.jsonl").open("a") as file:
        file.write(json.dumps(LINE | {"id": "b"}))  # whole, but nothing says so
    assert main(["score", str(tmp_path)]) == 1
    assert "predictions.jsonl:2: the last line is not complete, the run was interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["run.json", "predictions.jsonl"])
def test_a_missing_file(tmp_path, capsys, name):
    write_run(tmp_path, [LINE])
    (tmp_path / name).unlink()
    assert main(["score", str(tmp_path)]) == 1
    assert f"{tmp_path / name}: there is no such file" in capsys.readouterr().err


def test_a_run_file_that_is_none(refused):
    assert "run.json: the field 'model' is missing or not an object" in refused([LINE], model=None)


def test_text_that_is_not_utf8(tmp_path, capsys):
    write_run(tmp_path, [LINE])
    (tmp_path / "predictions.jsonl").write_bytes(b"{\"task\": \"\xff\"}\n")
    assert main(["score", str(tmp_path)]) == 1
    assert "predictions.jsonl: not UTF-8 at byte 10" in capsys.readouterr().err
