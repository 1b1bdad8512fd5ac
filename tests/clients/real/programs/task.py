"""The task of every library: read the note and write the file, through two tools of its own."""

import json
import os
from pathlib import Path
from typing import Any

GATEWAY = os.environ["GATEWAY"]
V1 = GATEWAY + "/v1"
MODEL = os.environ["MODEL"]
WIRE = os.environ.get("WIRE", "")
NOTE, MADE = os.environ["NOTE"], os.environ["MADE"]
PROMPT = (
    f"call read_file {json.dumps({'path': NOTE})} "
    f"call write_file {json.dumps({'path': MADE, 'content': 'hello'})}"
)
TOOLS: list[dict[str, Any]] = [
    {
        "name": "read_file",
        "description": "Read a file.",
        "parameters": {
            "type": "object",
            "properties": {"path": {"type": "string"}},
            "required": ["path"],
        },
    },
    {
        "name": "write_file",
        "description": "Write a file.",
        "parameters": {
            "type": "object",
            "properties": {"path": {"type": "string"}, "content": {"type": "string"}},
            "required": ["path", "content"],
        },
    },
]


def read_file(path: str) -> str:
    """Read a file."""
    return Path(path).read_text()


def write_file(path: str, content: str) -> str:
    """Write a file."""
    Path(path).write_text(content)
    return "written"


def perform(name: str, arguments: dict[str, Any]) -> str:
    return {"read_file": read_file, "write_file": write_file}[name](**arguments)
