"""A service that is asked who may log in and do what, and answers when it is told to: yes, no, or not at all."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from amqp_broker.session.auth import Authenticator, OwnUsers
from amqp_broker.session.handshake import Login, Opening, Question
from amqp_broker.session.judged import (
    ALLOWED,
    DENIED,
    NO_ANSWER,
    NOT_KNOWN,
    Claim,
    Judge,
    JudgedRights,
    Judgement,
)

if TYPE_CHECKING:
    from tests.fuzz.house import House


class Bench(Judge):
    """Knows some rights at once, and finds others out later."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def verdict(self, rights: JudgedRights, claim: Claim) -> int:
        """By the name: always the same, so that it does not matter how often it is asked."""
        known = len(claim.name) % 4
        return DENIED if claim.name == "q3" else ALLOWED if known else NOT_KNOWN

    def judge(self, judgement: Judgement) -> None:
        if len(judgement.claim.routing_key) % 3 == 1:
            judgement.decide(ALLOWED, self.service.house.world.now)
        else:
            self.service.waiting.append(judgement)


class Service(Authenticator):
    """Somebody else says who may do what, when it is told to answer. waiting: whom it has not answered."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.users = OwnUsers()
        self.bench = Bench(self)
        self.waiting: list[Question] = []

    def log_in(self, login: Login) -> None:
        if login.name == "neighbour":
            self.users.log_in(login)
        else:
            self.waiting.append(login)

    def open_vhost(self, opening: Opening) -> None:
        self.waiting.append(opening)

    def answer(self, draw: random.Random) -> None:
        """The one who waits longest, or all, most of them with a yes."""
        for _ in range(draw.choice((1, len(self.waiting)))):
            question = self.waiting.pop(0)
            self._answer(question, draw.random(), self.house.world.now)
            self.house.go_on(question.connection)
            if not self.waiting:
                return

    def _answer(self, question: Question, at: float, now: float) -> None:
        if at > 0.97:
            question.drop("the service does not answer", now)
        elif isinstance(question, Judgement):
            question.decide(ALLOWED if at < 0.85 else DENIED if at < 0.93 else NO_ANSWER, now)
        elif isinstance(question, Opening):
            (question.allow if at < 0.9 else question.refuse)(now)
        elif isinstance(question, Login):
            user = self.house.broker.users.get(question.name)
            if user is None or at > 0.9:
                question.refuse("no", now)
            else:
                question.allow(user, now, JudgedRights(question.name, [], self.bench) if at < 0.7 else None)
