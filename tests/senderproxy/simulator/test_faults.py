"""Scripted faults."""

from senderproxy.simulator.faults import Drop, Fault, FaultPoint, FaultScript, FaultStage, ReplyWith, Silence
from senderproxy.simulator.provider_replies import server_reply


def point(
    stage: FaultStage, session: int = 1, transaction: int = 1, login: str | None = None, octets: int = 0
) -> FaultPoint:
    return FaultPoint(stage, session, transaction, login, octets)


def test_nothing_happens_where_nothing_was_asked_for() -> None:
    script = FaultScript(Fault(FaultStage.MAIL, Drop()))
    assert script.next_action(point(FaultStage.RCPT)) is None
    assert script.applied == []


def test_a_fault_keeps_to_its_session_transaction_login_and_octet() -> None:
    script = FaultScript(
        Fault(FaultStage.DOT, Drop(), session=2, transaction=3),
        Fault(FaultStage.AUTH, Silence(), login="anna"),
        Fault(FaultStage.BODY, Silence(), at_octet=100),
    )
    assert script.next_action(point(FaultStage.DOT, 2, 2)) is None
    assert script.next_action(point(FaultStage.DOT, 2, 3)) == Drop()
    assert script.next_action(point(FaultStage.AUTH, login="bert")) is None
    assert script.next_action(point(FaultStage.AUTH, login="anna")) == Silence()
    assert script.next_action(point(FaultStage.BODY, octets=99)) is None
    assert script.next_action(point(FaultStage.BODY, octets=100)) == Silence()


def test_a_fault_lets_some_pass_and_strikes_as_often_as_asked() -> None:
    script = FaultScript(Fault(FaultStage.RCPT, Drop(), after=1, times=2))
    assert [script.next_action(point(FaultStage.RCPT)) for _ in range(5)] == [None, Drop(), Drop(), None, None]
    assert len(script.applied) == 2


def test_of_two_faults_the_first_goes_first_and_both_count() -> None:
    later = ReplyWith(server_reply(451, "later"))
    script = FaultScript(Fault(FaultStage.MAIL, Drop(), times=1))
    script.add(Fault(FaultStage.MAIL, later, after=1))
    assert [script.next_action(point(FaultStage.MAIL)) for _ in range(2)] == [Drop(), later]


def test_a_cleared_script_behaves_and_remembers() -> None:
    script = FaultScript(Fault(FaultStage.MAIL, Drop()))
    script.next_action(point(FaultStage.MAIL))
    script.clear()
    assert script.next_action(point(FaultStage.MAIL)) is None
    assert len(script.applied) == 1
