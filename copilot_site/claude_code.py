"""`--claude-code`: one command that starts Claude Code against this gateway, for the user's shell.

The variables are Claude Code's own; copilot-api set the same ones.
"""

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

from django.conf import settings

from copilot_site import clipboard

# A model's id and what people call it.
Model = tuple[str, str]

NO_KEY: Final = "dummy"
KEY_TO_FILL_IN: Final = "YOUR_KEY"
# Ids that every shell takes as they are; others are not offered.
_PLAIN_ID = re.compile(r"[\w.:/@+\[\]-]+", re.ASCII)
_NEW_NAME = re.compile(r"claude-(opus|sonnet|haiku)-(\d+)(?:[.-](\d{1,2}))?")
_OLD_NAME = re.compile(r"claude-(\d)(?:[.-](\d))?-(opus|sonnet|haiku)")


def offer(base_url: str, models: Sequence[Model], key: str | None, interactive: bool) -> str:
    """Let a person choose two models, make the command and put it on the clipboard.

    Gives what to say: "Copied: …", or the command itself where there is no clipboard.
    """
    usable = [model for model in models if _PLAIN_ID.fullmatch(model[0])]
    if not usable:
        return "! --claude-code: no models are known yet. Sign in, then start again."
    main, small = best_main(usable), best_small(usable)
    if interactive:
        main = _ask("Model for Claude Code", usable, main)
        small = _ask("Small, fast model", usable, small)
    secret = key or (KEY_TO_FILL_IN if settings.REQUIRE_KEYS else NO_KEY)
    command = script(variables(base_url, main, small, secret), shell())
    if not clipboard.copy(command):
        return command
    # What is on the clipboard need not stand on the screen as well.
    return "Copied: " + (command.replace(key, f"{key[:8]}…") if key else command)


def variables(base_url: str, main: str, small: str, key: str) -> dict[str, str]:
    """What Claude Code reads."""
    return {
        "ANTHROPIC_BASE_URL": base_url,
        "ANTHROPIC_AUTH_TOKEN": key,
        "ANTHROPIC_MODEL": main,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": main,
        "ANTHROPIC_SMALL_FAST_MODEL": small,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": small,
        "DISABLE_NON_ESSENTIAL_MODEL_CALLS": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }


# Models.


def best_main(models: Sequence[Model]) -> str:
    """The newest Opus or Sonnet; of the same version the Opus."""
    return _newest(models, ("sonnet", "opus")) or _first(models, ("claude", "gpt")) or models[0][0]


def best_small(models: Sequence[Model]) -> str:
    """The newest Haiku, else something small, else the main model."""
    return _newest(models, ("haiku",)) or _first(models, ("mini", "flash")) or best_main(models)


def _newest(models: Sequence[Model], families: tuple[str, ...]) -> str | None:
    """The highest version; of two alike the family that stands later in `families`."""
    found = []
    for model_id, _ in models:
        known = _family(model_id)
        if known and known[0] in families:
            found.append((known[1], families.index(known[0]), model_id))
    return max(found)[2] if found else None


def _family(model_id: str) -> tuple[str, tuple[int, int]] | None:
    if match := _NEW_NAME.fullmatch(model_id):
        major, minor = int(match[2]), int(match[3] or 0)
        # Copilot once wrote 4.1 as 41.
        return match[1], divmod(major, 10) if major >= 10 and not minor else (major, minor)
    if match := _OLD_NAME.fullmatch(model_id):
        return match[3], (int(match[1]), int(match[2] or 0))
    return None


def _first(models: Sequence[Model], words: tuple[str, ...]) -> str | None:
    return next((m for word in words for m, _ in models if word in m), None)


def _ask(question: str, models: Sequence[Model], best: str) -> str:
    """A list to type into; the best one stands first. Leaving it takes the best."""
    import questionary
    from prompt_toolkit.output import create_output

    ordered = sorted(models, key=lambda model: model[0] != best)
    choices = [
        questionary.Choice(name if name == model_id else f"{model_id}  ({name})", value=model_id)
        for model_id, name in ordered
    ]
    answer = questionary.select(
        question,
        choices=choices,
        use_search_filter=True,
        use_jk_keys=False,
        instruction="(arrows, or type a part of the name)",
        output=create_output(stdout=sys.stderr),
    ).ask(kbi_msg="")
    return str(answer) if answer else best


# Shells.


def shell() -> str:
    """bash, zsh, fish, powershell or cmd: the one that the person types into."""
    name = PurePath(os.environ.get("SHELL", "")).name.removesuffix(".exe")
    if name in ("fish", "zsh", "bash"):
        return name
    if name == "pwsh":
        return "powershell"
    if os.name != "nt":
        return "bash"
    # cmd.exe sets PROMPT for what it starts, PowerShell does not.
    return "cmd" if os.environ.get("PROMPT") else "powershell"


def script(values: dict[str, str], shell: str) -> str:
    """One line that sets the variables and starts `claude`.

    Raises `ValueError` for values that cmd.exe cannot quote.
    """
    match shell:
        case "fish":
            sets = "; ".join(f"set -gx {name} {_in_fish(v)}" for name, v in values.items())
            return f"{sets} && claude"
        case "powershell":
            sets = "; ".join(f"$env:{name} = {_in_powershell(v)}" for name, v in values.items())
            # Windows' own PowerShell has no `&&`.
            return f"{sets}; claude"
        case "cmd":
            sets = " && ".join(f'set "{name}={_in_cmd(v)}"' for name, v in values.items())
            return f"{sets} && claude"
        case _:
            sets = " ".join(f"{name}={shlex.quote(value)}" for name, value in values.items())
            return f"export {sets} && claude"


def _in_fish(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _in_powershell(value: str) -> str:
    # The typographic quotes count as quotes there.
    return "'" + re.sub("(['‘’‚‛])", r"\1\1", value) + "'"


def _in_cmd(value: str) -> str:
    if re.search(r'["%!\r\n]', value):
        raise ValueError("cmd.exe has no way to quote this value.")
    return value
