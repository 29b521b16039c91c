"""What the site asks of Sphinx while it works: words for every figure, and docstrings as this library writes them.

An extension of Sphinx (``setup``), and the settings that it runs with (``settings``).
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import re
from pathlib import Path
from typing import Any

from anytext_lib.publishing import notebooks
from anytext_lib.publishing.site import public_api

TITLE = "Teaching a diffusion model to write"
BACK = re.compile(r'(<a class="viewcode-back" href="[^"#]*#)([\w.]+)"')
STYLE = "course.css"
CSS = """\
:lang(zh) { font-family: "Noto Sans CJK SC", "Source Han Sans SC", "PingFang SC", "Microsoft YaHei",
    "WenQuanYi Micro Hei", sans-serif; }
.cell_output img, article img { background: #fff; border-radius: 4px; max-width: 100%; height: auto; }
.cell_output .output p { margin: .3rem 0 1rem; font-size: .92em; color: var(--color-foreground-secondary); }
.cell_input pre, .cell_output pre { overflow-x: auto; font-size: .78rem; }
mjx-container[display="true"] { overflow-x: auto; overflow-y: hidden; padding: .2rem 0; max-width: 100%; }
code { overflow-wrap: anywhere; }
code.download { font: inherit; background: none; border: none; padding: 0; }
.sig, h1 { overflow-wrap: anywhere; }
table.docutils td { vertical-align: top; }
table.docutils code.download { overflow-wrap: normal; }
.stacked td:last-child:has(code:not(.download)) { min-width: 15em; }
article dl.myst dt { font-weight: bold; margin-top: 1rem; }
article dl.myst dd p { margin: .2rem 0; }
@media (min-width: 82em) { .content { width: 50em; } }
@media (max-width: 46em) {
    h1 { font-size: 1.9em; }
    .stacked thead { display: none; }
    .stacked table, .stacked tbody, .stacked tr, .stacked td { display: block; width: auto; border: none !important; }
    .stacked tr { padding: .6rem 0; border-bottom: 1px solid var(--color-background-border) !important; }
    .stacked td { padding: .1rem .4rem; }
    .stacked td:first-child { font-weight: bold; }
}
"""


def settings(static: Path, mathjax: str) -> dict[str, Any]:
    """Sphinx's configuration; ``static`` is the folder with the style sheet and MathJax's file ``mathjax``."""
    return {
        "project": TITLE, "html_title": TITLE, "language": "en", "html_theme": "furo",
        "extensions": ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode",
                       "sphinx.ext.mathjax", "sphinx_copybutton", __name__],
        "exclude_patterns": ["notebooks/exercises"],
        "nb_execution_mode": "off", "nb_merge_streams": True, "nb_code_prompt_show": "Show the solution",
        "nb_code_prompt_hide": "Hide the solution",
        "myst_enable_extensions": ["dollarmath", "colon_fence", "deflist"], "myst_heading_anchors": 4,
        "myst_dmath_double_inline": True, "myst_links_external_new_tab": False,
        "html_static_path": [str(static)], "html_css_files": [STYLE], "mathjax_path": mathjax,
        "mathjax3_config": {"svg": {"fontCache": "global"}, "options": {"enableMenu": False}},
        "html_copy_source": False, "html_show_copyright": False, "html_show_sphinx": False,
        "html_show_search_summary": False,  # it would fetch pages, which browsers refuse for files
        "html_theme_options": {"navigation_with_keys": True},
        "default_role": "code", "autodoc_member_order": "bysource", "autodoc_typehints_format": "short",
        "autodoc_default_options": {"members": True}, "autodoc_preserve_defaults": True,
        "python_maximum_signature_line_length": 90, "add_module_names": False, "viewcode_line_numbers": True,
        "python_use_unqualified_type_names": True, "napoleon_use_rtype": False, "napoleon_use_ivar": True,
        "toc_object_entries": False, "copybutton_selector": "div:not(.output) > div.highlight pre",
        "suppress_warnings": ["config.cache", "mystnb.unknown_mime_type"], "pygments_style": "default",
        "autodoc_inherit_docstrings": False,
    }


def setup(app) -> dict[str, bool]:
    """Join Sphinx."""
    app.connect("autodoc-process-docstring", _mark_code_blocks, priority=100)
    app.connect("autodoc-skip-member", _skip_silent_fields)
    app.connect("doctree-read", _give_words)
    app.connect("html-page-context", _lead_back)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _mark_code_blocks(app, what, name, object_, options, lines: list[str]) -> None:
    lines[:] = with_code_blocks(lines)
    if what == "data" and inspect.getdoc(type(object_)) == inspect.cleandoc("\n".join(lines)):
        lines.clear()  # no words of its own: those of its type say nothing


def _skip_silent_fields(app, what, name, object_, skip, options) -> bool | None:
    """Leave out fields of named tuples, which Python gives words that say nothing; the class tells of them."""
    return True if (inspect.getdoc(object_) or "").startswith("Alias for field number") else None


def with_code_blocks(lines: list[str]) -> list[str]:
    """The lines of a docstring with `::` above each block that is indented after an empty line, for reST.

    The docstrings of the library show code and tables by indentation alone. Directives and sections, whose indented
    lines follow without an empty line or after `.. name::`, stay.
    """
    found: list[str] = []
    above = ""  # the last line that was not empty
    inside: int | None = None  # indentation of the line above the block that is being passed
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if inside is not None and line.strip() and indent <= inside:
            inside = None
        starts = (inside is None and line.strip() and number and not lines[number - 1].strip() and above
                  and indent >= len(above) - len(above.lstrip()) + 2)
        if starts:
            inside = len(above) - len(above.lstrip())
            if not re.match(r"\s*(\.\.|[-*] |\d+\. )", above) and not above.rstrip().endswith("::"):
                found += [" " * inside + "::", ""]
        found.append(line)
        if line.strip() and inside is None:
            above = line
    return found


def figure_words(notebook) -> dict[str, str]:
    """Alternative texts of a notebook's figures, by the SHA-256 of their bytes."""
    found = {}
    for cell in notebooks.code_cells(notebook):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                picture = base64.b64decode(output.data["image/png"])
                words = output.metadata.get("image/png", {}).get("alt", "")
                found[hashlib.sha256(picture).hexdigest()] = words
    return found


def _give_words(app, doctree) -> None:
    """Give the images of a notebook's page their alternative texts: myst-nb names the files by their hashes."""
    source = Path(app.env.doc2path(app.env.current_document.docname))
    if source.suffix != ".ipynb":
        return
    words = figure_words(notebooks.read(source))
    for image in doctree.findall(lambda node: node.tagname == "image"):
        image["alt"] = words.get(Path(image["uri"]).stem, image.get("alt", ""))


def _lead_back(app, page, template, context, doctree) -> None:
    """Lead from a page of source to the reference, where objects stand under their public names."""
    if page.startswith("_modules/") and "body" in context:
        context["body"] = BACK.sub(lambda link: f'{link[1]}{public_name(link[2])}"', context["body"])


def public_name(name: str) -> str:
    """The name under which the reference has an object, or a part of one, that is written at ``name``."""
    parts, known = name.split("."), public_api.names()
    for end in range(len(parts), 0, -1):
        if (start := ".".join(parts[:end])) in known:
            return ".".join([known[start], *parts[end:]])
    return name
