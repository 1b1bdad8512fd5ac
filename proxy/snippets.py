"""How each client is pointed at this gateway: texts to copy, with the address of this very host.

Marks in the texts are «base» (without a path), «key», «model» and «small»; the page fills
them in and lets people choose the models. Source: docs/clients.md.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

Text = str | Promise
MARK: Final = re.compile(r"«(base|key|model|small)»")
PLACEHOLDER: Final = "YOUR_KEY"


@dataclass(frozen=True, slots=True)
class Form:
    """One way to say it: for a shell, for PowerShell, or as a file of that name."""

    title: Text
    text: str


@dataclass(frozen=True, slots=True)
class Client:
    """A client with its forms. `family` is the kind of model that it is made for."""

    slug: str
    name: str
    family: str
    forms: tuple[Form, ...]
    note: Text = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text; `slot` names the mark that it stands for, empty for plain text."""

    text: str
    slot: str = ""


def fill(text: str, values: Mapping[str, str]) -> Iterator[Piece]:
    """The text in pieces, marks replaced by their values."""
    end = 0
    for found in MARK.finditer(text):
        if found.start() > end:
            yield Piece(text[end : found.start()])
        yield Piece(values[found[1]], found[1])
        end = found.end()
    if end < len(text):
        yield Piece(text[end:])


SHELL: Final = _("Shell")
POWERSHELL: Final = "PowerShell"

CLIENTS: Final = (
    Client(
        "claude-code",
        "Claude Code",
        "claude",
        (
            Form(
                SHELL,
                "export ANTHROPIC_BASE_URL=«base»\n"
                "export ANTHROPIC_AUTH_TOKEN=«key»\n"
                "export ANTHROPIC_MODEL=«model»\n"
                "export ANTHROPIC_DEFAULT_HAIKU_MODEL=«small»\n"
                "export CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1\n"
                "claude",
            ),
            Form(
                POWERSHELL,
                '$env:ANTHROPIC_BASE_URL = "«base»"\n'
                '$env:ANTHROPIC_AUTH_TOKEN = "«key»"\n'
                '$env:ANTHROPIC_MODEL = "«model»"\n'
                '$env:ANTHROPIC_DEFAULT_HAIKU_MODEL = "«small»"\n'
                '$env:CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC = "1"\n'
                "claude",
            ),
            Form(
                "~/.claude/settings.json",
                "{\n"
                '  "env": {\n'
                '    "ANTHROPIC_BASE_URL": "«base»",\n'
                '    "ANTHROPIC_AUTH_TOKEN": "«key»",\n'
                '    "ANTHROPIC_MODEL": "«model»",\n'
                '    "ANTHROPIC_DEFAULT_HAIKU_MODEL": "«small»",\n'
                '    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"\n'
                "  }\n"
                "}",
            ),
        ),
        _("The address stands without /v1."),
    ),
    Client(
        "codex",
        "Codex",
        "gpt",
        (
            Form(
                "~/.codex/config.toml",
                'model = "«model»"\n'
                'model_provider = "gateway"\n\n'
                "[model_providers.gateway]\n"
                'name = "Copilot Gateway"\n'
                'base_url = "«base»/v1"\n'
                'env_key = "GATEWAY_KEY"\n'
                'wire_api = "responses"',
            ),
            Form(SHELL, "export GATEWAY_KEY=«key»\ncodex"),
            Form(POWERSHELL, '$env:GATEWAY_KEY = "«key»"\ncodex'),
        ),
        _("The address ends in /v1."),
    ),
    Client(
        "gemini-cli",
        "Gemini CLI",
        "gemini",
        (
            Form(
                SHELL,
                "export GOOGLE_GEMINI_BASE_URL=«base»\n"
                "export GEMINI_API_KEY=«key»\n"
                "gemini --model «model»",
            ),
            Form(
                POWERSHELL,
                '$env:GOOGLE_GEMINI_BASE_URL = "«base»"\n'
                '$env:GEMINI_API_KEY = "«key»"\n'
                "gemini --model «model»",
            ),
            Form(
                "~/.gemini/settings.json",
                '{\n  "security": { "auth": { "selectedType": "gemini-api-key" } }\n}',
            ),
        ),
        _("The address stands without /v1beta."),
    ),
    Client(
        "openai-sdk",
        "OpenAI SDK",
        "gpt",
        (
            Form(
                "Python",
                "from openai import OpenAI\n\n"
                'client = OpenAI(base_url="«base»/v1", api_key="«key»")\n'
                "answer = client.chat.completions.create(\n"
                '    model="«model»",\n'
                '    messages=[{"role": "user", "content": "Hello"}],\n'
                ")\n"
                "print(answer.choices[0].message.content)",
            ),
            Form(
                "JavaScript",
                'import OpenAI from "openai";\n\n'
                'const client = new OpenAI({ baseURL: "«base»/v1", apiKey: "«key»" });\n'
                "const answer = await client.chat.completions.create({\n"
                '  model: "«model»",\n'
                '  messages: [{ role: "user", content: "Hello" }],\n'
                "});\n"
                "console.log(answer.choices[0].message.content);",
            ),
            Form(SHELL, "export OPENAI_BASE_URL=«base»/v1\nexport OPENAI_API_KEY=«key»"),
        ),
        _("The address ends in /v1."),
    ),
    Client(
        "anthropic-sdk",
        "Anthropic SDK",
        "claude",
        (
            Form(
                "Python",
                "from anthropic import Anthropic\n\n"
                'client = Anthropic(base_url="«base»", api_key="«key»")\n'
                "answer = client.messages.create(\n"
                '    model="«model»",\n'
                "    max_tokens=1024,\n"
                '    messages=[{"role": "user", "content": "Hello"}],\n'
                ")\n"
                "print(answer.content[0].text)",
            ),
            Form(
                "JavaScript",
                'import Anthropic from "@anthropic-ai/sdk";\n\n'
                'const client = new Anthropic({ baseURL: "«base»", apiKey: "«key»" });\n'
                "const answer = await client.messages.create({\n"
                '  model: "«model»",\n'
                "  max_tokens: 1024,\n"
                '  messages: [{ role: "user", content: "Hello" }],\n'
                "});\n"
                "console.log(answer.content[0].text);",
            ),
        ),
        _("The address stands without /v1."),
    ),
    Client(
        "opencode",
        "opencode",
        "claude",
        (
            Form(
                "opencode.json",
                "{\n"
                '  "provider": {\n'
                '    "gateway": {\n'
                '      "npm": "@ai-sdk/anthropic",\n'
                '      "name": "Copilot Gateway",\n'
                '      "options": { "baseURL": "«base»/v1", "apiKey": "«key»" },\n'
                '      "models": { "«model»": {}, "«small»": {} }\n'
                "    }\n"
                "  },\n"
                '  "model": "gateway/«model»"\n'
                "}",
            ),
        ),
        _("The address ends in /v1. For GPT models name @ai-sdk/openai instead."),
    ),
    Client(
        "cline",
        "Cline",
        "claude",
        (
            Form(
                _("Settings → API Configuration"),
                "API Provider:  OpenAI Compatible\n"
                "Base URL:      «base»/v1\n"
                "API Key:       «key»\n"
                "Model ID:      «model»",
            ),
        ),
    ),
    Client(
        "continue",
        "Continue",
        "claude",
        (
            Form(
                "~/.continue/config.yaml",
                "name: Copilot Gateway\n"
                "version: 1.0.0\n"
                "schema: v1\n"
                "models:\n"
                "  - name: «model»\n"
                "    provider: openai\n"
                "    model: «model»\n"
                "    apiBase: «base»/v1\n"
                "    apiKey: «key»\n"
                "    roles: [chat, edit, apply]",
            ),
        ),
    ),
    Client(
        "zed",
        "Zed",
        "claude",
        (
            Form(
                "settings.json",
                "{\n"
                '  "language_models": {\n'
                '    "openai_compatible": {\n'
                '      "Copilot Gateway": {\n'
                '        "api_url": "«base»/v1",\n'
                '        "available_models": [\n'
                '          { "name": "«model»", "max_tokens": 200000 }\n'
                "        ]\n"
                "      }\n"
                "    }\n"
                "  }\n"
                "}",
            ),
            Form(SHELL, "export COPILOT_GATEWAY_API_KEY=«key»\nzed"),
        ),
    ),
    Client(
        "curl",
        "curl",
        "claude",
        (
            Form(
                SHELL,
                "curl «base»/v1/chat/completions \\\n"
                "  -H 'Authorization: Bearer «key»' \\\n"
                "  -H 'Content-Type: application/json' \\\n"
                '  -d \'{"model": "«model»", "messages": [{"role": "user", "content": "Hello"}]}\'',
            ),
            Form(
                POWERSHELL,
                "Invoke-RestMethod «base»/v1/chat/completions -Method Post `\n"
                "  -Headers @{ Authorization = 'Bearer «key»' } `\n"
                "  -ContentType 'application/json' `\n"
                '  -Body \'{"model": "«model»", "messages": '
                '[{"role": "user", "content": "Hello"}]}\'',
            ),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Tab:
    client: Client
    model: str
    forms: list[tuple[Text, list[Piece]]]


PREFERRED: Final = {
    "claude": ("claude-sonnet-5", "claude-sonnet-4.6", "claude-sonnet-4.5"),
    "gpt": ("gpt-5.5", "gpt-5.4", "gpt-5.3-codex"),
    "gemini": ("gemini-3.1-pro-preview", "gemini-3.7-flash", "gemini-3.5-flash"),
    "small": ("claude-haiku-4.5", "gpt-5.4-mini", "gpt-5-mini"),
}


def choose(kind: str, offered: list[str]) -> str:
    """A model for a client of that kind: a usual one if offered, else any of the family."""
    usual = PREFERRED[kind]
    found = next((m for m in usual if m in offered), None)
    family = kind if kind != "small" else "claude-haiku"
    return found or next((m for m in offered if m.startswith(family)), None) or usual[0]


def tabs(base: str, key: str, offered: list[str]) -> list[Tab]:
    """Every client with its texts filled in. `offered` are the ids that the catalog lists."""
    made = []
    for client in CLIENTS:
        model = choose(client.family, offered)
        values = {"base": base, "key": key, "model": model, "small": choose("small", offered)}
        forms = [(form.title, list(fill(form.text, values))) for form in client.forms]
        made.append(Tab(client, model, forms))
    return made
