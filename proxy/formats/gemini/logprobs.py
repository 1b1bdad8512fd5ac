"""Log probabilities: a list of tokens with alternatives in both worlds, under other names."""

from typing import Any

from proxy.formats.gemini.fields import Body


def logprobs_result(entries: list[dict[str, Any]]) -> Body:
    """`logprobsResult` and `avgLogprobs` of a candidate, from OpenAI's entries."""
    chosen = [_candidate(entry) for entry in entries]
    known = [one["logProbability"] for one in chosen if "logProbability" in one]
    top = [
        {"candidates": [_candidate(other) for other in others if isinstance(other, dict)]}
        for entry in entries
        if isinstance(others := entry.get("top_logprobs"), list)
    ]
    result: Body = {"chosenCandidates": chosen}
    if top:
        result["topCandidates"] = top
    body: Body = {"logprobsResult": result}
    if known:
        body["avgLogprobs"] = sum(known) / len(known)
    return body


def _candidate(entry: dict[str, Any]) -> Body:
    token, value = entry.get("token"), entry.get("logprob")
    body: Body = {"token": token if isinstance(token, str) else ""}
    if isinstance(value, int | float) and not isinstance(value, bool):
        body["logProbability"] = value
    return body


def read_logprobs(candidate: Body) -> list[dict[str, Any]] | None:
    """The reverse: OpenAI's entries of a candidate, None when it has none."""
    result = candidate.get("logprobsResult")
    chosen = result.get("chosenCandidates") if isinstance(result, dict) else None
    if not isinstance(result, dict) or not isinstance(chosen, list):
        return None
    tops = result.get("topCandidates")
    tops = tops if isinstance(tops, list) else []
    entries: list[dict[str, Any]] = []
    for i, one in enumerate(chosen):
        if not isinstance(one, dict):
            continue
        entry = _entry(one)
        others = tops[i].get("candidates") if i < len(tops) and isinstance(tops[i], dict) else None
        if isinstance(others, list):
            entry["top_logprobs"] = [_entry(other) for other in others if isinstance(other, dict)]
        entries.append(entry)
    return entries or None


def _entry(one: Body) -> dict[str, Any]:
    token = one.get("token")
    entry: dict[str, Any] = {"token": token if isinstance(token, str) else ""}
    if "logProbability" in one:
        entry["logprob"] = one["logProbability"]
    return entry
