// A library needs a source of its own; this one is made of the engine's objects.
