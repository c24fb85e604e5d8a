"""Pages that show a file of the repository, and links from pages to such files.

``repository_pages`` says which page shows which file. Its own text is what a reader of the
repository sees, a link to the file; on the site the file's text takes its place. A link that leads
to the file leads to that page. Links to all other files outside of the pages are downloads.
"""

import os
import re
from pathlib import Path

from sphinx import addnodes
from sphinx.transforms import SphinxTransform

LINK = re.compile(r"(\]\()(?![a-z]+:|#|/)([^)\s]+)")
FENCE = re.compile(r"^(```.*?^```$)", re.DOTALL | re.MULTILINE)


def setup(app):
    app.add_config_value("repository_pages", {}, "env")
    app.connect("source-read", _show)
    app.add_transform(LinksToFiles)
    return {"parallel_read_safe": True}


def _show(app, name, source):
    if name in app.config.repository_pages:
        path = _root(app.srcdir) / app.config.repository_pages[name]
        app.env.note_dependency(path)
        folder = os.path.relpath(path.parent, Path(app.srcdir, name).parent)
        source[0] = moved(path.read_text(encoding="utf-8"), folder)


def moved(text, folder):
    """Markdown whose relative links start at another place, from which its own lies in folder."""
    parts = FENCE.split(text)
    parts[::2] = [LINK.sub(lambda link: _at(link, folder), part) for part in parts[::2]]
    return "".join(parts)


def _at(link, folder):
    return link[1] + os.path.normpath(os.path.join(folder, link[2])).replace(os.sep, "/")


def _root(folder):
    return Path(folder).parent


class LinksToFiles(SphinxTransform):
    """A link to a file that a page shows becomes one to the page; to other Markdown, a download.

    MyST takes Markdown for a page wherever it is, and names it without its suffix.
    """

    default_priority = 5

    def apply(self, **kwargs):
        root, source = _root(self.env.srcdir), Path(self.env.srcdir)
        shown = {
            str((root / path).with_suffix("")): name
            for name, path in self.config.repository_pages.items()
        }
        for node in list(self.document.findall(addnodes.pending_xref)):
            target = node["reftarget"]
            if target in shown:
                node["reftarget"] = shown[target]
            elif (file := Path(f"{target}.md")).is_absolute() and file.is_file():
                path = os.path.relpath(file, (source / self.env.docname).parent)
                download = addnodes.download_reference(reftarget=path, refdoc=self.env.docname)
                download += node.children
                node.replace_self(download)
