"""Other forms of an answer than the object itself: Table (what kubectl prints) and metadata only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from testbed.api.cells import UNKNOWN, Column
from testbed.api.registry import Kind
from testbed.api.status import not_acceptable

Object = dict[str, Any]

_META = "meta.k8s.io/v1"


@dataclass(frozen=True)
class Form:
    """What the Accept header asks for. `convert` is "" (the object), Table or PartialObjectMetadata."""

    convert: str = ""
    group: str = ""
    version: str = ""


PLAIN = Form()


def negotiate(accept: str) -> Form:
    """The first form in an Accept header that the server has. Raises StatusError 406."""
    if accept in ("", "*/*", "application/json"):
        return PLAIN
    for part in accept.split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        if media not in ("application/json", "application/*", "*/*"):
            continue
        given = dict(piece.split("=", 1) for piece in parameters if "=" in piece)
        convert = given.get("as", "").removesuffix("List")
        if convert in ("", "Table", "PartialObjectMetadata", "APIGroupDiscovery"):
            return Form(convert, given.get("g", ""), given.get("v", ""))
    raise not_acceptable(["application/json"])


def partial(obj: Object) -> Object:
    return {"kind": "PartialObjectMetadata", "apiVersion": _META, "metadata": obj["metadata"]}


def partial_list(objects: Sequence[Object], metadata: Object) -> Object:
    items = [partial(obj) for obj in objects]
    return {"kind": "PartialObjectMetadataList", "apiVersion": _META, "metadata": metadata, "items": items}


def table(kind: Kind, objects: Sequence[Object], metadata: Object, include: str = "Metadata") -> Object:
    """The Table of these objects. `include`: how much of each comes along: None, Metadata or Object."""
    rows = []
    for obj in objects:
        row: Object = {"cells": [_cell(column, obj) for column in kind.columns]}
        if include != "None":
            row["object"] = obj if include == "Object" else partial(obj)
        rows.append(row)
    return {
        "kind": "Table",
        "apiVersion": _META,
        "metadata": metadata,
        "columnDefinitions": [column.definition for column in kind.columns],
        "rows": rows,
    }


def _cell(column: Column, obj: Object) -> Any:
    """A status is what its writer made it: what cannot be shown must not spoil the table."""
    try:
        return column.cell(obj)
    except (TypeError, AttributeError, KeyError, ValueError, IndexError):
        return UNKNOWN
