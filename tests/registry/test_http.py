"""Requests to the server: the right answer, or a status and words that say what is wrong; never a traceback."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from rnatracker.prediction.predictor import Predictor
from rnatracker.prediction.table import prediction_frame
from rnatracker.registry import http_app
from rnatracker.registry.http_app import LOOPBACK, App
from rnatracker.registry.http_protocol import protocol
from tests.support.candidates import lively_checkpoint

_JSON = {"content-type": "application/json", "host": "127.0.0.1:5001"}
_ONE = b'{"dataframe_records": [{"sequence": "ACGUACGU"}]}'


@pytest.fixture(scope="module")
def predictor() -> Iterator[Predictor]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Predictor([lively_checkpoint(1)], torch.device("cpu"))
    torch.set_num_threads(before)


@pytest.fixture
def application(predictor: Predictor) -> App:
    return App(predictor, max_body=1000, hosts=LOOPBACK, idle_seconds=0.05)


def _ask(
    application: App,
    *parts: bytes | None,
    leaves: bool = False,
    headers: dict[str, str] = _JSON,
    path: str = "/invocations",
    method: str = "POST",
) -> tuple[int, Any]:
    """Ask without a network; a part that is None never comes."""
    sent: list[dict[str, Any]] = []
    waiting = list(parts)

    async def receive() -> dict[str, Any]:
        if not waiting:
            return {"type": "http.disconnect"}
        part = waiting.pop(0)
        if part is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": part, "more_body": bool(waiting) or leaves}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
    }
    asyncio.run(application(scope, receive, send))
    if not sent:
        return 0, None
    content = sent[1]["body"]
    return sent[0]["status"], json.loads(content) if content.startswith(b"{") else content


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ('{"dataframe_records": [{"id": 1, "sequence": "ACGUAC"}, {"sequence": "GGCC"}]}', "application/json"),
        (
            '{"dataframe_split": {"columns": ["id", "sequence"], "data": [[1, "ACGUAC"], [2, "GGCC"]]}}',
            "application/json; charset=utf-8",
        ),
        ('{"inputs": {"sequence": ["ACGUAC", "GGCC"]}}', "application/json"),
        ('{"inputs": ["ACGUAC", "GGCC"], "params": {}}', "application/json"),
        ('{"instances": [{"sequence": "ACGUAC"}, {"sequence": "GGCC"}]}', "application/json"),
        ("id,sequence\n1,ACGUAC\n2,GGCC\n", "text/csv"),
    ],
)
def test_each_of_mlflows_forms_gives_our_figures(body: str, kind: str, application: App, predictor: Predictor) -> None:
    status, answer = _ask(application, body.encode(), headers=_JSON | {"content-type": kind})
    assert status == 200, answer
    assert answer == {"predictions": prediction_frame(predictor, ["ACGUAC", "GGCC"]).to_dict("records")}


def test_body_in_parts_is_put_together(application: App) -> None:
    assert _ask(application, _ONE[:10], _ONE[10:])[0] == 200


@pytest.mark.parametrize(
    ("body", "begins"),
    [
        (
            '{"dataframe_records": [{"sequence": "ACGU"}, {"sequence": "ACXT"}]}',
            "sequences, record 2: expected letters",
        ),
        ('{"dataframe_records": [{"sequence": ""}]}', "sequences, record 1: expected a sequence, got nothing"),
        ('{"dataframe_records": [{"sequence": null}]}', "sequences, record 1: expected a sequence as text, got None"),
        ('{"dataframe_records": [{"sequence": 7}]}', "sequences, record 1: expected a sequence as text, got 7 (int)"),
        ('{"dataframe_records": [{"sequence": "\\ud800"}]}', "sequences, record 1: expected letters"),
        ('{"dataframe_records": [{"seq": "ACGU"}]}', "dataframe_records, record 1: no field sequence; send one as"),
        ('{"dataframe_records": []}', "sequences: expected at least one sequence, got none"),
        ('{"dataframe_records": "ACGU"}', "dataframe_records: expected a list of records"),
        ('{"dataframe_split": {"columns": ["seq"], "data": [["ACGU"]]}}', "dataframe_split: no column sequence"),
        ('{"dataframe_split": {"columns": ["sequence"], "data": ["ACGU"]}}', "dataframe_split, row 1: expected a list"),
        ('{"dataframe_split": []}', "dataframe_split: expected an object"),
        ('{"inputs": {"seq": ["ACGU"]}}', "inputs: no column sequence"),
        ('{"inputs": [["ACGU"]]}', "inputs, record 1: no field sequence"),
        ('{"records": []}', "the body must be an object with one of dataframe_records"),
        ("[]", "the body must be an object"),
        ("rubbish", "the body is no JSON: Expecting value at character 1"),
        ("", "the body is no JSON"),
        ("[" * 100_000, "the body is nested too deeply"),
        ('{"inputs": ' + "9" * 100_000 + "}", "the body has a number of too many digits"),
        ('{"inputs": [' + "9" * 4000 + "]}", "sequences, record 1: expected a sequence as text, got 9999"),
    ],
)
def test_bad_body_is_400_that_begins_with_what_is_wrong(body: str, begins: str, predictor: Predictor) -> None:
    status, answer = _ask(App(predictor, max_body=200_000), body.encode())
    assert status == 400
    assert answer["message"].startswith(begins)
    assert len(answer["message"]) < 300, "the body is not repeated"
    assert answer["error_code"] == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize("body", [b"\xff\xfe", b"", b"seq\nACGU\n", b'sequence\n"ACGU', b"\x00" * 100])
def test_bad_table_is_400(body: bytes, application: App) -> None:
    status, answer = _ask(application, body, headers=_JSON | {"content-type": "text/csv"})
    assert status == 400
    assert answer["message"].startswith(("the body", "sequences"))


@pytest.mark.parametrize(
    ("changes", "status", "begins"),
    [
        ({"content-length": "5", "transfer-encoding": "chunked"}, 400, "the header has both"),
        ({"content-type": "text/plain"}, 415, "Content-Type: expected application/json or text/csv, got text/plain"),
        ({"content-type": "application/json; charset=latin-1"}, 415, "Content-Type: expected UTF-8, got latin-1"),
        ({"host": "evil.example:5001"}, 403, "this server answers requests for this machine's own address only"),
        ({"host": ""}, 403, "this server answers"),
        ({"host": "[::1"}, 403, "this server answers"),
        ({"content-length": "5000", "expect": "100-continue"}, 413, "the body is larger than 0.001 MB"),
    ],
)
def test_bad_header_is_refused(changes: dict[str, str], status: int, begins: str, application: App) -> None:
    found, answer = _ask(application, _ONE, headers=_JSON | changes)
    assert found == status
    assert answer["message"].startswith(begins)


@pytest.mark.parametrize("host", ["127.0.0.1:5001", "localhost", "[::1]:5001", "LOCALHOST:1"])
def test_this_machines_names_are_answered(host: str, application: App) -> None:
    assert _ask(application, _ONE, headers=_JSON | {"host": host})[0] == 200


def test_any_name_is_answered_where_other_machines_may_ask(predictor: Predictor) -> None:
    assert _ask(App(predictor, max_body=1000), _ONE, headers=_JSON | {"host": "gpu7:5001"})[0] == 200


def test_body_over_the_limit_is_413_and_not_repeated(application: App) -> None:
    status, answer = _ask(application, b"x" * 600, b"x" * 600, b"x" * 600)
    assert status == 413
    assert len(json.dumps(answer)) < 200


def test_body_that_stops_is_408(application: App) -> None:
    assert _ask(application, _ONE[:10], None)[0] == 408


def test_client_that_leaves_is_no_error(application: App, caplog: pytest.LogCaptureFixture) -> None:
    assert _ask(application, _ONE[:10], leaves=True) == (0, None)
    assert not caplog.records


def test_failure_of_ours_is_500_without_what_happened(
    application: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(http_app.table, "prediction_frame", fail)
    with caplog.at_level(logging.ERROR):
        status, answer = _ask(application, _ONE)
    assert status == 500
    assert "secret" not in json.dumps(answer)
    assert "a request could not be answered" in caplog.text


def test_memory_that_runs_out_is_503(application: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(http_app.table, "prediction_frame", fail)
    assert _ask(application, _ONE)[0] == 503


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/ping", 200),
        ("GET", "/health", 200),
        ("GET", "/version", 200),
        ("POST", "/ping", 405),
        ("GET", "/invocations", 405),
        ("GET", "/docs", 404),
        ("GET", "/openapi.json", 404),
        ("GET", "/", 404),
    ],
)
def test_pages(method: str, path: str, status: int, application: App) -> None:
    assert _ask(application, b"", path=path, method=method)[0] == status


def _answer(application: App, sent: bytes, header_seconds: float = 30.0) -> bytes:
    """Send bytes over a connection and return all that comes back until it is closed."""
    import uvicorn
    from uvicorn.server import ServerState

    async def talk() -> bytes:
        config = uvicorn.Config(application, ws="none", log_level="critical", lifespan="off")
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        made = protocol(header_seconds)
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(
            lambda: made(config=config, server_state=ServerState(), app_state={}),
            sock=theirs,  # type: ignore[call-arg]
        )
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(sent)
        found = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        return found

    return asyncio.run(talk())


def test_header_that_never_ends_is_408(application: App) -> None:
    answer = _answer(application, b"POST /invocations HTTP/1.1\r\nHost: local", 0.05)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"the header was not whole after 0.05 s" in answer


def test_silent_connection_is_closed(application: App) -> None:
    assert _answer(application, b"", 0.05).startswith(b"HTTP/1.1 408 ")


_HEAD = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (_HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(_ONE) + _ONE, 200),
        (_HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (_HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello", 400),
        (_HEAD + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\nhello", 400),
        (_HEAD + b"Content-Length: -5\r\n\r\nhello", 400),
        (b"rubbish\r\n\r\n", 400),
        (b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\n\r\n", 400),
        (_HEAD + b"Content-Length: 100\r\n\r\nhello", 408),
    ],
)
def test_what_is_no_good_http_gets_one_answer(
    sent: bytes, status: int, application: App, caplog: pytest.LogCaptureFixture
) -> None:
    answer = _answer(application, sent)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"error_code" in answer or status == 200
    assert not [record for record in caplog.records if record.exc_info]
