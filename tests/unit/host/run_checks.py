"""Runs the tests of host/ inside this interpreter: run_checks.py LIBRARY [GoogleTest option]..."""

import ctypes
import sys


def main(arguments):
    library = ctypes.CDLL(arguments[0])  # ctypes drops the GIL for the call
    words = [b"run_checks.py", *(word.encode() for word in arguments[1:])]
    argv = (ctypes.c_char_p * (len(words) + 1))(*words, None)
    return library.weft_host_checks(len(words), argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
