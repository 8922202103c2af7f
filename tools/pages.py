"Notebooks as nbdev prepares them for a site, and as Markdown with links between the pages"
import base64, gc, os, posixpath, re, sys
from itertools import groupby

import yaml
from docs import clean_output, nbs, split_directives
from execnb.nbio import read_nb
from nbdev.config import get_config
from nbdev.process import Processor
from nbdev.processors import FilterDefaults, add_show_docs

config = get_config()
config['renderer'] = 'symbols.SymbolPage'  # by which nbdev's show_doc shows a symbol
host = f'{config.doc_host}{config.doc_baseurl}/'
elsewhere = re.compile(r'[a-z][a-z0-9+.-]*:|/', re.I)
# Code comes first, so that what looks like a link inside it is left alone.
code_or_link = re.compile(r'```.*?```|`[^`\n]*`|(?P<open>\]\(|\b(?:src|href)=")(?P<path>[^)\s"#]*)(?P<anchor>#[^)\s"]*)?', re.S)
anchor_of_symbol = re.compile(r'\{ #(\S+) \}$', re.M)


class in_order(Processor):
    "The symbols of a cell in the order in which the cell defines them; nbdev turns it around"
    def begin(self):
        runs = [list(cells) for _, cells in groupby(self.nb.cells, key=lambda c: bool(c.get('has_sd')))]
        self.nb.cells = [c for run in runs for c in (reversed(run) if run[0].get('has_sd') else run)]


class PageFilter(FilterDefaults):
    def base_procs(self):
        procs = super().base_procs()
        after = procs.index(add_show_docs) + 1
        return procs[:after] + [in_order] + procs[after:]


def sections():
    "Pairs of a section's title and its notebooks, from nbs/sidebar.yml"
    contents = yaml.safe_load((nbs/'sidebar.yml').read_text(encoding='utf-8'))['website']['sidebar']['contents']
    return [(o['section'], o['contents']) for o in contents]


def process(names=None):
    "Notebooks, all of them for `None`, as nbdev prepares them for a site, as {path in nbs: notebook}; the faults are printed"
    os.environ |= {'IN_TEST': '1', 'MPLBACKEND': 'agg'}  # as nbdev's own command: no cell exports the library again
    done, failed = {}, 0
    for name in names or [name for _, contents in sections() for name in contents]:
        try: PageFilter()(nb := read_nb(nbs/name))
        except Exception as e:
            failed += 1
            print(f'nbs/{name}: {e}\nnbdev runs the cells that export or import, and no others: '
                  f'let a cell that imports do nothing else. It found {e.__cause__!r}.', file=sys.stderr)
        else: done[name] = nb
    gc.freeze()  # each notebook's shell collects garbage when Python exits, and all that lives now would be looked through every time
    if failed: sys.exit(f'nbdev could not process {failed} of the notebooks.')
    return done


def joined(text): return text if isinstance(text, str) else ''.join(text)


def fenced(text, kind):
    ticks = '`' * max(3, *(len(t) + 1 for t in re.findall('`+', text)), 3)
    return f'{ticks} {{ {kind} }}\n{text.rstrip()}\n{ticks}'


class Page:
    "A processed notebook as Markdown"
    def __init__(self, name, nb):
        self.name, self.nb, self.pictures = name, nb, {}
        self.title, self.subtitle = nb.frontmatter_['title'], nb.frontmatter_.get('description', '')
        self.path = posixpath.join(posixpath.dirname(name), nb.frontmatter_['output-file']).replace('.html', '.md')
        self.text = '\n\n'.join(filter(None, map(self.cell, nb.cells)))
        self.anchors = set(anchor_of_symbol.findall(self.text))

    def cell(self, cell):
        if cell.cell_type == 'markdown': return cell.source
        if cell.cell_type != 'code': return ''
        found, source = split_directives(cell.source)
        if found.get('include') == 'false': return ''
        shown = [] if found.get('output') == 'false' else [self.output(o) for o in cell.outputs]
        if source and found.get('echo') != 'false' and 'hide_input' not in cell.directives_:
            code = fenced(source, '.python')
            if found.get('code-fold') == 'true': code = '<details markdown><summary>Code</summary>\n\n' + code + '\n\n</details>'
            shown = [code, *shown]
        return '\n\n'.join(filter(None, shown))

    def output(self, output):
        if output.output_type == 'stream': return fenced(joined(output.text), '.text .output')
        data = {kind: joined(content) for kind, content in output.get('data', {}).items()}
        if 'text/markdown' in data: return data['text/markdown']
        if 'text/html' in data:
            output = clean_output({'data': data})
            # Material makes the tables that have no class scroll.
            return re.sub(r'<table border="1" class="dataframe">', '<table>', output['data']['text/html']) if output else ''
        if 'image/png' in data:
            picture = f'{posixpath.basename(self.path)[:-3]}_{len(self.pictures)}.png'
            self.pictures[posixpath.join(posixpath.dirname(self.path), picture)] = base64.b64decode(data['image/png'])
            return f'![What the code above draws]({picture})'
        return fenced(data['text/plain'], '.text .output') if 'text/plain' in data else ''

    def markdown(self, pages):
        "The text with its links: between `pages`, to pictures, and to files of the repository"
        here = posixpath.dirname(self.path) or '.'
        by_path = {p.path: p for p in pages.values()}
        def link(match):
            path, anchor = match['path'], match['anchor'] or ''
            if not path or (elsewhere.match(path) and not path.startswith(host)): return match[0]
            if posixpath.normpath(posixpath.join(here, path)) in self.pictures: return match[0]
            file = posixpath.normpath(posixpath.join(posixpath.dirname(self.name), path))
            if path.startswith(host):  # from nbdev's index, which knows methods and private names that no page shows
                page, symbol = by_path.get(path.removeprefix(host).replace('.html', '.md')), anchor[1:]
                if page is None: return match[0]
                while symbol and symbol not in page.anchors: symbol = symbol.rpartition('.')[0]
                path, anchor = page.path, symbol and f'#{symbol}'
            elif file in pages: path = pages[file].path
            elif file.startswith('images/'): path = file
            else:
                if not (nbs/file).exists(): raise FileNotFoundError(f'nbs/{self.name} links to {path}, which does not exist')
                return f"{match['open']}{config.git_url}/blob/{config.branch}/{posixpath.normpath('nbs/' + file)}{anchor}"
            return f"{match['open']}{posixpath.relpath(path, here)}{anchor}"
        head = yaml.safe_dump({'title': self.title, 'description': self.subtitle}, allow_unicode=True, width=1000)
        subtitle = f'{self.subtitle}\n{{ .subtitle }}\n\n' if self.subtitle else ''
        return f'---\n{head}---\n\n# {self.title}\n\n{subtitle}{code_or_link.sub(link, self.text)}\n'
