import os
import pty
import signal
import subprocess
import sys

import pytest

from experiment.interrupts import interrupts_wait, signals_interrupt

CHILD = """
import signal, time
from experiment.interrupts import interrupts_wait, signals_interrupt
try:
    with signals_interrupt():
        print("ready", flush=True)
        time.sleep(30)
except KeyboardInterrupt:
    print("this goes nowhere", flush=True)
    with interrupts_wait(lambda: print("nor does this", flush=True)):
        signal.raise_signal(signal.SIGHUP)
    open(PATH, "w").write("ended in order")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_block_as_ctrl_c_does(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), signals_interrupt():
        signal.raise_signal(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_the_cluster_is_taken_down_a_signal_only_notifies(number: signal.Signals) -> None:
    told: list[int] = []
    before = signal.getsignal(number)
    with interrupts_wait(lambda: told.append(1)):
        signal.raise_signal(number)
        signal.raise_signal(number)
    assert told == [1, 1]
    assert signal.getsignal(number) == before


def test_a_closed_terminal_ends_a_run_in_order(tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "end")  # noqa: PTH118 (of a PathLike)
    master, slave = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD.replace("PATH", repr(path))],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    assert b"ready" in os.read(master, 100)
    os.close(master)  # the terminal is gone: writing to it fails from now on
    child.send_signal(signal.SIGHUP)
    assert child.wait(30) == 0
    with open(path) as end:  # noqa: PTH123
        assert end.read() == "ended in order"


def test_a_signal_that_is_ignored_stays_ignored_as_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_interrupt(), interrupts_wait(pytest.fail):
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
