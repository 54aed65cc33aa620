"""`POST …/tables`: what a table means to a model, and the request that it becomes."""

import io
import json

import pandas as pd
import pytest

PATH = "/v1/models/forecaster/tables"
ROWS = "time,Level (m),hour\n2024-01-01T00:00,10,0\n2024-01-01T01:00,11,1\n2024-01-01T02:00,12,2\n"


def preview(client, content, kind="text/csv", path=PATH, status=200, **query):
    reply = client.post(path, content=content, headers={"Content-Type": kind}, params=query)
    assert reply.status_code == status, reply.text
    return reply.json()


def test_a_table_becomes_a_request_that_is_answered(client):
    told = preview(client, ROWS)
    assert told["columns"] == ["time", "Level (m)", "hour"]
    assert told["mapping"] == {"level": "Level (m)", "hour": "hour"}
    first, last = "2024-01-01T00:00:00", "2024-01-01T02:00:00"
    assert told["sequences"] == [{"id": None, "time_steps": 3, "first": first, "last": last}]
    assert told["problems"] == []
    times = [[first, "2024-01-01T01:00:00", last]]
    assert told["request"] == {
        "inputs": [[[10, 0], [11, 1], [12, 2]]],
        "columns": ["level", "hour"],
        "timestamps": times,
    }
    assert client.post("/v1/models/forecaster/predict", json=told["request"]).status_code == 200


def test_rows_without_a_target_are_a_horizon(client):
    told = preview(client, ROWS + "2024-01-01T03:00,,3\n")
    assert told["horizon"] == 1
    reply = client.post("/v1/models/forecaster/predict", json=told["request"])
    assert reply.status_code == 200, reply.text
    assert len(reply.json()["prediction"]["values"][0]) == 1


def test_a_problem_is_told_with_its_cell(client):
    told = preview(client, ROWS.replace(",11,", ",x,"))
    assert told["request"] is None
    (problem,) = told["problems"]
    assert (problem["row"], problem["column"]) == (1, "Level (m)")
    assert "line 3, column 'Level (m)': 'x' is not a number" in problem["message"]


def test_a_missing_column_is_told_with_what_maps_it(client):
    told = preview(client, "stage,hour\n1,2\n")
    assert "--map level=stage" in told["problems"][0]["message"]
    assert preview(client, "stage,hour\n1,2\n", map="level=stage")["request"]["inputs"] == [[[1, 2]]]


def test_each_problem_is_told_with_its_cell(client):
    text = ROWS.replace(",11,1", ",x,1").replace(",12,2", ",y,z")
    told = preview(client, text)
    assert told["mapping"] == {"level": "Level (m)", "hour": "hour"}
    assert [(each["row"], each["column"]) for each in told["problems"]] == [
        (1, "Level (m)"),
        (2, "Level (m)"),
        (2, "hour"),
    ]
    assert told["problems"][1]["message"] == "line 4, column 'Level (m)': 'y' is not a number"
    many = "level,hour\n" + "x,1\n" * 30
    assert [each["message"] for each in preview(client, many)["problems"]][-1] == "and 10 more cells of 'level'"
    assert len(preview(client, many)["problems"]) == 21


def test_each_gap_is_told_with_its_cell(client):
    told = preview(client, "level,hour\n1,2\nNA,3\n4,\n5,6\n?,\n7,8\n")
    assert [(each["row"], each["column"]) for each in told["problems"]] == [
        (1, "level"),
        (4, "level"),
        (2, "hour"),
        (4, "hour"),
    ]


def test_columns_that_are_not_found_are_told_with_the_nearest_and_what_maps_them(client):
    told = preview(client, "time,lvl,station_hour\n2024-01-01T00:00,1,2\n")
    assert told["not_found"] == [
        {"name": "level", "nearest": ["lvl"], "map": "level=lvl"},
        {"name": "hour", "nearest": ["station_hour"], "map": "hour=station_hour"},
    ]
    assert "--map level=lvl,hour=station_hour" in told["problems"][0]["message"]
    mapped = ",".join(each["map"] for each in told["not_found"])
    again = preview(client, "time,lvl,station_hour\n2024-01-01T00:00,1,2\n", map=mapped)
    assert (again["request"]["inputs"], again["not_found"]) == ([[[1, 2]]], [])


def test_parquet_is_read(client):
    file = io.BytesIO()
    pd.DataFrame({"hour": [0.0, 1.0], "level": [10.0, 11.0]}).to_parquet(file)
    told = preview(client, file.getvalue(), "application/vnd.apache.parquet")
    assert told["request"]["inputs"] == [[[10, 0], [11, 1]]]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"map": "level"}, "NAME=COLUMN"),
        ({"day_first": "maybe"}, "true or false"),
        ({"fill": "level=most"}, "hold, interpolate or a number"),
        ({"ids": "x"}, "did you mean 'id'"),
    ],
)
def test_a_query_that_cannot_be_is_refused(client, query, message):
    assert message in preview(client, ROWS, status=422, **query)["detail"]


def test_another_format_is_refused(client):
    assert "text/csv" in preview(client, "{}", "application/json", status=415)["detail"]


def test_a_model_of_tokens_has_no_tables(client):
    assert "reads tokens" in preview(client, ROWS, path="/v1/models/letters/tables", status=422)["detail"]


@pytest.mark.parametrize("content", [b"", b"\x00\x01", b'"' * 1000, b"a" * 100_000, b",\n" * 50_000])
def test_what_is_no_table_is_a_problem_and_no_failure(client, content):
    told = preview(client, content)
    assert told["request"] is None
    assert len(told["problems"]) == 1


def parquet(text):
    written = io.BytesIO()
    pd.read_csv(io.StringIO(text)).to_parquet(written)
    return written.getvalue()


@pytest.mark.parametrize("path", ["predict", "trace"])
@pytest.mark.parametrize("kind", ["text/csv", "application/vnd.apache.parquet"])
def test_predict_and_trace_take_tables(client, path, kind):
    model = f"/v1/models/forecaster/{path}"
    body = preview(client, ROWS)["request"]
    expected = client.post(model, json=body).json()
    given = preview(client, ROWS if kind == "text/csv" else parquet(ROWS), kind, model)
    assert given.pop("notes") != expected.pop("notes", [])
    assert given == expected
    assert given["timestamps"] == body["timestamps"]


def test_a_trace_of_a_table_is_written_in_lines(client):
    headers = {"Content-Type": "text/csv", "Accept": "application/x-ndjson"}
    reply = client.post("/v1/models/forecaster/trace", content=ROWS, headers=headers)
    lines = [json.loads(line) for line in reply.text.splitlines()]
    whole = preview(client, ROWS, path="/v1/models/forecaster/trace")["signals"]["forget_gate"][0][0][0]
    steps = [line["signals"]["forget_gate"][0][0][0] for line in lines if "time_step" in line]
    assert steps == whole


def test_what_was_done_to_a_table_stands_in_the_notes(client):
    text = ROWS.replace(",11,", ",,")
    rows = text.splitlines(keepends=True)
    given = preview(client, "".join([rows[0], *rows[:0:-1]]), path="/v1/models/forecaster/predict", fill="level=10.5")
    told = {(note["code"], note["message"]) for note in given["notes"]}
    assert ("filled", "1 missing in 'level': each is 10.5.") in told
    assert ("table", "Its rows are not in the order of time; they are sorted.") in told


@pytest.mark.parametrize(
    ("text", "query", "status", "said"),
    [
        (ROWS.replace(",11,", ",,"), {}, 422, "line 3, column 'Level (m)': there is no value"),
        (ROWS, {"signals": "forget_gate"}, 422, "signals"),
        (ROWS, {"fill": "level"}, 422, "hold, interpolate or a number"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_with_its_place(client, text, query, status, said):
    assert said in str(preview(client, text, path="/v1/models/forecaster/predict", status=status, **query))


def test_a_compressed_table_is_refused(client):
    headers = {"Content-Type": "text/csv", "Content-Encoding": "gzip"}
    reply = client.post("/v1/models/forecaster/predict", content=b"x", headers=headers)
    assert reply.status_code == 415


def test_a_model_of_tokens_takes_no_table(client):
    reply = client.post("/v1/models/letters/predict", content=ROWS, headers={"Content-Type": "text/csv"})
    assert (reply.status_code, "tokens" in reply.text) == (422, True)
