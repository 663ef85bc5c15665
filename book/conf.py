"""Sphinx's configuration of the book. bookbuild/pages.py assembles the sources and calls Sphinx with it."""

import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYPROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = "Variational autoencoders: a book that runs"
author = "The authors of the VAE book"
project_copyright = "the authors. Text and figures: CC BY 4.0; code: MIT"
release = version = PYPROJECT["version"]
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
    "bookbuild.extensions.chapters",
    "bookbuild.extensions.citations",
    "bookbuild.extensions.katex_math",
    "bookbuild.extensions.live_figures",
    "bookbuild.extensions.signatures",
]
templates_path = ["_templates"]
exclude_patterns = ["book/assignments", "notebooks/assignments", "**/.ipynb_checkpoints"]
suppress_warnings = []
nitpicky = False  # docstrings name types of torch and NumPy, whose inventories would need the network

# The text: stored outputs only.
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # no script from another host
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3
myst_dmath_double_inline = False
myst_links_external_new_tab = False

# Numbers: figure 7.2, equation (7.3); bookbuild/extensions/chapters.py takes the first part from the file's name.
numfig = True
numfig_format = {"figure": "Figure %s", "table": "Table %s", "code-block": "Listing %s", "section": "Section %s"}
numfig_secnum_depth = 1
math_numfig = True
math_eqref_format = "({number})"

bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year_round"
bibtex_default_style = "plain"

# The API, from the docstrings.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Attributes", "params_style"), ("Shapes", "returns_style"), ("Source", "returns_style")]
default_role = "literal"
python_maximum_signature_line_length = 88
add_module_names = False

copybutton_exclude = ".linenos, .gp, .go"

html_theme = "sphinx_book_theme"
html_title = "Variational autoencoders"
html_static_path = ["_static"]
html_css_files = ["katex/katex.min.css", "custom.css"]
html_js_files = ["from_disk.js", "formulas.js"]
html_logo = "_static/mark.svg"
html_favicon = "_static/mark.svg"
html_math_renderer = "katex"
html_show_sourcelink = True
html_copy_source = True
html_sourcelink_suffix = ""
html_use_index = False  # the API page and the search hold the names
html_context = {"default_mode": "auto"}  # dark where the reader's system is
html_theme_options = {
    "repository_url": PYPROJECT["urls"]["Repository"],
    "repository_branch": "main",
    "path_to_docs": "",  # the assembled sources lie as they do in the repository
    "use_repository_button": True,
    "use_issues_button": True,
    "use_download_button": True,
    "use_fullscreen_button": False,
    "launch_buttons": {
        "colab_url": "https://colab.research.google.com",
        "binderhub_url": "https://mybinder.org",
        "notebook_interface": "jupyterlab",
    },
    "home_page_in_toc": False,
    "navbar_persistent": [],
    "footer_content_items": ["copyright.html"],
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "logo": {"text": html_title, "alt_text": "Front page"},
}
