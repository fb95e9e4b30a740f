"""Cases from the result files of load generators: one module a format, recognised by content."""

from tokensim.validation.imports.base import ResultFile, Run, read_run
from tokensim.validation.imports.write import write_case

__all__ = ["ResultFile", "Run", "read_run", "write_case"]
