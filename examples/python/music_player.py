#!/usr/bin/env python3
"""A music player in the shape of Mopidy's: library, output, core and frontends are actors; the output only takes time.

Shows proxies that reach into an actor, a trait mixed in beside Actor, events for whoever listens, futures and timers.

    python music_player.py
    python music_player.py --tracks 20 --length 0.05 --broken 7
"""

import argparse
import sys
import time
from typing import NamedTuple

import weft
import weft.actor


class PlayerError(Exception):
    """The player cannot do what it was asked to."""


class Track(NamedTuple):
    name: str
    length: float
    broken: bool


def broadcast(name, *arguments):
    weft.actor.ActorRegistry.broadcast((name, arguments), Listener)


class Listener:
    """A trait of actors: their methods are called for the events of the same name."""

    def on_start(self):
        pass  # here ends what an actor's hook and those of its traits call by super()

    def on_stop(self):
        pass

    def on_receive(self, event):
        name, arguments = event
        getattr(self, name, lambda *_: None)(*arguments)


class Scrobbler(Listener):
    """A trait: reports what was heard for at least half its length, some at a time."""

    def on_start(self):
        super().on_start()
        self.heard = []
        self.timer = self.actor_ref.tell_every(0.4, ("report", ()))

    def track_ended(self, track, position):
        if position >= track.length / 2:
            self.heard.append(track.name)

    def report(self):
        if self.heard:
            broadcast("note", "scrobbled", ", ".join(self.heard))
            self.heard = []

    def on_stop(self):
        self.timer.cancel()
        self.report()
        super().on_stop()


class LastFm(weft.actor.Actor, Scrobbler):
    pass


class Console(weft.actor.Actor, Listener):
    """Prints what happens; sends to the channel `over` when nothing is left to play."""

    def __init__(self, over):
        self.over = over

    def note(self, what, text):
        print(f"{what:>10}  {text}", flush=True)

    def track_started(self, track):
        self.note("playing", track.name)

    def track_ended(self, track, position):
        self.note("ended", f"{track.name} after {position:.2f} of {track.length:.2f} s")

    def tracklist_ended(self):
        self.over.try_send(None)


class Library(weft.actor.Actor):
    def __init__(self, tracks):
        self.tracks = tracks

    def lookup(self, uri):
        if uri not in self.tracks:
            raise PlayerError(f"there is no {uri}")
        return self.tracks[uri]


class Output(weft.actor.Actor):
    """Plays one stream for as long as it lasts, and says when it has ended."""

    stream = timer = None
    left = 0

    def play(self, track):
        if track.broken:
            raise PlayerError(f"{track.name} cannot be decoded")
        self.stop_playing()
        self.stream, self.left = object(), track.length
        self.resume()
        return self.stream

    def resume(self):
        if not self.timer:
            self.since = time.monotonic()
            self.timer = self.actor_ref.tell_after(self.left, self.stream)

    def stop_playing(self):
        """Return how many seconds were left."""
        if self.timer:
            self.timer.cancel()
            self.timer, self.left = None, max(self.left - (time.monotonic() - self.since), 0)
        return self.left

    def on_receive(self, stream):
        if self.timer and stream is self.stream:  # it may have been on its way when the stream was stopped
            self.timer, self.left = None, 0
            broadcast("stream_ended", stream)

    def on_stop(self):
        self.stop_playing()


@weft.actor.traversable
class Tracklist:
    def __init__(self, library):
        self._library = library
        self._tracks = []

    def add(self, uris):
        """All of them, or none if one is unknown. Return how many there are now."""
        self._tracks += weft.actor.get_all([self._library.lookup(uri) for uri in uris], timeout=10)
        return len(self._tracks)


@weft.actor.traversable
class Playback:
    def __init__(self, tracklist, output):
        self._tracks, self._output = tracklist._tracks, output
        self._number, self._stream = 0, None

    def play(self, number=0):
        self._end()
        for self._number in range(number, len(self._tracks)):
            track = self._tracks[self._number]
            try:
                self._stream = self._output.play(track).get()
            except PlayerError as error:
                broadcast("note", "failed", error)
            else:
                broadcast("track_started", track)
                return
        broadcast("tracklist_ended")

    def pause(self):
        track = self._current()
        position = track.length - self._output.stop_playing().get()
        broadcast("note", "paused", f"{track.name} after {position:.2f} s")

    def resume(self):
        broadcast("track_started", self._current())
        self._output.resume()

    def next(self):
        track = self._current()
        if track is self._tracks[-1]:
            raise PlayerError(f"nothing follows {track.name}")
        self.play(self._number + 1)

    def _current(self):
        if self._stream is None:
            raise PlayerError("nothing is playing")
        return self._tracks[self._number]

    def _end(self):
        if self._stream is not None:
            track, self._stream = self._current(), None
            broadcast("track_ended", track, track.length - self._output.stop_playing().get())

    def _stream_ended(self, stream):
        if stream is self._stream:
            self.play(self._number + 1)


class Core(weft.actor.Actor, Listener):
    def __init__(self, library, output):
        self.tracklist = Tracklist(library)
        self.playback = Playback(self.tracklist, output)

    def stream_ended(self, stream):
        self.playback._stream_ended(stream)


def attempt(future):
    try:
        future.get()
    except PlayerError as error:
        broadcast("note", "refused", error)


def listen(core, library, uris, over):
    """What somebody does who listens to music."""
    lengths = [library.lookup(uri).map(lambda track: track.length) for uri in uris]
    total = lengths[0].join(*lengths[1:]).map(sum)
    broadcast("note", "queued", f"{core.tracklist.add(uris).get()} tracks, {total.get():.2f} s")
    attempt(core.tracklist.add(["song:nowhere"]))
    for button in (core.playback.play, core.playback.pause, core.playback.resume, core.playback.next):
        attempt(button())
    over.receive()
    attempt(core.playback.play(len(uris) - 1))
    attempt(core.playback.next())


def main():
    parser = argparse.ArgumentParser(description="A music player made of actors, which plays silence.")
    parser.add_argument("--tracks", type=int, default=8, metavar="N", help="(default: 8)")
    parser.add_argument("--length", type=float, default=0.15, metavar="SECONDS", help="of each (default: 0.15)")
    parser.add_argument("--broken", type=int, default=3, metavar="N", help="this track cannot be played (default: 3)")
    options = parser.parse_args()
    if options.tracks < 1 or options.length < 0:
        parser.error("there must be a track, and it cannot be shorter than nothing")
    tracks = {f"song:{n}": Track(f"Song {n}", options.length, n == options.broken)
              for n in range(1, options.tracks + 1)}
    over = weft.Channel(1)
    try:
        Console.start(over)
        LastFm.start()
        library, output = Library.start(tracks).proxy(), Output.start().proxy()
        listen(Core.start(library, output).proxy(), library, list(tracks), over)
    finally:
        weft.actor.ActorRegistry.stop_all()  # the newest first: the console hears the others' last words
    print("stopped")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
