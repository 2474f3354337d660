"""Rich representations: what an object has of them is left in /out, so that it comes back to whoever runs the script."""

import base64
import json

# By MIME type: the method that makes it, the ending of its file, and whether bytes may come as base64.
_FORMS = (
    ("image/svg+xml", "_repr_svg_", "svg", False),
    ("image/png", "_repr_png_", "png", True),
    ("image/jpeg", "_repr_jpeg_", "jpg", True),
    ("text/html", "_repr_html_", "html", False),
    ("text/markdown", "_repr_markdown_", "md", False),
    ("text/latex", "_repr_latex_", "tex", False),
    ("application/json", "_repr_json_", "json", False),
    ("application/pdf", "_repr_pdf_", "pdf", True),
)

_count = 0


def _bundle(thing):
    """(MIME type, ending, bytes) of each representation the object has of itself."""
    kind = type(thing)
    if isinstance(thing, type):
        return
    given = {}
    if callable(getattr(kind, "_repr_mimebundle_", None)):
        given = thing._repr_mimebundle_() or {}
        if isinstance(given, tuple):
            given = given[0]
    for mime, method, ending, binary in _FORMS:
        data = given.get(mime)
        if data is None and callable(getattr(kind, method, None)):
            data = getattr(thing, method)()
        if isinstance(data, tuple):  # data and metadata
            data = data[0]
        if data is None:
            continue
        if mime == "application/json" and not isinstance(data, str):
            data = json.dumps(data)
        if isinstance(data, str):
            data = base64.b64decode(data) if binary else data.encode()
        yield mime, ending, bytes(data)


def leave(thing, name):
    """Writes the object's representations to /out as `name`.ENDING; returns their paths."""
    paths = []
    for _, ending, data in _bundle(thing):
        path = f"/out/{name}.{ending}"
        with open(path, "wb") as file:
            file.write(data)
        paths.append(path)
    return paths


def display(*things):
    """Leaves the rich representations of each object (`_repr_svg_`, `_repr_png_`, `_repr_html_`, ...) in /out, and prints what has none."""
    global _count
    for thing in things:
        _count += 1
        if not leave(thing, f"display-{_count}"):
            print(repr(thing))
