"""An extension of Mopidy, as its users write them: a frontend that says what has been played."""

import os
import threading

import pykka
from mopidy import core, ext


class Scrobbler(pykka.ThreadingActor, core.CoreListener):
    def __init__(self, config, core):
        super().__init__()
        self.core = core

    def on_start(self):
        native = os.path.isdir(f"/proc/self/task/{threading.get_native_id()}")
        print("frontend of", pykka.__name__, "on", "an OS thread" if native else "a fiber", flush=True)

    def track_playback_started(self, tl_track):
        print("started", tl_track.track.name, flush=True)

    def track_playback_ended(self, tl_track, time_position):
        heard = self.core.playback.get_current_tl_track().map(lambda current: current and current.track.name)
        print("ended", tl_track.track.name, "then", heard.get(timeout=20), flush=True)

    def on_stop(self):
        print("frontend stopped", flush=True)


class Extension(ext.Extension):
    dist_name = "mopidy-scrobbler"
    ext_name = "scrobbler"
    version = "1"

    def get_default_config(self):
        return "[scrobbler]\nenabled = true\n"

    def get_config_schema(self):
        return super().get_config_schema()  # abstract in the base class, and all that is needed

    def setup(self, registry):
        registry.add("frontend", Scrobbler)
