"""Prompts in another script than Latin, which the caption encoder does not understand, and a hook for a translator.

CLIP's text encoder was trained on English captions; of Chinese it makes noise.  Upstream translates such prompts before
(``ms_wrapper.py``, ``trans_pipe``), with the quoted words taken out and put back.  So does this, with any function that
is given: there is no translator among the packages of this library.
"""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from anytext_lib.data.hints import PLACEHOLDER
from anytext_lib.data.texts import normal_text, other_script
from anytext_lib.generation.request import QUOTED, Request, RequestError

Translator = Callable[[str], str]
"""From a prompt in any language to English; every ``*``, which stands for quoted words, has to be kept."""
PROMPTS = {"prompt": "the prompt", "added_prompt": "the added prompt", "negative_prompt": "the negative prompt"}


def foreign(prompt: str) -> bool:
    """Whether a prompt, without its quoted words, has letters of another script than Latin."""
    return other_script(QUOTED.sub(" ", prompt))


def foreign_prompts(request: Request) -> list[str]:
    """Which of the prompts of a request are ``foreign``, in words."""
    return [name for field, name in PROMPTS.items() if foreign(getattr(request, field) or "")]


def translated(request: Request, translator: Translator | None) -> Request:
    """The request with its ``foreign`` prompts in English; as it is where there is none, or no translator.

    Raises:
        RequestError: see ``translate``.
    """
    if translator is None:
        return request
    found = {field: translate(value, translator) for field in PROMPTS
             if (value := getattr(request, field)) and foreign(value)}
    return replace(request, **found) if found else request


def translate(prompt: str, translator: Translator) -> str:
    """A prompt in English; quoted words stay as they are, and where the translator put their ``*``.

    Raises:
        RequestError: the translator fails, gives no text, or loses a ``*``.
    """
    prompt = normal_text(prompt).replace(PLACEHOLDER, " ")
    quotes = [match[0] for match in QUOTED.finditer(prompt)]
    asked = re.sub(" +", " ", QUOTED.sub(f" {PLACEHOLDER} ", prompt)).strip()
    try:
        found = translator(asked)
    except Exception as error:
        raise RequestError(f"the translator failed on {asked!r}: {type(error).__name__}: {error}") from error
    if not isinstance(found, str):
        raise RequestError(f"the translator made {found!r} of {asked!r}: it has to give a text")
    if found.count(PLACEHOLDER) != len(quotes):
        raise RequestError(f"the translator made {found!r} of {asked!r}: it has to keep every {PLACEHOLDER}, which "
                           "stands for quoted words. Write the prompt in English, or the words as lines of their own")
    rest = iter(quotes)
    return re.sub(rf" *\{PLACEHOLDER} *", lambda _: f" {next(rest)} ", found).strip()


def load_translator(where: str) -> Translator:
    """A function of a Python file, named FILE.py:FUNCTION; the file is run.

    Raises:
        RequestError: there is no such file or function, or the file cannot be run.
    """
    file, _, name = where.rpartition(":")
    if not Path(file).is_file():
        raise RequestError(f"no translator {where}: name a Python file and a function in it, as translate.py:english")
    try:
        function = runpy.run_path(file).get(name)
    except Exception as error:
        raise RequestError(f"the translator's file {file} cannot be run: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise RequestError(f"{file} has no function {name!r}: name the one that translates, as translate.py:english")
    return function
