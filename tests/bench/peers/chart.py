"""A bar chart in SVG."""

from xml.sax.saxutils import escape

ROW, GAP, LEFT, WIDTH, RIGHT = 13, 22, 190, 420, 60
OWN, OTHER = "#1f6feb", "#9aa4af"


def render(title, groups):
    """groups: [(name, [(label, value, whether it is ours)])]. Each group has a
    scale of its own."""
    body, y = [], 40
    for name, bars in groups:
        body.append(text(8, y, name, "bold"))
        y += 6
        largest = max(value for _, value, _ in bars)
        for label, value, own in bars:
            width = WIDTH * value / largest
            body.append(text(LEFT - 6, y + 10, label, anchor="end"))
            body.append(
                f'<rect x="{LEFT}" y="{y + 1}" width="{width:.1f}" '
                f'height="{ROW - 2}" fill="{OWN if own else OTHER}"/>')
            body.append(text(LEFT + width + 4, y + 10, f"{value:.0f}"))
            y += ROW
        y += GAP
    total = LEFT + WIDTH + RIGHT
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" '
            f'height="{y}" viewBox="0 0 {total} {y}" '
            'font-family="sans-serif" font-size="10">\n'
            f'<rect width="{total}" height="{y}" fill="#ffffff"/>\n'
            + text(8, 18, title, "bold", size=13) + "\n"
            + "\n".join(body) + "\n</svg>\n")


def text(x, y, words, weight="normal", anchor="start", size=10):
    return (f'<text x="{x:.1f}" y="{y}" font-size="{size}" '
            f'font-weight="{weight}" text-anchor="{anchor}" fill="#24292f">'
            f'{escape(words)}</text>')
