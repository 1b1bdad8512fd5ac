"""What other formats can say and this one cannot; `docs/formats.md` is made from it."""

from proxy.formats.contract import Loss

LOSSES: tuple[Loss, ...] = (
    Loss("top_k", "knob", "The endpoint has no top_k."),
    Loss("metadata", "knob", "Refused by the endpoint when it comes from another format."),
    Loss("user", "knob", "The endpoint has no place for it when it comes from another format."),
    Loss("n", "knob", "Several answers are asked for by Chat Completions clients only."),
    Loss("prompt_cache_key", "knob", "Known to OpenAI models only."),
    Loss("verbosity", "knob", "Known to OpenAI models only."),
    Loss("reasoning_effort", "knob", "Lowered to what the model lists; left out if it lists none."),
    Loss(
        "thinking",
        "knob",
        "A budget is sent to Anthropic models, as an effort to others; modes have no place.",
    ),
    Loss("budget_tokens", "shape", "Below 4096 low, below 16384 medium, otherwise high."),
    Loss("thinking", "knob", "Reasoning of another vendor's endpoint in the history is left out."),
    Loss("display", "knob", "Reasoning text is always shown; there are no summaries to choose."),
    Loss("response_format", "knob", "Left out for models without structured outputs."),
    Loss("server tools", "knob", "Tools that a vendor runs are not offered (`tools.<name>`)."),
    Loss("documents", "content", "Refused, but for text documents."),
    Loss("text documents", "shape", "A plain text document becomes text."),
    Loss("max_output_tokens", "shape", "At most what the model's entry says."),
    Loss(
        "cache_control",
        "shape",
        "Claude's prompts get markers where the request has none: on the last tool, the system"
        " message and the last two turns of the user. Other models cache by themselves.",
    ),
    Loss("image", "content", "Refused for models without vision, and in assistant messages."),
    Loss("foreign blocks", "content", "Server tool calls, compaction items and the like."),
    Loss("system", "shape", "Blocks become one leading system message; later ones stay in place."),
    Loss(
        "cache", "shape", "A marker counts for its whole message (copilot_cache_control), no ttl."
    ),
    Loss("tool result images", "shape", "They follow in a user message after the results."),
    Loss("tool result is_error", "shape", "Only the text tells; an empty one becomes `Error`."),
    Loss("tool_reference", "shape", "Becomes a line of text; deferred tools are offered at once."),
    Loss("custom tools", "shape", "Become functions with one string parameter `input`."),
    Loss("tool ids", "shape", "Ids over 40 characters or with other signs are rewritten."),
    Loss("assistant messages", "shape", "Consecutive ones become one."),
    Loss("refusal", "shape", "A refusal in the history becomes text."),
    Loss(
        "stop reasons",
        "shape",
        "Stop sequences and pauses read `stop`, a full context `length`, a refusal without words"
        " `content_filter`.",
    ),
    Loss(
        "reasoning", "shape", "Sent as reasoning_content; reasoning_opaque only for a single one."
    ),
    Loss("annotations", "shape", "Only URL citations are sent, in one delta at the end."),
    Loss("functions", "shape", "Calls of legacy `functions` are answered as tool_calls."),
    Loss(
        "server tool results", "shape", "Blocks of tools that a vendor ran are not in the answer."
    ),
)
