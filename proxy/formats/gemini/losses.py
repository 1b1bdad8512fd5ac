"""What the Gemini API cannot say of the other formats; docs/formats.md is made from it."""

from proxy.formats.contract import Loss

LOSSES: tuple[Loss, ...] = (
    Loss("user, metadata", "knob", "No place for the end user's id."),
    Loss("verbosity", "knob", "No such setting."),
    Loss("prompt_cache_key", "knob", "Caching is not steered by a key."),
    Loss("parallel_tool_calls", "knob", "Parallel calls cannot be switched off."),
    Loss("tools.strict", "knob", "No strict schemas for single tools."),
    Loss("server tools", "knob", "What another vendor runs for its model is named and left out."),
    Loss("name", "knob", "Contents carry no name of the speaker."),
    Loss("thinking", "knob", "Reasoning of another model is left out."),
    Loss("cachedContent", "content", "What is cached or stored at Google cannot be read: refused."),
    Loss("responseModalities", "content", "Answers are text; images and speech are refused."),
    Loss("server tool blocks", "content", "Blocks of another vendor's server tools are refused."),
    Loss("cache_control", "shape", "Cache markers have no place; cache writes are not reported."),
    Loss("system messages", "shape", "Later ones become <system-reminder> texts of the user."),
    Loss("custom tools", "shape", "Free text becomes an object with one string, `input`."),
    Loss("arguments", "shape", "Arguments that are no JSON object stand under `arguments`."),
    Loss("function calls", "shape", "Come whole, in one part: the wire has no pieces of them."),
    Loss(
        "thinking, in answers", "shape", "Shown where `includeThoughts` asks; else its seal only."
    ),
    Loss("annotations", "shape", "Citations of other vendors are left out of answers."),
    Loss("server tools, in answers", "shape", "Other vendors' own blocks are left out of answers."),
    Loss("refusal", "shape", "A refusal's words arrive as text."),
    Loss("usage", "shape", "Cache writes are not reported."),
    Loss("stop reasons", "shape", "`tool_use` and `stop_sequence` read STOP, refusals SAFETY."),
    Loss("effort", "shape", "`xhigh` and `max` become HIGH, `none` a budget of 0."),
)
