"""Where pages are that the build makes."""

from pathlib import Path


def write(app, texts):
    """Put pages, {file name: text}, into reference/; what is there already keeps its date."""
    folder = Path(app.srcdir, "reference")
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
