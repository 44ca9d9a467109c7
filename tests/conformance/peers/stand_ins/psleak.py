"""What `import psleak` finds: weft.leaks."""

import sys

import weft.heap
import weft.leaks

weft.leaks.psutil = weft.heap  # its tests take heap_info() away from there
sys.modules[__name__] = weft.leaks
