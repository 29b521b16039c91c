"""The course as a site: pages for a browser, made of the published notebooks without running them.

    mathjax        the one file that typesets formulas offline
    public_api     the library's public names, one page a package
    glossary       terms in English and Chinese, and where the course uses them
    symbols        the symbols of the formulas, and their lines of code
    repository     links to files of the repository, which lead somewhere in the site
    sources        everything above as a folder that Sphinx reads
    build_site     `anytext course site`: Sphinx from that folder to build/site
    appearance     what Sphinx is told while it works: words beside figures, docstrings as they are written here
"""
