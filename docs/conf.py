"""Sphinx: ``make docs`` builds the pages into build/docs, every warning an error."""

from __future__ import annotations

import sys
from pathlib import Path

# Imported before autodoc does, so that the core's own docstrings are read.
import wsmanager

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "wsmanager"
author = "the wsmanager developers"
version = release = wsmanager.__version__
language = "en"

extensions = ["sphinx.ext.autodoc", "stub_signatures"]
root_doc = "index"
exclude_patterns = ["_ext", "_static"]

default_role = "code"
highlight_language = "none"
pygments_style = "friendly"
pygments_dark_style = "github-dark"
smartquotes = False
maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}

html_theme = "furo"
html_title = f"wsmanager {release}"
html_static_path = ["_static"]
html_css_files = ["docs.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#2757d6",
        "color-brand-content": "#2757d6",
        "font-stack": "system-ui, sans-serif",
    },
    "dark_css_variables": {
        "color-brand-primary": "#7aa2ff",
        "color-brand-content": "#7aa2ff",
    },
}
