"""With how many documents a model is asked, and what is made of what it says: ask with few, and with more while it refuses.

    E = .58 * best + .57 * gap - 8.13              # evidence: scores s2 of the best hit, and how far the second is behind

    plain rule          ask(docs[:1]); it refuses: ask(docs[:3]); it refuses: no answer
    posterior (opt-in)  refuse if logit P(first token is that of "No information") - E > 2, or if it refused in other words
                        it said "No information" but the rule says answer: the same prompt again, that beginning forbidden
                        refused and E > -1: ask(docs[:3]), the same rule
                        at once: a model that tells the odds of what it is forbidden is asked with that beginning forbidden from the
                        start (E > -4.2, below it a refusal stands), and the same rule decides: one call where there were two

Decisions only, each a function of the scores and of the rounds so far; `ask.py` does the asking. The same documents are never asked
with twice (but for the forbidden word), and when there are no more of them it ends. After Pathway's "geometric" adaptive RAG
(2024); on XQuAD with a 1.5B model 3 documents gave 30 right of 53 at 635 prompt tokens, 1 then 3 on refusal 32 at 570, the
posterior 35 at 264 (docs/benchmarks.md, decision 0029). E's weights are of that corpus, on others they can force invented answers:
`millstream evaluate --calibrate` fits them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from .document import Tokens

_IN_OTHER_WORDS: Final = math.log(0.1 / 0.9)
"""A refusal whose first token was this unlikely to be the sentinel's was said in other words: forbidding the word changes nothing."""
_LOG_ODDS_MAX: Final = 14.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """How much the scores say that an answer is among the documents: log-odds, logistic regression over questions of a corpus."""

    best: float = 0.58
    gap: float = 0.57
    intercept: float = -8.13

    def of(self, scores: Sequence[float]) -> float:
        """`scores`: best first. One hit alone has no gap."""
        if not scores:
            return -math.inf
        gap = scores[0] - scores[1] if len(scores) > 1 else 0.0
        return self.best * scores[0] + self.gap * gap + self.intercept


@dataclass(frozen=True, slots=True)
class AdaptiveSettings:
    """The strategy `adaptive`."""

    first_documents: int = 1
    factor: int = 3
    documents_max: int = 3
    """A query's own `k` goes before it."""
    gap_min: float = 0.0
    """With a smaller gap between the best two scores the first round is passed over. 0: never, as measured."""
    posterior: bool = False
    """Needs a model with log-probabilities (`openai` where the endpoint has them); without them the plain rule holds."""
    refuse_above: float = 2.0
    """Of logit P(No) - E. E is fitted to as many questions without an answer as with one; at 2 seven of eight are expected to have one."""
    expand_above: float = -1.0
    """Of E; under the posterior rule only. Below it a refusal is believed at once."""
    abstain_below: float | None = None
    """Of E: no answer without asking the model. None: always ask. At -3 it met 1-2 % of the questions that had an answer."""
    evidence: Evidence = Evidence()

    def __post_init__(self) -> None:
        if self.first_documents < 1 or self.factor < 2 or self.documents_max < self.first_documents:
            raise ValueError("first_documents must be at least 1, factor 2, documents_max no less than first_documents")

    def fixed(self, documents: int) -> AdaptiveSettings:
        """One round with so many: the strategy `fixed`."""
        return AdaptiveSettings(documents, self.factor, documents)

    def without_scores(self) -> AdaptiveSettings:
        """The rule where the scores are not those that it was set for."""
        return replace(self, gap_min=0.0, posterior=False, abstain_below=None)

    def up_to(self, documents: int) -> AdaptiveSettings:
        return replace(self, first_documents=min(self.first_documents, documents), documents_max=documents)


@dataclass(frozen=True, slots=True)
class Round:
    """What was asked, and what came of it."""

    documents: int
    refused: bool
    """The model said that the documents do not say."""
    forbidden: bool = False
    log_odds: float | None = None
    """That it would begin as a refusal does; None: not known."""
    can_forbid: bool = False
    tokens: Tokens = Tokens()


@dataclass(frozen=True, slots=True)
class Ask:
    """With the best so many documents."""

    documents: int
    forbid_no: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is what the last round said, or there is none."""

    refused: bool


def next_step(
    settings: AdaptiveSettings, scores: Sequence[float], rounds: Sequence[Round], *, at_once: bool = False
) -> Ask | Done:
    """`scores`: of all hits there are, best first. `at_once`: the model tells the odds of a beginning that it is forbidden."""
    limit = min(settings.documents_max, len(scores))
    evidence = settings.evidence.of(scores)
    forbidden = at_once and settings.posterior and evidence + settings.refuse_above > _IN_OTHER_WORDS
    if not rounds:
        hopeless = settings.abstain_below is not None and evidence < settings.abstain_below
        return Done(refused=True) if hopeless or not limit else Ask(_first(settings, scores, limit), forbidden)
    last = rounds[-1]
    if _wants_forbidden(settings, last, evidence):
        return Ask(last.documents, forbid_no=True)
    if not _refused(settings, last, evidence):
        return Done(refused=False)
    more = min(last.documents * settings.factor, limit)
    believed = _by_posterior(settings, last) and evidence <= settings.expand_above
    return Done(refused=True) if believed or more <= last.documents else Ask(more, forbidden)


def _first(settings: AdaptiveSettings, scores: Sequence[float], limit: int) -> int:
    first = min(settings.first_documents, limit)
    unclear = len(scores) > 1 and scores[0] - scores[1] < settings.gap_min
    return min(first * settings.factor, limit) if unclear else first


def _by_posterior(settings: AdaptiveSettings, last: Round) -> bool:
    return settings.posterior and (last.forbidden or last.log_odds is not None)


def _refused(settings: AdaptiveSettings, last: Round, evidence: float) -> bool:
    if not settings.posterior or last.log_odds is None:
        return last.refused
    return last.refused or last.log_odds - evidence > settings.refuse_above


def _wants_forbidden(settings: AdaptiveSettings, last: Round, evidence: float) -> bool:
    """It said the sentinel, and the evidence says that it should not have."""
    if not (settings.posterior and last.refused and last.can_forbid) or last.forbidden or last.log_odds is None:
        return False
    return _IN_OTHER_WORDS <= last.log_odds <= evidence + settings.refuse_above


def log_odds(first_token: Mapping[str, float], no_answer: str) -> float | None:
    """Of beginning as `no_answer` does, from the log-probabilities of the first token. None: there are none."""
    if not first_token:
        return None
    wanted = no_answer.casefold()
    begins = [
        token for token in first_token if (plain := token.strip(" \t\n\"'*").casefold()) and wanted.startswith(plain)
    ]
    share = min(1.0, sum(math.exp(first_token[token]) for token in begins))
    if share in {0.0, 1.0}:
        return _LOG_ODDS_MAX if share else -_LOG_ODDS_MAX
    return max(-_LOG_ODDS_MAX, min(_LOG_ODDS_MAX, math.log(share / (1 - share))))
