from senderproxy.simulator.phrases import answer
from senderproxy.simulator.script import Drop, Fault, FaultStage, Occasion, ReplyWith, Script, Silence


def occasion(
    stage: FaultStage, session: int = 1, transaction: int = 1, login: str | None = None, octets: int = 0
) -> Occasion:
    return Occasion(stage, session, transaction, login, octets)


def test_nothing_happens_where_nothing_was_asked_for() -> None:
    script = Script(Fault(FaultStage.MAIL, Drop()))
    assert script.strike(occasion(FaultStage.RCPT)) is None
    assert script.struck == []


def test_a_fault_keeps_to_its_session_transaction_login_and_octet() -> None:
    script = Script(
        Fault(FaultStage.DOT, Drop(), session=2, transaction=3),
        Fault(FaultStage.AUTH, Silence(), login="anna"),
        Fault(FaultStage.BODY, Silence(), at_octet=100),
    )
    assert script.strike(occasion(FaultStage.DOT, 2, 2)) is None
    assert script.strike(occasion(FaultStage.DOT, 2, 3)) == Drop()
    assert script.strike(occasion(FaultStage.AUTH, login="bert")) is None
    assert script.strike(occasion(FaultStage.AUTH, login="anna")) == Silence()
    assert script.strike(occasion(FaultStage.BODY, octets=99)) is None
    assert script.strike(occasion(FaultStage.BODY, octets=100)) == Silence()


def test_a_fault_lets_some_pass_and_strikes_as_often_as_asked() -> None:
    script = Script(Fault(FaultStage.RCPT, Drop(), after=1, times=2))
    assert [script.strike(occasion(FaultStage.RCPT)) for _ in range(5)] == [None, Drop(), Drop(), None, None]
    assert len(script.struck) == 2


def test_of_two_faults_the_first_goes_first_and_both_count() -> None:
    later = ReplyWith(answer(451, "later"))
    script = Script(Fault(FaultStage.MAIL, Drop(), times=1))
    script.add(Fault(FaultStage.MAIL, later, after=1))
    assert [script.strike(occasion(FaultStage.MAIL)) for _ in range(2)] == [Drop(), later]


def test_a_cleared_script_behaves_and_remembers() -> None:
    script = Script(Fault(FaultStage.MAIL, Drop()))
    script.strike(occasion(FaultStage.MAIL))
    script.clear()
    assert script.strike(occasion(FaultStage.MAIL)) is None
    assert len(script.struck) == 1
