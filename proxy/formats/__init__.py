"""The wire formats by name. A new client format is one module and one line here."""

from proxy.formats import chat_completions, gemini, messages, responses
from proxy.formats.contract import Format

FORMATS: dict[str, Format] = {
    chat_completions.NAME: chat_completions,
    messages.NAME: messages,
    responses.NAME: responses,
    gemini.NAME: gemini,
}
