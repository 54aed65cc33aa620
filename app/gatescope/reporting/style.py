"""The style sheet of a report: light, dark, and on paper."""

STYLE = """
:root { --ground: #fbfbf9; --card: #fff; --ink: #1c1f23; --quiet: #5c6570; --line: #dfe2e5; --state: #0b5fa5;
  --gate: #7a5cae; --s0: #c2570c; --s1: #1b7f4c; --s2: #a8266b; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171a; --card: #1c2024; --ink: #e6e8ea; --quiet: #a2abb5;
  --line: #333a41; --state: #6fb3ee; --gate: #b9a3e6; --s0: #f2954e; --s1: #62c793; --s2: #ee82b5; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1rem 3rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.25rem; margin: 0 0 .6rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1.2rem 1.4rem;
  margin: 1.2rem 0; }
.summary { border-left: 5px solid var(--state); }
p { margin: .4rem 0; }
ul { margin: .2rem 0; padding-left: 1.2rem; }
li { margin: .35rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: 0; }
dt { color: var(--quiet); }
dd { margin: 0; overflow-wrap: anywhere; }
.sure, figcaption, footer { color: var(--quiet); font-size: .875rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line); }
thead th { color: var(--quiet); font-weight: 600; }
tbody th { font-weight: 400; }
code { white-space: pre-wrap; overflow-wrap: anywhere; }
figure { margin: 1rem 0 .4rem; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--quiet); font: 11px system-ui, sans-serif; }
svg .end { text-anchor: end; }
svg .tick { text-anchor: middle; }
.panel { fill: none; stroke: var(--line); }
.zero { stroke: var(--line); }
path { fill: none; stroke-width: 1.4; stroke-linejoin: round; }
path.state { stroke: var(--state); stroke-width: 1.8; }
path.gate { stroke: var(--gate); }
path.series { stroke-dasharray: 4 3; }
.s0 { stroke: var(--s0); } .s1 { stroke: var(--s1); } .s2 { stroke: var(--s2); }
.key { display: inline-block; width: 1.4em; height: 0; border-top: 2px dashed; vertical-align: middle; margin: 0 .3em; }
.k0 { border-color: var(--s0); } .k1 { border-color: var(--s1); } .k2 { border-color: var(--s2); }
@media print { body { background: #fff; font-size: 11pt; } section { break-inside: avoid; border-color: #bbb; }
  main { padding: 0; max-width: none; } }
"""
