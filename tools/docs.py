"""Write README.md from nbs/index.ipynb, check that nbs/sidebar.yml lists every notebook and that none keeps a warning.

Needs no quarto. With `--check` nothing is written: the exit status tells whether all is in step.
"""
import argparse, posixpath, re, shutil, sys
from pathlib import Path

import nbformat, yaml
from nbconvert import MarkdownExporter

root = Path(__file__).resolve().parents[1]
nbs, images = root/'nbs', 'README_files'
directive = re.compile(r'^\s*#\s*\|\s*(?P<name>[\w-]+)\s*:?\s*(?P<value>.*)$')
# Code comes first, so that what looks like a link inside it is left alone.
code_or_link = re.compile(r'```.*?```|`[^`\n]*`|(?P<open>\]\(|\b(?:src|href)=")(?P<path>[^)\s"#]+)', re.S)


def split_directives(source):
    "The directives of a cell, such as {'hide': '', 'echo': 'false'}, and its source without them"
    lines = source.splitlines()
    found = {m['name']: m['value'].strip().lower() for m in map(directive.match, lines) if m}
    return found, '\n'.join(l for l in lines if not directive.match(l)).strip('\n')


def from_root(match):
    "A link relative to nbs/, made relative to the folder of README.md"
    path = match['path']
    if path is None or re.match(r'[a-z][a-z0-9+.-]*:|/', path, re.I): return match[0]
    path = posixpath.normpath(posixpath.join('nbs', path))
    if not (root/path).exists(): sys.exit(f'nbs/index.ipynb links to {path}, which does not exist: correct the link.')
    return match['open'] + path


def clean_output(output):
    "`output` without style sheets, which GitHub does not apply; None where nothing is left to see, as of a progress bar"
    data = output.get('data', {})
    if 'text/html' not in data: return output
    data['text/html'] = re.sub(r'<style.*?</style>\s*', '', data['text/html'], flags=re.S).strip()
    return output if data['text/html'] else None


def shown(cell):
    "`cell` as the README shows it; None where it is hidden"
    if cell.cell_type == 'markdown': cell.source = code_or_link.sub(from_root, cell.source)
    if cell.cell_type != 'code': return cell if cell.cell_type == 'markdown' else None
    found, cell.source = split_directives(cell.source)
    if {'hide', 'export', 'exporti', 'default_exp'} & set(found) or found.get('include') == 'false': return None
    if found.get('output') == 'false': cell.outputs = []
    cell.outputs = [o for o in map(clean_output, cell.outputs) if o]
    if found.get('echo') == 'false': cell.metadata['transient'] = {'remove_source': True}
    return cell if cell.source or cell.outputs else None


def squeeze(text):
    "`text` with at most one blank line in a row, except in fenced code"
    parts = re.split(r'(```.*?```)', text, flags=re.S)
    return ''.join(p if p.startswith('```') else re.sub(r'\n(?:[ \t]*\n)+', '\n\n', p) for p in parts)


def render():
    "README.md and its pictures as {path: bytes}"
    nb = nbformat.read(nbs/'index.ipynb', as_version=4)
    nb.cells = [c for c in map(shown, nb.cells) if c]
    nb.metadata['language_info'] = {'name': 'python'}  # nbdev_clean drops it; the fences need it
    text, resources = MarkdownExporter().from_notebook_node(nb, {'unique_key': 'README', 'output_files_dir': images})
    return {'README.md': (squeeze(text).strip() + '\n').encode(), **resources['outputs']}


def stale(files):
    "Paths that differ from `files`, are missing, or are pictures no longer shown"
    have = {'README.md', *(p.relative_to(root).as_posix() for p in (root/images).rglob('*') if p.is_file())}
    return sorted(p for p in have | set(files)
                  if p not in files or not (root/p).exists() or (root/p).read_bytes() != files[p])


def write(files):
    shutil.rmtree(root/images, ignore_errors=True)
    for path, content in files.items():
        (root/path).parent.mkdir(exist_ok=True)
        (root/path).write_bytes(content)


def notebooks(node):
    "Every notebook named in a part of sidebar.yml, in its order"
    if isinstance(node, dict): node = list(node.values())
    if isinstance(node, list): return [nb for o in node for nb in notebooks(o)]
    return [node] if isinstance(node, str) and node.endswith('.ipynb') else []


def sidebar_faults():
    "What nbs/sidebar.yml lists wrongly or not at all"
    listed = notebooks(yaml.safe_load((nbs/'sidebar.yml').read_text(encoding='utf-8')))
    have = (p.relative_to(nbs) for p in nbs.rglob('*.ipynb'))
    have = {p.as_posix() for p in have if not any(part[0] in '._' for part in p.parts)}
    numbers = [p.split('_')[0] for p in listed if p[0].isdigit()]
    return [f'nbs/sidebar.yml does not list {p}: add it.' for p in sorted(have - set(listed))] + \
           [f'nbs/sidebar.yml lists {p}, which does not exist: remove it.' for p in sorted(set(listed) - have)] + \
           [f'nbs/sidebar.yml has {b} after {a}: number notebooks in its order.' for a, b in zip(numbers, numbers[1:]) if b <= a]


def warning_faults():
    "Notebooks that keep what was written to stderr: it holds paths of the machine they ran on"
    found = (p for p in sorted(nbs.rglob('*.ipynb'))
             if any(o.get('name') == 'stderr' for c in nbformat.read(p, as_version=4).cells for o in c.get('outputs', ())))
    return [f'{p.relative_to(root)} keeps a warning in its outputs: hide the warning or clear that output.' for p in found]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--check', action='store_true', help='write nothing, only tell what is out of step')
    args = parser.parse_args()
    if not (nbs/'index.ipynb').exists(): sys.exit('nbs/index.ipynb, the source of README.md, does not exist.')
    faults, files = sidebar_faults() + warning_faults(), render()
    if args.check: faults += [f'{p} is out of step with nbs/index.ipynb: run `make docs`.' for p in stale(files)]
    else: write(files)
    if faults: sys.exit('\n'.join(faults))


if __name__ == '__main__': main()
