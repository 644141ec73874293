"""The target of metaharness.yaml once more, as a test: for where fixtures and parametrization are wanted."""

from __future__ import annotations

from pytest_metaharness import Check, Gate, Metaharness, Target

GOAL = """\
Make router.py send support tickets of the mail-order shop Wheelhouse to the right queue.
QUEUES.md says what belongs where; tickets/sample.jsonl has twenty tickets with their queues, README.md the protocol.

The router is measured on forty other tickets of the same kind. So write down what words and phrases mean, as
QUEUES.md does, rather than what to do with the twenty tickets that happen to be in the sample.
"""

CONSTRAINTS = """\
Keep the protocol, and use Python's standard library only. No network, no other program, no file but your own.
The same ticket goes to the same queue, whatever came before it.
Route by what a ticket says; do not look for the labels of the sealed tickets.
"""


def test_ticket_router(metaharness: Metaharness) -> None:
    run = metaharness(
        Target(
            goal=GOAL,
            constraints=CONSTRAINTS.splitlines(),
            baseline="baseline",
            editable=["router.py"],
            required=["router.py"],
            sealed="evaluation",
            budget=1,
            timeout=600,
            checks=[Check(id="accuracy", score="python -I measure/accuracy.py", timeout=30)],
            gate=Gate(best=0.9, gain=0.1),
        )
    )
    assert run.baseline.objective == 0.75  # 30 of the 40 tickets
