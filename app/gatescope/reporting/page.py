"""A `Report` as one HTML page that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from gatescope.reporting import sentences
from gatescope.reporting.drawing import drawing
from gatescope.reporting.finding import LEVEL, Place
from gatescope.reporting.report import Report
from gatescope.reporting.strips import Strip
from gatescope.reporting.style import STYLE
from gatescope.reporting.trials import Trial

_MEASURES = {
    "rmse": "root mean square error",
    "mae": "mean absolute error",
    "bias": "bias",
    "nse": "NSE",
    "kge": "KGE",
    "accuracy": "accuracy",
    "majority": "accuracy of the most frequent label",
    "macro_f1": "macro F1",
    "log_loss": "log loss",
    "baseline_log_loss": "log loss of the labels' frequencies",
    "recall": "recall",
    "precision": "precision",
    "f1": "F1",
    "share": "share of all",
}


def page(report: Report) -> str:
    """The whole page."""
    body = "\n".join(
        (
            _head(report),
            _quality(report),
            *(_unit(report, place) for place in report.strips),
            _looked_for(report),
            _notes(report.about.notes),
            _FOOT,
        )
    )
    title = escape(report.about.title)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _head(report: Report) -> str:
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in report.about.facts.items())
    found = report.found
    items = "".join(f"<li>{escape(each)}</li>" for each in report.sentences)
    heading = "What stands out" if found else "Nothing stands out"
    return (
        f"<header><h1>{escape(report.about.title)}</h1><dl>{facts}</dl></header>\n"
        f'<section class="summary"><h2>{heading}</h2><ul>{items}</ul></section>'
    )


def _quality(report: Report) -> str:
    if not report.how_well:
        return ""
    told = "".join(f"<p>{escape(each)}</p>" for each in report.how_well)
    tables = _measures("output", report.about.quality) + _measures("label", report.about.by_label)
    return f"<section><h2>How well it predicts</h2>{told}{tables}</section>"


def _measures(what: str, quality: Mapping[str, Mapping[str, float | None]]) -> str:
    if not quality:
        return ""
    names = [name for name in _MEASURES if any(of.get(name) is not None for of in quality.values())]
    rows = [[escape(output), *(_number(of.get(name)) for name in names)] for output, of in quality.items()]
    return _table([what, *(_MEASURES[name] for name in names)], rows)


def _number(value: float | None) -> str:
    return "–" if value is None else sentences.number(value)


def _unit(report: Report, place: Place) -> str:
    name = sentences.unit(place, is_lone=report.is_lone)
    told = "".join(
        f'<p>{escape(sentences.sentence(each, is_lone=report.is_lone))} <span class="sure">'
        f"{escape(sentences.certainty(each))}</span></p>"
        for each in report.found
        if each.place == place
    )
    strip = report.strips[place]
    return (
        f'<section class="unit"><h2>{escape(name[:1].upper() + name[1:])}</h2>{told}'
        f"{drawing(strip, name, _where(report, strip))}{_strongest(report, strip)}"
        f"<h3>The test: editing {escape(name)}</h3><p>{escape(report.test_of(place))}</p>"
        f"{_trials(report.trials[place])}</section>"
    )


def _where(report: Report, strip: Strip) -> str:
    ids = report.about.ids
    name = f"sequence {strip.sequence}" if ids is None else ids[strip.sequence]
    last = strip.start + len(next(iter(strip.signals.values()))) - 1
    return f"{name}, steps {strip.start:,} to {last:,}"


def _strongest(report: Report, strip: Strip) -> str:
    ids = report.about.ids
    rows = [
        [
            sentences.number(each.value),
            escape(str(each.sequence) if ids is None else ids[each.sequence]),
            f"{each.time_step:,}",
            f"<code>{escape(each.label)}</code>" if each.label else "–",
        ]
        for each in sorted(strip.strongest, key=lambda each: -each.value)
    ]
    title = f"Where its {sentences.words(strip.state)} is highest and lowest"
    return f"<h3>{escape(title)}</h3>" + _table(
        [sentences.words(strip.state), "sequence", "step", "what stands there"], rows
    )


def _trials(trials: Sequence[Trial]) -> str:
    if not trials:
        return ""
    has_labels = any(trial.changed is not None for trial in trials)
    has_errors = any(trial.error is not None for trial in trials)
    headings = ["edit, at every step", "change of the prediction", "other units (median)", "more than"]
    headings += ["labels changed", "other units"] if has_labels else []
    headings += ["error before", "error after"] if has_errors else []
    rows = []
    for trial in trials:
        row = [
            escape(sentences.edit(trial)),
            sentences.number(trial.effect),
            "–" if trial.usual is None else sentences.number(trial.usual),
            "–" if trial.percentile is None else f"{trial.percentile:.0f} % of {trial.units}",
        ]
        if has_labels:
            row += ["–" if each is None else sentences.share(each) for each in (trial.changed, trial.usual_changed)]
        if has_errors:
            row += ["–", "–"] if trial.error is None else [sentences.number(each) for each in trial.error]
        rows.append(row)
    return _table(headings, rows)


def _looked_for(report: Report) -> str:
    rows = []
    for family in report.families:
        first = family.findings[0] if family.findings else None
        said = sentences.nothing(family) if first is None else sentences.sentence(first, is_lone=report.is_lone)
        note = f" {family.note}" if first is not None and family.note else ""
        mark = "yes" if first is not None and first.stands_out else "no"
        rows.append([escape(sentences.question(family)), mark, escape(said + note)])
    return (
        "<section><h2>What was looked for</h2>"
        + _table(["question", "", "answer"], rows)
        + f"<p>All of it is at one level: of 100 networks in which there is nothing, about {100 * LEVEL:g} is said to "
        "have anything.</p></section>"
    )


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    return "<section><h2>Notes</h2><ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul></section>"


def _table(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML."""
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    body = "".join(
        "<tr>"
        + "".join(f"<th scope=row>{cell}</th>" if not index else f"<td>{cell}</td>" for index, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


_FOOT = (
    "<footer><p>A change of the prediction is its root mean square over all steps, in units of the deviation that the "
    "prediction has. Correlation alone shows no use: what an edit does, beside the same edit of random units, does.</p>"
    "</footer>"
)
