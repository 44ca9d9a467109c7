"""What `import mirakuru` finds: weft.process."""

import sys

import weft.process

del sys.modules[__name__]
weft.process.install_as_mirakuru()
