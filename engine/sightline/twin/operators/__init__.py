"""One file per family of operators, one function per operator; every file here is read by ``catalogue``."""
