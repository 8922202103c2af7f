"The website: links, formulas and symbols; in a browser where there is one"
import functools, http.server, importlib.util, shutil, sys, threading
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

tools = Path(__file__).resolve().parents[1]/'tools'
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')


@pytest.fixture(scope='module')
def site():
    "tools/site.py as a module; Python has a module `site` of its own"
    sys.path.insert(0, str(tools))
    spec = importlib.util.spec_from_file_location('website', tools/'site.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(tools))


def notebook(title, *cells):
    "A notebook as nbdev leaves it"
    cells = [SimpleNamespace(directives_={}, outputs=[], **c) for c in cells]
    return SimpleNamespace(cells=cells, frontmatter_={'title': title, 'output-file': f'{title.lower()}.html'})


def markdown(source): return dict(cell_type='markdown', source=source)


def test_dead_links_and_what_is_loaded_from_elsewhere_are_found(site, tmp_path):
    (tmp_path/'sub').mkdir()
    (tmp_path/'index.html').write_text('<h1 id="top">a</h1><a href="sub/b.html#here">b</a><a href="#top">top</a><img src="p%20q.png">'
                                       '<a href="https://example.org">not ours</a><a href="sub/b.html#there">no place</a>')
    (tmp_path/'sub'/'b.html').write_text('<p id="here"><a href="../index.html">back</a><a href="c.html">gone</a>'
                                         '<script src="https://example.org/x.js"></script><link rel="stylesheet" href="x.css">')
    (tmp_path/'p q.png').write_bytes(b'')
    assert site.link_faults(tmp_path) == [
        'index.html links to sub/b.html#there, and that page has no such place',
        'sub/b.html loads https://example.org/x.js',
        'sub/b.html links to c.html, which does not exist',
        'sub/b.html links to x.css, which does not exist']


def test_links_of_a_page(site):
    host = site.host
    text = (f'[`A.run`]({host}a.html#a.run) [`A._x`]({host}a.html#a._x) [`_y`]({host}a.html#_y) [page](../00_a.ipynb#Place) '
            f'[out](https://example.org) ![](../images/label_groups.png) [log](../../CHANGELOG.md) `[x](y)`')
    pages = {'00_a.ipynb': site.Page('00_a.ipynb', notebook('A', markdown('### A { #a }\n\n### A.run { #a.run }'))),
             'tutorials/b.ipynb': site.Page('tutorials/b.ipynb', notebook('B', markdown(text)))}
    assert pages['00_a.ipynb'].anchors == {'a', 'a.run'}
    links = pages['tutorials/b.ipynb'].markdown(pages).splitlines()[-1]
    assert links == ('[`A.run`](../a.md#a.run) [`A._x`](../a.md#a) [`_y`](../a.md) [page](../a.md#Place) [out](https://example.org) '
                     f'![](../images/label_groups.png) [log]({site.config.git_url}/blob/main/CHANGELOG.md) `[x](y)`')
    lost = site.Page('b.ipynb', notebook('B', markdown('[x](nowhere.md)')))
    with pytest.raises(FileNotFoundError, match='nbs/b.ipynb links to nowhere.md'): lost.markdown(pages)


def test_cells_are_shown_as_their_directives_say(site):
    out = SimpleNamespace(output_type='stream', text=['shown\n'])
    def shown(source): return site.Page('a.ipynb', SimpleNamespace(frontmatter_={'title': 'A', 'output-file': 'a.html'}, cells=[
        SimpleNamespace(cell_type='code', source=source, directives_={}, outputs=[out])])).text
    code, output = '``` { .python }\nx\n```', '``` { .text .output }\nshown\n```'
    assert shown('x') == f'{code}\n\n{output}'
    assert shown('#| echo: false\nx') == output
    assert shown('#| output: false\nx') == code
    assert shown('#| include: false\nx') == ''
    assert shown('#| code-fold: true\nx').startswith('<details markdown><summary>Code</summary>')


@pytest.fixture(scope='module')
def small_site(site, tmp_path_factory):
    "Two pages as nbdev and MkDocs make them, one with formulas and one with pictures"
    pytest.importorskip('material', reason="needs the extra 'site'")
    folder = tmp_path_factory.mktemp('site')
    site.build(site.process(['index.ipynb', '011_labels.ipynb', '300_sharing.ipynb', '305_similarity.ipynb']), folder)
    return folder


def test_symbols_formulas_and_pictures(site, small_site):
    assert site.link_faults(small_site) == []
    labels = (small_site/'labels.html').read_text(encoding='utf-8')
    assert labels.index('id="labelspace.encode"') < labels.index('id="labelspace.task_of"') < labels.index('id="labelspace.decode"')
    assert 'default_exp' not in labels and 'nbdev_export' not in labels
    assert '<th><strong>Details</strong></th>' in labels and 'class="subtitle"' in labels
    sharing = (small_site/'sharing.html').read_text(encoding='utf-8')
    assert '<math' in sharing and '\\sum' not in sharing and 'sys.path' not in sharing
    assert (small_site/'similarity_0.png').read_bytes()[:4] == b'\x89PNG'


@pytest.fixture(scope='module')
def browser():
    api = pytest.importorskip('playwright.sync_api', reason="needs the extra 'site'")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None: pytest.skip('needs a Chromium')
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=['--no-sandbox'])
        yield browser
        browser.close()


@contextmanager
def served(folder):
    "The address of a folder's pages: a search index can't be read from files"
    handler = type('Quiet', (http.server.SimpleHTTPRequestHandler,), {'log_message': lambda *args: None})
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try: yield f'http://127.0.0.1:{server.server_port}/'
        finally: server.shutdown()


def looked_at(browser, folder, widths=(390, 1280)):
    "What a browser finds wrong with the pages of a folder: errors on the console, pages wider than the window"
    faults = []
    with served(folder) as address:
        for width in widths:
            page = browser.new_page(viewport=dict(width=width, height=900), color_scheme='dark' if width < 1000 else 'light')
            page.set_default_timeout(120_000)
            page.on('console', lambda m: faults.append(f'{page.url}: {m.text}') if m.type in ('error', 'warning') else None)
            page.on('pageerror', lambda e: faults.append(f'{page.url}: {e}'))
            for path in sorted(folder.rglob('*.html')):
                if path.name == '404.html': continue
                page.goto(address + path.relative_to(folder).as_posix(), wait_until='load')
                wide = page.evaluate('document.documentElement.scrollWidth')
                if wide > width: faults.append(f'{path.name} is {wide} pixels wide in a window of {width}')
            page.close()
    return faults


def test_in_a_browser(browser, small_site):
    assert looked_at(browser, small_site) == []
    with served(small_site) as address, browser.new_page() as page:
        page.set_default_timeout(120_000)
        page.goto(address + 'index.html')
        search = page.locator('[data-md-component=search-query]')
        search.click()
        search.press_sequentially('consecutively')
        page.locator('.md-search-result__item a[href*="labels.html"]').first.wait_for()


def test_page_of_a_run(browser, tmp_path):
    import matplotlib.pyplot as plt
    from tsai_mtcs.cli_page import write_page
    (tmp_path/'sites.csv').write_text('site,alone,shared,harmonised\na site with quite a long name for a phone,0.9,1.0,\n')
    groups = ''.join(f'{i},a site with quite a long name {k},{"label" * 12}\n' for i in range(3) for k in range(4))
    (tmp_path/'label_groups.csv').write_text('group,task,label\n' + groups)
    fig, _ = plt.subplots(figsize=(12, 4))
    fig.savefig(tmp_path/'training.png')
    plt.close(fig)
    write_page(tmp_path)
    assert looked_at(browser, tmp_path) == []


@pytest.mark.slow
def test_the_whole_site(site, browser, tmp_path):
    pytest.importorskip('material', reason="needs the extra 'site'")
    site.build(site.process(), tmp_path)
    assert site.link_faults(tmp_path) == []
    assert looked_at(browser, tmp_path) == []
