"""`anytext fit` and `anytext validate` of UDiffText: the command line of AnyText2's training around another module.

A configuration says by ``system: udifftext`` that it is meant for this one (see ``training.cli.SYSTEMS``).
"""

from __future__ import annotations

from anytext_lib.training import cli
from anytext_lib.training.callbacks import ImageLogger, TextJudge
from anytext_lib.udifftext.training import UDiffTextTraining
from anytext_lib.udifftext.word_judge import WordJudge

SECTIONS = {name: cls for name, cls in cli.SECTIONS.items() if name not in ("images", "judge")}
SECTIONS |= {"model": UDiffTextTraining, "words": WordJudge}


class UDiffTextCLI(cli.AnyTextCLI):
    """AnyText2's, with a callback that writes words in the place of the two that sample AnyText2."""

    sections = SECTIONS

    def add_arguments_to_parser(self, parser) -> None:
        """Those of AnyText2's, and the options of that callback."""
        super().add_arguments_to_parser(parser)
        parser.add_lightning_class_args(WordJudge, "words")

    def _callbacks(self, config) -> list:
        others = [part for part in super()._callbacks(config) if not isinstance(part, (ImageLogger, TextJudge))]
        return [config.words, *others]
