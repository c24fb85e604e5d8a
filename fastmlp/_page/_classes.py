"""How good a network of classes, or of several labels a sample, is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ._html import figures, grid, paragraph, section, text
from ._numbers import Calibration, calibration, confusion, label_figures, worst_pairs
from ._pictures import data_uri
from ._subject import MOST_ROWS, Subject, percent
from ._svg import Axes, bars, chart, diagonal, figure

MOST_CLASSES, MOST_PAIRS, MOST_LABELS = 30, 20, 200
"""Of a matrix of confusions; of the list in its place; of a table of labels."""

_SHORT = 5
"""Characters of a name that is written across its column."""

_GUO = (
    "Guo, Pleiss, Sun and Weinberger, “On calibration of modern neural networks”, 2017, equation 3"
)


def of_classes(subject: Subject) -> Iterator[str]:
    """The sections of a network that says which class a sample has."""
    shares = subject.mlp.predict_proba(subject.x)
    labels = subject.targets
    labels = labels if labels.ndim == 1 else labels.argmax(axis=1)
    predicted = shares.argmax(axis=1)
    yield section("confusion", "Confusions", *_confusions(subject, labels, predicted))
    yield section("mistakes", "Worst mistakes", *_mistakes(subject, labels, predicted, shares))
    stated = calibration(shares.max(axis=1), predicted == labels)
    yield section("calibration", "Calibration", *_calibration(
        stated, "confidence", "the probability of the class that is predicted",
        "were predicted rightly",
    ))  # fmt: skip


def of_labels(subject: Subject) -> Iterator[str]:
    """The sections of a network that says of each label whether a sample has it."""
    shares = subject.mlp.predict_proba(subject.x)
    labels = np.rint(subject.targets.reshape(shares.shape)).astype(np.int64)
    found = label_figures(labels, (shares > 0.5).astype(np.int64))
    rows = [
        (name, *map(percent, row))
        for name, row in zip(subject.names, zip(*found, strict=True), strict=True)
    ]
    headings = ("label", "samples with it", "missed", "precision", "recall", "F1")
    shown = f"The first {MOST_LABELS} of {len(rows)}." if len(rows) > MOST_LABELS else ""
    yield section(
        "labels", "Labels",
        paragraph(
            "A label is predicted where its probability is above one half. Precision: of the "
            "samples it is predicted for, the share that have it; recall: of those that have it, "
            f"the share it is predicted for; F1: their harmonic mean. {shown}"
        ),
        figures(headings, rows[:MOST_LABELS]),
    )  # fmt: skip
    yield section("mistakes", "Worst mistakes", *_missed(subject, labels, shares))
    stated = calibration(shares.ravel(), labels.ravel() == 1)
    yield section("calibration", "Calibration", *_calibration(
        stated, "probability", "the probability of a label, over all labels", "were so",
    ))  # fmt: skip


def _confusions(subject: Subject, labels: np.ndarray, predicted: np.ndarray) -> Iterator[str]:
    classes = len(subject.names)
    if classes > MOST_CLASSES:
        names = subject.names
        yield paragraph(
            f"Of {classes:,} classes the pairs that are confused most often, at most {MOST_PAIRS}."
        )
        yield figures(
            ("true class", "predicted", "samples", "of the class"),
            [(names[t], names[p], n, percent(s)) for t, p, n, s in
             worst_pairs(labels, predicted, MOST_PAIRS)],
        )  # fmt: skip
        return
    yield paragraph(
        "Rows are true classes, columns what was predicted. Recall: the share of a class that was "
        "found; precision: the share of a prediction that was right. Blue is the share of its row; "
        "orange grows with the number of mistakes."
    )
    yield _matrix(confusion(labels, predicted, classes), subject.names)


def _matrix(counts: np.ndarray, names: tuple[str, ...]) -> str:
    """The table, with the share of each class and of each prediction that is right at its sides."""
    right, rows, columns = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    most_wrong = max(1, (counts - np.diag(right)).max())
    recall, precision = (
        np.divide(right, total, out=np.full(len(right), np.nan), where=total > 0)
        for total in (rows, columns)
    )
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in names)
    lines = [f'<tr><td></td>{head}<th scope="col">recall, %</th></tr>']
    for i, name in enumerate(names):
        cells = []
        for j, count in enumerate(counts[i].tolist()):
            if i == j:
                shade = f"var(--good) / {0.6 * np.nan_to_num(recall[i]):.2f}"
            else:
                shade = f"var(--bad) / {0.75 * count / most_wrong:.2f}"
            style = f' style="background:rgb({shade})"' if count else ""
            cells.append(f"<td{style}>{count or ''}</td>")
        lines.append(
            f'<tr><th scope="row">{text(name)}</th>{"".join(cells)}'
            f"<td>{_tenths(recall[i])}</td></tr>"
        )
    foot = "".join(f"<td>{_tenths(value)}</td>" for value in precision)
    lines.append(f'<tr><th scope="row">precision, %</th>{foot}<td></td></tr>')
    kind = "matrix long" if max(map(len, names)) > _SHORT else "matrix"
    return f'<div class="wide"><table class="{kind}">{"".join(lines)}</table></div>'


def _tenths(share: float) -> str:
    """Of a percent."""
    return f"{100 * share:.1f}" if np.isfinite(share) else "–"


def _mistakes(
    subject: Subject, labels: np.ndarray, predicted: np.ndarray, shares: np.ndarray
) -> Iterator[str]:
    """Those where the true class had the least probability."""
    wrong = np.flatnonzero(predicted != labels)
    if len(wrong) == 0:
        yield paragraph("There is none.")
        return
    true_share = shares[wrong, labels[wrong]]
    worst = wrong[np.argsort(true_share, kind="stable")[:MOST_ROWS]]
    yield paragraph(
        f"{len(wrong):,} of {len(labels):,} samples are predicted wrongly. These "
        f"{len(worst)} gave their true class the least probability."
        f"{subject.left_out() if subject.image_shape is None else ''}"
    )
    names = subject.names
    if subject.image_shape is not None:
        items = []
        for row in worst.tolist():
            truth, guess = names[labels[row]], names[predicted[row]]
            words = f"{truth} → {guess}, {percent(float(shares[row].max()))}"
            uri = data_uri(subject.x[row].reshape(subject.image_shape))
            items.append(
                f'<li><img src="{uri}" alt="{text(f"sample {row}, {truth}")}" title="sample {row}">'
                f"{text(words)}</li>"
            )
        yield paragraph("True class → prediction, and its probability.", "faint")
        yield f'<ul class="pictures">{"".join(items)}</ul>'
        return
    yield figures(
        ("sample", "true class", "prediction", "its probability", "the true one's",
         *subject.feature_headings()),
        [(row, names[labels[row]], names[predicted[row]], percent(float(shares[row].max())),
          percent(float(shares[row, labels[row]])), *subject.first_features(row))
         for row in worst.tolist()],
    )  # fmt: skip


def _missed(subject: Subject, labels: np.ndarray, shares: np.ndarray) -> Iterator[str]:
    """Single labels whose probability was farthest from what is so."""
    off = np.abs(labels - shares)
    wrong = np.flatnonzero(off.ravel() > 0.5)
    if len(wrong) == 0:
        yield paragraph("There is none.")
        return
    worst = wrong[np.argsort(-off.ravel()[wrong], kind="stable")[:MOST_ROWS]]
    yield paragraph(
        f"{len(wrong):,} of {labels.size:,} labels are missed; these {len(worst)} by the most."
        f"{subject.left_out()}"
    )
    places = [divmod(int(place), labels.shape[1]) for place in worst]
    yield figures(
        ("sample", "label", "is", "its probability", *subject.feature_headings()),
        [(row, subject.names[label], ("not there", "there")[labels[row, label]],
          percent(float(shares[row, label])), *subject.first_features(row))
         for row, label in places],
    )  # fmt: skip


def _calibration(found: Calibration, stated: str, means: str, so: str) -> Iterator[str]:
    """stated : what a probability is called, and what it means"""
    bins = len(found.counts)
    yield paragraph(
        f"Expected calibration error: {percent(found.error)}. It is the mean distance between "
        f"{means} and how often that is so, over {bins} bins of equal width, weighted by the "
        f"samples in each ({_GUO}). On the dotted line both are equal."
    )
    words = [
        f"{found.edges[i]:.3f} to {found.edges[i + 1]:.3f}: {found.counts[i]:,}, "
        f"stated {found.stated[i]:.4f}, found {found.found[i]:.4f}"
        for i in range(bins)
    ]
    edges, total = found.edges.tolist(), max(1, int(found.counts.sum()))
    share, count = Axes((0, 1), (0, 1)), Axes((0, 1), (0, 100))
    yield grid((
        figure(
            chart(share, f"Shares that {so}, by {stated}", stated, f"share that {so}",
                  [bars(share, edges, found.found, words, found.counts), diagonal(share)]),
            f"What was stated, and how often it was so, in {bins} bins: the fainter a bar, the "
            "fewer samples are in it.",
        ),
        figure(
            chart(count, f"How many have which {stated}", stated, "of all, %",
                  [bars(count, edges, 100 * found.counts / total, words)]),
            "How often what was stated.",
        ),
    ))  # fmt: skip
