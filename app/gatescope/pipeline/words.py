"""English text -> words and marks, split the treebank's way: do|n't, it|'s, numbers, names and addresses whole.

The conventions are those of the English Web Treebank (https://universaldependencies.org/treebanks/en_ewt/), as far as
a regular expression can follow them. Its repeats are bounded where they could look back, so that no text takes long.
"""

from __future__ import annotations

import re

_WORD = re.compile(
    r"""
    (?:https?://|www\.)\S*[\w/]                                        # addresses, without a closing mark
  | [\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}
  | \w[\w-]{0,63}(?:\.[\w-]{1,63}){0,5}\.(?:com|org|net|edu|gov|co\.uk|doc|xls|pdf|txt|html?|jpe?g|png|mp3)\b
  | [:;=]['’]?-?[)(\]\[DPp](?!\w) | <3 | \^_*\^                           # emoticons
  | (?:\d{1,3}-)?(?:\d{3}-)?\d{3}-\d{4}\b | \d{1,4}-\d{1,2}-\d{1,4}\b    # telephone numbers, dates
  | ['’]\d{2}s?\b                                                      # '90s
  | \d+(?:[.,:/]\d+)*(?:(?i:st|nd|rd|th|s|['’]s)\b                     # 1990s, 9:30, 10,000, 1/2; 5pm -> 5 pm
      | (?!(?i:[ap]m|[kmx]|bn|mln|ft|in|lbs?|oz|[gmk]b|[cmk]m|k?g|mph|hrs?|mins?|secs?|yrs?)\b)[^\W\d_]\w*)?
  | (?i:(?:[^\W\d_]\.){2,}(?:[^\W\d_]\b)?|[ap]\.m\b)                   # U.S., e.g., a.m.
  | (?i:Drs?|Mrs?|Ms|Sra?|Jr|St|Mt|Ft|Prof|Gen|Gov|Sens?|Reps?|Rev|Lt|Col|Sgt|Capt|Inc|Corp|Ltd|Co|Bros|vs|Attn
      |Jan|Feb|Aug|Sept?|Oct|Nov|Dec|Tues?|Thurs?|approx|dept|est|Ave|Blvd)\.(?!\w)
  | (?i:No|pp?|Fig|Vol)\.(?=\s?\d) | etc\.(?=\s?[a-z,;:)])
  | (?!I)[A-Z]\.(?=\s?[A-Z][a-z])                                      # an initial before a name
  | (?i:can(?=not\b)|(?:gon|wan)(?=na\b)|got(?=ta\b)|(?:gim|lem)(?=me\b)|['’]t(?=is\b|was\b))
  | (?i:(?:do|does|did|is|are|was|were|wo|ca|could|would|should|have|has|had|ai)(?=nt\b))
  | [^\W\d_]+?(?=(?i:n['’]t)\b) | (?i:n['’]t)\b                         # do|n't
  | (?<=\w)(?i:['’](?:s|m|d|re|ve|ll))\b | (?i:['’](?:em|cause|til))\b   # it|'s, 'em
  | (?i:w/o(?:ut)?\b|w/) | [A-Z]{1,3}&[A-Z]{1,3}\b
  | (?i:(?:e|non|anti|pre|post|re|mid|over|co|pro|multi|semi|ex|sub|neo|counter|un|intra|micro)-)
      [^\W_][\w]*                                                     # these prefixes keep their hyphen: e-mail
  | [^\W\d_]\w*(?:['’](?!(?i:s|m|d|t|re|ve|ll)\b)[^\W\d_]\w*)*           # words; O'Connor, o'clock
  | [.!?]{2,} | -{2,} | \*+ | _+ | =+ | ~+ | \++ | <<+ | >>+ | '' | ’’ | ``   # runs of marks
  | \w+ | \S
    """,
    re.VERBOSE,
)


def split(text: str) -> list[str]:
    """The words and marks of a text, in order; white space is dropped."""
    return _WORD.findall(text)
