"""Charts as SVG text. Colours of text and lines come from the page's style sheet, so that they fit both of its modes."""

import html
import math

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 72, 196, 32, 56
BAR, GAP = 20, 8
LETTER = 7  # about as wide as one is


def _text(x, y, words, kind="", anchor="start"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">'
            f"{html.escape(str(words))}</text>")


def _line(x1, y1, x2, y2, kind):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _svg(width, height, title, parts):
    return (f'<svg viewBox="0 0 {width} {height:.0f}" role="img" aria-label="{html.escape(title)}">'
            + "".join(parts) + "</svg>")


def short(value):
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    if value >= 1e3:
        return f"{value:,.0f}"
    return f"{value:.3g}"


class Scale:
    """From values to pixels; logarithmic ones begin and end at whole decades, or at 2 or 5 of one if they are few."""

    def __init__(self, values, low, high, log=False):
        values = list(values)
        self.log, self.low, self.high = log, low, high
        if log:
            self.ticks = self._decades(min(values), max(values))
            self.min, self.max = math.log10(self.ticks[0]), math.log10(self.ticks[-1])
        else:
            self.ticks = self._steps(max(values))
            self.min, self.max = 0, self.ticks[-1]

    @staticmethod
    def _decades(smallest, largest):
        steps = [m * 10.0 ** e for e in range(-3, 12) for m in (1, 2, 5)]
        first = max(i for i, step in enumerate(steps) if step <= smallest * 1.0001)
        last = min(i for i, step in enumerate(steps) if step >= largest * .9999)
        ticks = steps[first:max(last, first + 1) + 1]
        if len(ticks) > 9:  # whole decades are enough
            ticks = [10.0 ** e for e in range(math.floor(math.log10(smallest * 1.0001)),
                                              math.ceil(math.log10(largest * .9999)) + 1)]
        return ticks

    @staticmethod
    def _steps(largest):
        raw = max(largest, 1e-9) / 5
        unit = 10 ** math.floor(math.log10(raw))
        step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= raw)
        return [step * i for i in range(math.ceil(largest / step - 1e-9) + 1)]

    def at(self, value):
        if self.log:
            value = math.log10(max(value, 10 ** self.min))
        return self.low + (value - self.min) / (self.max - self.min) * (self.high - self.low)


def _spread(places, distance=15):
    """Moves labels apart that would lie on each other; keeps their order."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    placed = list(places)
    for before, i in zip(order, order[1:]):
        placed[i] = max(placed[i], placed[before] + distance)
    over = placed[order[-1]] - (HEIGHT - BOTTOM) if order else 0
    for i in reversed(order):
        if over <= 0:
            break
        placed[i] -= over
    return placed


def lines(title, series, x_label, y_label, x_ticks, log_y=False):
    """
    `series`: (name, colour, dashed, [(x, y)]); `x_ticks`: (x, word) in order, an equal step apart on
    the paper if they are decades. Names stand at the ends of the lines.
    """
    series = [s for s in series if s[3]]
    if not series:
        return ""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    y = Scale([p[1] for s in series for p in s[3] if p[1] > 0 or not log_y], bottom, TOP, log_y)
    first, last = math.log10(x_ticks[0][0]), math.log10(x_ticks[-1][0])

    def across(value):
        return LEFT + (math.log10(value) - first) / (last - first) * (right - LEFT)

    parts = [_text(LEFT - 56, 14, y_label, "label")]
    for tick in y.ticks:
        parts += [_line(LEFT, y.at(tick), right, y.at(tick), "grid"),
                  _text(LEFT - 8, y.at(tick) + 4, short(tick), "tick", "end")]
    for value, word in x_ticks:
        parts.append(_text(across(value), bottom + 20, word, "tick", "middle"))
    parts += [_line(LEFT, bottom, right, bottom, "axis"),
              _text((LEFT + right) / 2, HEIGHT - 12, x_label, "label", "middle")]
    ends = _spread([y.at(s[3][-1][1]) for s in series])
    for (name, colour, dashed, points), end in zip(series, ends):
        path = " ".join(f"{across(px):.1f},{y.at(py):.1f}" for px, py in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" '
                     f'stroke-width="2"{dash}/>')
        for px, py in points:
            tip = f"<title>{html.escape(name)}: {short(py)}</title>"
            parts.append(f'<circle cx="{across(px):.1f}" cy="{y.at(py):.1f}" r="3" '
                         f'fill="{colour}">{tip}</circle>')
        parts += [f'<rect x="{right + 8}" y="{end - 5:.1f}" width="10" height="10" fill="{colour}"/>',
                  _text(right + 23, end + 4, name, "name")]
    return _svg(WIDTH, HEIGHT, title, parts)


def bars(title, items, x_label, log=False):
    """
    `items`: (name, [(colour, value)], note, aim or None); several values are stacked. A name of None
    is a heading: its note.
    """
    if not any(item[1] for item in items):
        return ""
    left, right = max(236, 16 + LETTER * max(len(name or note) for name, _, note, _ in items)), WIDTH - 96
    totals = [sum(v for _, v in parts) for _, parts, _, _ in items if parts]
    aims = [aim for _, _, _, aim in items if aim]
    x = Scale([*totals, *aims] + ([1] if log else []), left, right, log)
    height = TOP + len(items) * (BAR + GAP) + BOTTOM - 8
    bottom = height - BOTTOM + 8
    out = []
    for tick in x.ticks:
        out += [_line(x.at(tick), TOP - 8, x.at(tick), bottom, "grid"),
                _text(x.at(tick), bottom + 18, short(tick), "tick", "middle")]
    for i, (name, parts, note, aim) in enumerate(items):
        top = TOP + i * (BAR + GAP)
        if name is None:
            out.append(_text(left - 8, top + 15, note, "group", "end"))
            continue
        out.append(_text(left - 8, top + 15, name, "name", "end"))
        begin = 10 ** x.min if log else 0
        edge, total = x.at(begin), 0
        for colour, value in parts:
            total += value
            end = x.at(total)
            out.append(f'<rect x="{edge:.1f}" y="{top}" width="{max(end - edge, 1):.1f}" '
                       f'height="{BAR}" fill="{colour}"/>')
            edge = end
        if aim:
            out.append(_line(x.at(aim), top - 3, x.at(aim), top + BAR + 3, "aim"))
        in_the_way = aim and aim > total and x.at(aim) - edge < 12 + LETTER * len(note)
        clear = x.at(aim) if in_the_way else edge
        out.append(_text(clear + 6, top + 15, note, "value"))
    out += [_line(left, TOP - 8, left, bottom, "axis"),
            _text((left + right) / 2, height - 6, x_label, "label", "middle")]
    return _svg(WIDTH, height, title, out)
