"""What of psutil psleak's tests ask for: which system this is. That weft.leaks needs no psutil is proven by its being empty
otherwise."""

POSIX = True
WINDOWS = False
NETBSD = False
