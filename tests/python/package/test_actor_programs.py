"""Actors in programs of their own: how these end, and what they may do before a runtime runs."""

import pytest


@pytest.mark.parametrize("base", ["Actor", "ThreadingActor"])
def test_a_program_ends_when_its_actors_have(run_program, base):
    done = run_program(f"""
        import weft.actor
        class A({'weft.actor.' + base}):
            def on_receive(self, message):
                import time
                time.sleep(0.05)
                print("handled", flush=True)
                self.stop()
        A.start().tell("go")
        print("main ends", flush=True)
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "main ends\nhandled\n", "")


@pytest.mark.parametrize("base", ["Actor", "ThreadingActor"])
def test_a_daemon_does_not_keep_the_program(run_program, base):
    done = run_program(f"""
        import weft.actor
        class A({'weft.actor.' + base}):
            use_daemon_thread = True
            def on_receive(self, message):
                return message
        ref = A.start()
        print(ref.ask("answer"), flush=True)
        ref.tell("more")
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "answer\n", "")


def test_ask_on_an_os_thread_where_no_runtime_runs(run_program):
    done = run_program("""
        import threading, weft, weft.actor
        class A(weft.actor.ThreadingActor):
            def on_receive(self, message):
                return message
        class F(weft.actor.Actor):
            pass
        def work():
            ref = A.start()
            print(ref.ask("answer"), weft.running())
            ref.stop()
            try:
                F.start()
            except RuntimeError as error:
                print("main thread" in str(error))
            print(weft.actor.ActorRegistry.get_all())
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "answer False\nTrue\n[]\n", "")


def test_ctrl_c_ends_a_wait_for_an_answer(run_program):
    done = run_program("""
        import os, signal, threading, weft.actor
        signal.signal(signal.SIGINT, signal.default_int_handler)
        class A(weft.actor.ThreadingActor):
            use_daemon_thread = True
            def on_receive(self, message):
                import time
                time.sleep(30)
        ref = A.start()
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            ref.ask("never")
        except KeyboardInterrupt:
            print("interrupted")
    """)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def test_pykka_by_name(run_program):
    done = run_program("""
        import weft.actor
        weft.actor.install_as_pykka()
        import pykka, pykka.debug, pykka.messages, pykka.typing
        from pykka._envelope import Envelope
        from pykka.messages import ProxyCall
        assert pykka.ThreadingActor is weft.actor.ThreadingActor
        assert ProxyCall is weft.actor.messages.ProxyCall
        class A(pykka.ThreadingActor):
            def twice(self, n):
                return 2 * n
        ref = A.start()
        future = pykka.ThreadingFuture()
        ref.actor_inbox.put(Envelope(ProxyCall(("twice",), (4,), {}), reply_to=future))
        print(future.get(), ref.proxy().twice(3).get())
        ref.stop()
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "8 6\n", "")
