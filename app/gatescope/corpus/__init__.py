"""Questions about many traced sequences at once: where a pattern comes again, and what drives a unit."""

from gatescope.corpus.index import Index, build
from gatescope.corpus.responses import Responses, responses_of
from gatescope.corpus.search import Found, Place, pattern_units, search

__all__ = ["Found", "Index", "Place", "Responses", "build", "pattern_units", "responses_of", "search"]
