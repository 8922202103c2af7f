"""Build the documentation as a website in _docs, without quarto and without a network.

nbdev processes each notebook as it does for quarto, and Material for MkDocs makes the pages in the order of nbs/sidebar.yml.
With `--check`, nbdev only processes each notebook: that needs no more than the development environment.
"""
import argparse, re, shutil, sys
from html import unescape
from pathlib import Path

from docs import nbs, root
from links import link_faults
from pages import Page, config, host, process, sections


def write_markdown(notebooks, folder):
    "The pages and all they need in `folder`; the navigation as MkDocs wants it"
    pages = {name: Page(name, nb) for name, nb in notebooks.items()}
    files = {p.path: p.markdown(pages).encode() for p in pages.values()}
    for p in pages.values(): files |= p.pictures
    shutil.rmtree(folder, ignore_errors=True)
    for path, content in files.items():
        (folder/path).parent.mkdir(parents=True, exist_ok=True)
        (folder/path).write_bytes(content)
    shutil.copytree(nbs/'images', folder/'images')
    shutil.copy(root/'tools'/'site.css', folder)
    nav = {section: [{pages[o].title: pages[o].path} for o in names if o in pages] for section, names in sections()}
    return [{section: entries} for section, entries in nav.items() if entries]


def on_page_content(html, **kwargs):
    "Called by MkDocs for each page: formulas as MathML, which browsers show without a script"
    from latex2mathml.converter import convert
    def formula(match): return convert(unescape(match['tex']), display='block' if match['open'] == '[' else 'inline')
    return re.sub(r'(?<=class="arithmatex">)\\(?P<open>[(\[])(?P<tex>.*?)\\[)\]]', formula, html, flags=re.S)


def build(notebooks, site):
    "The website of processed `notebooks` in the folder `site`"
    from mkdocs.commands.build import build as build_pages
    from mkdocs.config import load_config
    docs = root/'_proc'/'site'
    nav = write_markdown(notebooks, docs)
    build_pages(load_config(str(root/'tools'/'site.yml'), docs_dir=str(docs), site_dir=str(site), nav=nav, site_name=config.title,
                            site_url=host, site_description=config.description, copyright=config.copyright))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--check', action='store_true', help='write nothing, only let nbdev process each notebook')
    parser.add_argument('--out', type=Path, default=root/config.doc_path.name, help='folder of the site (default: %(default)s)')
    args = parser.parse_args()
    notebooks = process()
    if args.check: return
    build(notebooks, args.out.resolve())
    faults = link_faults(args.out)
    if faults: sys.exit('\n'.join(faults))
    print(f'The site is in {args.out}. To look at it: python -m http.server -d {args.out}')


if __name__ == '__main__': main()
