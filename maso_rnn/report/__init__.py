"""Reports: sections that open up a trained network, written as one page with its pictures and numbers.

`Section` and `Picture` are what a report is made of, `write` makes the page. The sections of the spline view:
`templates`, `initial_slope_over_training`. All sections for one network of one's own: `inspect`.
"""

from maso_rnn.report.document import Picture, Section, refuse_foreign, write
from maso_rnn.report.inspection import inspect
from maso_rnn.report.templates import initial_slope_over_training, templates

__all__ = ["Picture", "Section", "initial_slope_over_training", "inspect", "refuse_foreign", "templates", "write"]
