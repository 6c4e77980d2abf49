"""What tests say of a finding of the doctor."""

from jobs.doctor_checks import Finding, State


def holds(finding: Finding, state: State, *words: str) -> None:
    """The finding is of this state, names these words, and says what to do unless all is well."""
    assert finding.state is state, finding
    assert all(word in finding.found for word in words), finding
    assert bool(finding.advice) == (state is not State.OK), finding
