"""What Anthropic Messages cannot say of the other formats; docs/formats.md is made from it."""

from proxy.formats.contract import Loss

LOSSES: tuple[Loss, ...] = (
    Loss("seed", "knob", "Claude's endpoint has no seed."),
    Loss("presence_penalty, frequency_penalty", "knob", "No penalties."),
    Loss("logprobs, top_logprobs", "knob", "No log probabilities, in requests and in answers."),
    Loss("verbosity", "knob", "No such setting."),
    Loss("prompt_cache_key", "knob", "The prompt cache is steered by `cache_control` only."),
    Loss("metadata", "knob", "Only the user's id has a place; a longer one than 256 is left out."),
    Loss("name", "knob", "Messages carry no name of the speaker."),
    Loss("detail", "knob", "Images have no level of detail."),
    Loss("temperature", "knob", "Above 1 it is sent as 1; with thinking it is left out."),
    Loss("top_p", "knob", "Left out beside a temperature; with thinking below 0.95."),
    Loss("top_k", "knob", "Left out with thinking."),
    Loss("stop", "knob", "Blank stop sequences are left out."),
    Loss(
        "reasoning_effort",
        "knob",
        "Set to the nearest effort the model lists, or to a thinking budget. Left out when the"
        " model has neither, a tool is forced, the budget does not fit below max_tokens, or a"
        " tool loop goes on without the thinking it began with.",
    ),
    Loss(
        "thinking",
        "knob",
        "Reasoning of other families in the history is left out: only signed thinking is accepted.",
    ),
    Loss("tools.strict", "knob", "Strict schemas are refused by some backends."),
    Loss("tool_choice", "knob", "Left out when the forced tool is not on offer."),
    Loss("server tools", "knob", "Tools that another vendor's server runs are not offered."),
    Loss("n", "content", "One answer only: n above 1 is refused."),
    Loss("documents", "content", "PDF and text only; other file types are refused."),
    Loss("images and documents of the assistant", "content", "Refused."),
    Loss("blocks of other families", "content", "Refused, but for records of a web search."),
    Loss(
        "system messages in the conversation",
        "shape",
        "Those at the head become system blocks, later ones `<system-reminder>` texts of the user.",
    ),
    Loss("consecutive messages of one role", "shape", "Joined into one; tool results come first."),
    Loss("blank texts and empty messages", "shape", "Left out: the upstream refuses them."),
    Loss(
        "custom tools",
        "shape",
        "A free-text tool is offered as a function with one string `input`, its grammar in the"
        " description; calls in the history become {`input`: text}. The answer's call has that"
        " shape too: the client's own format turns it back.",
    ),
    Loss("broken arguments", "shape", "Arguments that are no JSON object go under `arguments`."),
    Loss("deferred tools", "shape", "Offered at once."),
    Loss("tool schemas", "shape", "Always of type object, without `$schema`."),
    Loss(
        "output format",
        "shape",
        "JSON mode, and schemas for models without structured outputs, become an instruction at"
        " the end of the system prompt.",
    ),
    Loss("max_tokens", "shape", "Mandatory: the model's limit, else 4096, when nobody says it."),
    Loss("ids of tool calls", "shape", "Packed as `cgw1_…` where the wire forbids characters."),
    Loss(
        "foreign reasoning in answers",
        "shape",
        "Its signature is wrapped as `cgw1.…`; one that comes after the answer's last text is left"
        " out, because clients take the last block for the result.",
    ),
    Loss(
        "annotations in answers",
        "shape",
        "Anthropic's citations only; the text stays, other links and code citations do not.",
    ),
    Loss("refusal", "shape", "A refusal's words arrive as text, with the stop reason `refusal`."),
    Loss("stop reasons", "shape", "A content filter's stop reads `refusal`."),
    Loss(
        "cache_control",
        "shape",
        "Requests of formats without cache markers get them on the last tool, the end of the system"
        " prompt and the last two turns of the user.",
    ),
    Loss("blocks of other families in answers", "shape", "Left out of the answer."),
)
