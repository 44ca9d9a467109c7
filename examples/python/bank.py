#!/usr/bin/env python3
"""A bank whose accounts fail in the middle of their work, and whose money is all there in the end.

Shows actors that are made anew from what is on disk, one that watches over others and goes on without them, a pool,
lost messages that are sent again, letters that come back from who has stopped, and a deadline.

    python bank.py
    python bank.py --accounts 20 --transfers 2000 --faults 100 --spoiled 5 --seed 7
    python bank.py --ledger /tmp/bank         the next call goes on from there
"""

import argparse
import collections
import itertools
import pathlib
import random
import sys
import tempfile
from typing import NamedTuple

import weft
import weft.actor

OPENING = 1000  # what each account begins with
SUSPENSE = 0  # the account for money that nobody else takes
PATIENCE = 0.05  # seconds that a teller waits for an account, before it sends the entry again


class Fault(Exception):
    """What this program has to cope with."""


class LedgerError(Exception):
    """A ledger cannot be read."""


class Ledger:
    """What was booked to an account: a file that is only added to, a line for each entry."""

    def __init__(self, path, opening):
        self.path = path
        if not path.exists():
            self.append(0, opening)

    def append(self, *words):
        with self.path.open("a") as file:
            print(*words, file=file)

    def read(self, leniently=False):
        """Return {(number of the transfer, amount)}, where `leniently` of the lines that can be read."""
        entries = set()
        for line in self.path.read_text().splitlines():
            try:
                number, amount = map(int, line.split())
            except ValueError:
                if not leniently:
                    raise LedgerError(f"{self.path.name} says {line!r}") from None
            else:
                entries.add((number, amount))
        return entries

    def balance(self):
        return sum(amount for _, amount in self.read(leniently=True))


class Faults:
    """Which of all entries come to an account that fails, and how it does."""

    def __init__(self, count, spoiled, transfers, chance):
        kinds = itertools.chain(["spoiled"] * spoiled, itertools.cycle(["before", "after"]))
        self.kinds = dict(zip(chance.sample(range(transfers), count + spoiled), kinds))
        self.entries = itertools.count()

    def next(self):
        return self.kinds.pop(next(self.entries), None)


class Entry(NamedTuple):
    number: int
    amount: int
    booked: weft.actor.Future  # whether there was money enough


class Account(weft.actor.Actor):
    mailbox_size = 8
    restart_policy = weft.actor.Restart(limit=3, quiet=0, delay=0.001)  # no limit but for those that cannot start
    actor_dispatcher = weft.actor.Dispatcher(2, name="accounts")  # a disk may be slow: let it hold up no fibers

    def __init__(self, ledger, faults=None):
        self.ledger, self.faults = ledger, faults

    def on_start(self):
        self.entries = self.ledger.read()
        self.balance = sum(amount for _, amount in self.entries)

    def on_receive(self, entry):
        fault = self.faults and self.faults.next()
        if fault == "before":
            raise Fault("nothing is booked, and nobody hears of it")
        booked = self.book(entry.number, entry.amount)
        if fault == "spoiled":
            self.ledger.append("scribble")
        if fault:
            raise Fault("it is booked, and nobody hears of it")
        entry.booked.set(booked)

    def book(self, number, amount):
        if (number, amount) in self.entries:
            return True  # it was sent again
        if self.balance + amount < 0:
            return False
        self.ledger.append(number, amount)
        self.entries.add((number, amount))
        self.balance += amount
        return True


class Bank(weft.actor.Actor):
    """Starts the accounts, and freezes those that fail for good."""

    def __init__(self, ledgers, faults):
        self.ledgers, self.faults, self.frozen = ledgers, faults, {}

    def on_start(self):
        self.accounts = [self.start_child(Account, self.ledgers[SUSPENSE])]
        self.accounts += [self.start_child(Account, ledger, self.faults) for ledger in self.ledgers[1:]]

    def on_child_failure(self, account, error):
        self.frozen[self.accounts.index(account)] = error

    def audit(self, care=0.0):
        """What all accounts hold; those that are frozen by their ledgers."""
        total = 0
        for account, ledger in zip(self.accounts, self.ledgers):
            weft.sleep(care)
            try:
                total += account.proxy().balance.get()
            except weft.actor.ActorDeadError:
                account.actor_stopped.wait()  # by then it has told why
                total += ledger.balance()
        return total


class Order(NamedTuple):
    number: int
    source: int
    target: int
    amount: int


class Teller(weft.actor.Actor):
    mailbox_size = 16

    def __init__(self, accounts, ledgers):
        self.accounts, self.ledgers, self.again = accounts, ledgers, 0

    def on_receive(self, order):
        """Carry out the order, or undo what was done of it; return what became of it."""
        if not self.post(order.source, order.number, -order.amount):
            return "refused"
        for account, outcome in ((order.target, "done"), (order.source, "returned"), (SUSPENSE, "suspended")):
            if self.post(account, order.number, order.amount):
                return outcome
        return "lost"

    def post(self, account, number, amount):
        """Return whether it is booked. That an entry comes twice does no harm, so it is sent until it is answered."""
        while True:
            entry = Entry(number, amount, weft.actor.ThreadingFuture())
            try:
                self.accounts[account].tell(entry)
                return entry.booked.get(timeout=PATIENCE)
            except weft.actor.Timeout:
                self.again += 1
            except weft.actor.ActorDeadError:  # frozen; it may have come to the entry before
                return (number, amount) in self.ledgers[account].read(leniently=True)


class DeadLetterOffice:
    """Returns entries to their senders."""

    letters = 0

    def __call__(self, letter):
        self.letters += 1
        error = weft.actor.ActorDeadError(letter.reason)
        letter.message.booked.set_exception((type(error), error, None))


def orders(first, options, chance):
    for number in range(first, first + options.transfers):
        source, target = chance.sample(range(1, options.accounts + 1), 2)
        yield Order(number, source, target, chance.randint(1, 200))


def run(options, folder):
    """Return whether all the money is there."""
    chance, office = random.Random(options.seed), DeadLetterOffice()
    weft.actor.set_dead_letter_handler(office)
    ledgers = [Ledger(folder / f"{number}.ledger", OPENING if number else 0) for number in range(options.accounts + 1)]
    first = 1 + max(number for ledger in ledgers for number, _ in ledger.read(leniently=True))
    bank = Bank.start(ledgers, Faults(options.faults, options.spoiled, options.transfers, chance))
    accounts = bank.proxy().accounts.get()
    tellers = weft.actor.start_pool(Teller, 4, accounts, ledgers, routing="least_waiting")
    try:
        answers = [tellers.ask(order, block=False) for order in orders(first, options, chance)]
        try:
            bank.proxy().audit.within(0.05)(care=1).get()
        except weft.actor.Timeout:
            print("a careful audit was given up after 0.05 s")
        outcomes = collections.Counter(weft.actor.get_all(answers))
        total, frozen = bank.proxy().audit().get(), bank.proxy().frozen.get()
        again = sum(weft.actor.get_all([each.proxy().again for each in weft.actor.pool_workers(tellers)]))
        counts = [weft.actor.statistics(account) for account in accounts]
    finally:
        tellers.stop()  # orders that were given are carried out
        bank.stop()
    print(f"{options.transfers} transfers:", *(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())))
    print(f"{sum(each.failed for each in counts)} faults in {sum(each.handled for each in counts)} messages: accounts "
          f"made anew {sum(each.restarted for each in counts)} times, {again} entries sent again")
    for number, error in sorted(frozen.items()):
        print(f"account {number} is frozen: {error}")
    print(f"{office.letters} dead letters")
    expected = OPENING * options.accounts
    print(f"{total} of {expected} are there")
    return total == expected


def main():
    parser = argparse.ArgumentParser(description="A bank made of actors, some of which fail.")
    parser.add_argument("--accounts", type=int, default=8, metavar="N", help="how many there are (default: 8)")
    parser.add_argument("--transfers", type=int, default=500, metavar="N", help="how many are ordered (default: 500)")
    parser.add_argument("--faults", type=int, default=10, metavar="N", help="how often an account fails (default: 10)")
    parser.add_argument("--spoiled", type=int, default=1, metavar="N", help="failures that spoil a ledger, too (default: 1)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of what happens by chance (default: 1)")
    parser.add_argument("--ledger", type=pathlib.Path, metavar="FOLDER", help="keep the ledgers there")
    options = parser.parse_args()
    if options.accounts < 2 or not 0 <= options.faults + options.spoiled <= options.transfers:
        parser.error("there must be two accounts, and no more faults than transfers")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.ledger or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if len(list(folder.glob("*.ledger"))) not in (0, options.accounts + 1):
            parser.error(f"{folder} has ledgers of another number of accounts")
        return 0 if run(options, folder) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
