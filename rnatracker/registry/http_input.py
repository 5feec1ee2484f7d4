"""What a request for predictions holds: the sequences in its body.

Owns the formats, those of MLflow's scoring server, and what is wrong with a body. Must not know HTTP's machinery. Read
next: `http_app.py`, which takes the requests; `rnatracker/data/sequences.py` for what a sequence may be.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

from rnatracker.errors import DataError
from rnatracker.prediction.table import INPUT

JSON, CSV = "application/json", "text/csv"
_EXAMPLE = f'{{"dataframe_records": [{{"{INPUT}": "AUGGCUUCACGG"}}]}}'
_KEYS = ("dataframe_records", "dataframe_split", "inputs", "instances")
_SEND = f"send one as {_EXAMPLE}"


def sequences_of(body: bytes, content_type: str) -> list[Any]:
    """Return the sequences in a body, in their order; what they are is not looked at.

    Args:
        body: its bytes.
        content_type: `JSON` or `CSV`.

    Raises:
        DataError: if it isn't what it should be.
    """
    return _of_csv(body) if content_type == CSV else _of_json(body)


def _of_json(body: bytes) -> list[Any]:
    try:
        content = json.loads(body)
    except RecursionError:
        raise DataError("the body is nested too deeply", _SEND) from None
    except UnicodeDecodeError:
        raise DataError("the body is no JSON: its text is no UTF-8", _SEND) from None
    except json.JSONDecodeError as error:
        raise DataError(f"the body is no JSON: {error.msg} at character {error.pos + 1}", _SEND) from None
    except ValueError:  # Python reads no number of so many thousand digits
        raise DataError("the body has a number of too many digits", _SEND) from None
    keys = [key for key in _KEYS if isinstance(content, dict) and key in content]
    if len(keys) != 1:
        raise DataError(
            f"the body must be an object with one of {', '.join(_KEYS)}, and has {len(keys)} of them", _SEND
        )
    given = content[keys[0]]
    if keys[0] == "dataframe_split":
        return _of_split(given)
    if keys[0] != "dataframe_records" and isinstance(given, dict):  # columns
        given = given.get(INPUT)
        return _list(given if isinstance(given, list) else [given], f"{keys[0]}: no column {INPUT}")
    if not isinstance(given, list):
        raise DataError(f"{keys[0]}: expected a list of records", _SEND)
    takes_texts = keys[0] != "dataframe_records"
    return [_of_record(each, number, keys[0], takes_texts) for number, each in enumerate(given, start=1)]


def _of_record(record: Any, number: int, key: str, takes_texts: bool) -> Any:
    if takes_texts and not isinstance(record, dict | list):
        return record
    if not isinstance(record, dict) or INPUT not in record:
        raise DataError(f"{key}, record {number}: no field {INPUT}", _SEND)
    return record[INPUT]


def _of_split(given: Any) -> list[Any]:
    columns, rows = (given.get("columns"), given.get("data")) if isinstance(given, dict) else (None, None)
    if not isinstance(columns, list) or not isinstance(rows, list):
        raise DataError("dataframe_split: expected an object with lists columns and data", _SEND)
    if INPUT not in columns:
        raise DataError(f"dataframe_split: no column {INPUT}", _SEND)
    place = columns.index(INPUT)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, list) or len(row) != len(columns):
            raise DataError(f"dataframe_split, row {number}: expected a list of {len(columns)} values", _SEND)
    return [row[place] for row in rows]


def _list(values: Sequence[Any], problem: str) -> list[Any]:
    if values == [None]:
        raise DataError(problem, _SEND)
    return list(values)


def _of_csv(body: bytes) -> list[Any]:
    import pandas as pd

    try:
        frame = pd.read_csv(io.BytesIO(body), dtype=str, keep_default_na=False, na_filter=False)
    except (ValueError, pd.errors.ParserError):
        raise DataError("the body is no CSV with a header, as text in UTF-8", f"send a column {INPUT}") from None
    if INPUT not in frame.columns:
        raise DataError(f"the body's CSV has no column {INPUT}", "name it in the first line")
    return list(frame[INPUT])
