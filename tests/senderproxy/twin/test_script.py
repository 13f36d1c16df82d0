from senderproxy.twin.phrases import answer
from senderproxy.twin.script import Drop, Fault, Occasion, Say, Script, Silence, Stage


def occasion(
    stage: Stage, session: int = 1, transaction: int = 1, login: str | None = None, octets: int = 0
) -> Occasion:
    return Occasion(stage, session, transaction, login, octets)


def test_nothing_happens_where_nothing_was_asked_for() -> None:
    script = Script(Fault(Stage.MAIL, Drop()))
    assert script.strike(occasion(Stage.RCPT)) is None
    assert script.struck == []


def test_a_fault_keeps_to_its_session_transaction_login_and_octet() -> None:
    script = Script(
        Fault(Stage.DOT, Drop(), session=2, transaction=3),
        Fault(Stage.AUTH, Silence(), login="anna"),
        Fault(Stage.BODY, Silence(), at_octet=100),
    )
    assert script.strike(occasion(Stage.DOT, 2, 2)) is None
    assert script.strike(occasion(Stage.DOT, 2, 3)) == Drop()
    assert script.strike(occasion(Stage.AUTH, login="bert")) is None
    assert script.strike(occasion(Stage.AUTH, login="anna")) == Silence()
    assert script.strike(occasion(Stage.BODY, octets=99)) is None
    assert script.strike(occasion(Stage.BODY, octets=100)) == Silence()


def test_a_fault_lets_some_pass_and_strikes_as_often_as_asked() -> None:
    script = Script(Fault(Stage.RCPT, Drop(), after=1, times=2))
    assert [script.strike(occasion(Stage.RCPT)) for _ in range(5)] == [None, Drop(), Drop(), None, None]
    assert len(script.struck) == 2


def test_of_two_faults_the_first_goes_first_and_both_count() -> None:
    later = Say(answer(451, "later"))
    script = Script(Fault(Stage.MAIL, Drop(), times=1))
    script.add(Fault(Stage.MAIL, later, after=1))
    assert [script.strike(occasion(Stage.MAIL)) for _ in range(2)] == [Drop(), later]


def test_a_cleared_script_behaves_and_remembers() -> None:
    script = Script(Fault(Stage.MAIL, Drop()))
    script.strike(occasion(Stage.MAIL))
    script.clear()
    assert script.strike(occasion(Stage.MAIL)) is None
    assert len(script.struck) == 1
