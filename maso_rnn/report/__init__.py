"""Reports: a network opened up, written as one page with a summary, its pictures and its numbers.

`inspect` measures a network of one's own and makes the sections; `write` makes the page of them. `Section` and
`Picture` are what a report is made of.
"""

from maso_rnn.report.document import Picture, Section, refuse_foreign, write
from maso_rnn.report.inspection import inspect

__all__ = ["Picture", "Section", "inspect", "refuse_foreign", "write"]
