"""Actors across processes in programs that run under `weft run`, whose children may, or may not."""

import subprocess
import sys

import pytest

from weft_run import BACKENDS, clean_environment, weft_program

PROGRAM = """
import multiprocessing
import sys
import weft
import weft.actor

class Scores(weft.actor.Actor):
    def report(self, score):
        weft.sleep(0.001)
        return score + 1

def play(scores, lines):
    for score in range(3):
        lines.send((scores.proxy().report(score).get(), weft.is_patched()))
    lines.close()

if __name__ == "__main__":
    scores = Scores.start()
    lines = weft.Channel()
    end = weft.actor.ChannelEnd(lines)
    player = multiprocessing.get_context(sys.argv[1]).Process(target=play, args=(scores, end))
    player.start()
    found = list(lines)
    player.join()
    print([score for score, _ in found], {patched for _, patched in found}, player.exitcode, scores.stop())
"""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_under_weft_run(tmp_path, backend, method):
    pytest.importorskip("weft")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run([weft_program(), "run", f"--backend={backend}", sys.executable, str(program), method],
                          capture_output=True, text=True, timeout=60, check=False, env=clean_environment())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"[1, 2, 3] {{{method == 'fork'}}} 0 True\n"
