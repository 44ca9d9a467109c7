#pragma once

// What a fixture library lets the tests call.
#define FIXTURE_EXPORT extern "C" __attribute__((visibility("default")))
